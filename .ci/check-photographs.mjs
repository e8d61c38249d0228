// node .ci/check-photographs.mjs PHOTOGRAPHS FOLDER: photographs of ImageNet, a folder for each class, are trained on as files and as
// shards, and the shards are those of a second preparation to the bit.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';

const [photographs, folder] = process.argv.slice(2);
if (photographs === undefined || folder === undefined) throw new Error('expected PHOTOGRAPHS and FOLDER');
const main = join(import.meta.dirname, '..', 'dist', 'cli', 'main.js');
/** @param {string} name */
const at = (name) => join(folder, name);
/** @param {readonly string[]} args */
const layerwise = (...args) =>
  execFileSync(process.execPath, [main, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });

rmSync(folder, { recursive: true, force: true });
const classes = readdirSync(photographs).slice(0, 120);
for (const part of ['train', 'val']) {
  mkdirSync(join(at('files'), part), { recursive: true });
  for (const name of classes) symlinkSync(resolve(photographs, name), join(at('files'), part, name));
}
for (const name of ['shards', 'again']) {
  layerwise('data', 'prepare', '--from', at('files'), '--to', at(name), '--shard-images', '50');
}
const digests = ['shards', 'again'].map((name) =>
  readdirSync(at(name)).map((file) =>
    createHash('sha256')
      .update(readFileSync(join(at(name), file)))
      .digest('hex'),
  ),
);
if (JSON.stringify(digests[0]) !== JSON.stringify(digests[1])) throw new Error('expected the same shards twice');
layerwise('data', 'check', '--dataset', 'imagenet', '--data-dir', at('shards'));
const train = ['train', '--preset', 'vgg11-layerwise', '--dataset', 'imagenet', '--width', '8', '--layers', '2'];
for (const name of ['files', 'shards']) {
  layerwise(...train, '--epochs', '1', '--batch-size', '32', '--data-dir', at(name), '--out', at(`run-${name}`));
}
/** @param {string} name */
const classesOf = (name) =>
  JSON.stringify(JSON.parse(readFileSync(join(at(`run-${name}`), 'config.json'), 'utf8')).classes);
if (classesOf('files') !== classesOf('shards')) throw new Error('expected the classes of the files');
