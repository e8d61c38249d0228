// Indices of prepared data, damaged as hands do it, or byte by byte; what index.json says of the damaged one goes with it.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataError } from '../../lib/data/errors.js';
import { type ImageFiles, loadDataset } from '../../lib/data/index.js';
import { prepareImages } from '../../lib/data/prepare-images.js';
import { gradient, save } from '../data/images.js';
import { sha256 } from '../data/shards.js';
import { Choices } from './choices.js';
import { mutation } from './format.js';
import type { Case, Fuzzed } from './fuzzed.js';
import { mutateJson } from './mutations.js';

type Files = ReadonlyMap<string, Buffer>;

const NAMES = ['index.json', 'train-000000.json', 'train-000001.json', 'train-000000.tar', 'train-000001.tar'];

async function goodFiles(): Promise<Files> {
  const folder = await mkdtemp(join(tmpdir(), 'layerwise-fuzz-'));
  try {
    for (const [i, path] of ['train/a/1', 'train/a/2', 'train/b/1', 'train/b/2', 'val/a/1', 'val/b/1'].entries()) {
      await save(folder, `from/${path}.jpg`, gradient(20, 16, { blue: i }).jpeg());
    }
    await prepareImages({ from: join(folder, 'from'), to: join(folder, 'to'), shardImages: 2 });
    const names = [...NAMES, 'test-000000.json', 'test-000000.tar'];
    return new Map(
      await Promise.all(names.map(async (name) => [name, await readFile(join(folder, 'to', name))] as const)),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Throws where an image lies outside of its archive, or is of no class. */
function requireWithin(part: ImageFiles, classes: number): void {
  for (let i = 0; i < part.count; i++) {
    const { shards, shardOf, offsets, lengths } = part.packed!;
    const end = offsets[i]! + lengths[i]!;
    const isWithin = offsets[i]! >= 512 && lengths[i]! >= 1 && end <= shards[shardOf[i]!]!.bytes;
    const isNamed = !/[/\0]/.test(part.names[i]!) && part.labels[i]! < classes;
    if (!isWithin || !isNamed) throw new Error(`image ${i} was taken`);
  }
}

let good: Promise<Files> | undefined;

export const shardIndex: Fuzzed = {
  name: 'shard-index',
  async runCase(position: Case) {
    good ??= goodFiles();
    const choices = new Choices(position);
    const files = new Map(await good);
    const name = choices.of(NAMES.slice(0, 3));
    const text = files.get(name)!;
    files.set(
      name,
      choices.below(2) === 0 ? Buffer.from(mutateJson(String(text), choices)) : Buffer.from(mutation([text], position)),
    );
    if (name !== 'index.json') {
      const set = JSON.parse(String(files.get('index.json')));
      set.train.shards[name === 'train-000000.json' ? 0 : 1].indexSha256 = sha256(files.get(name)!);
      files.set('index.json', Buffer.from(JSON.stringify(set)));
    }
    const folder = await mkdtemp(join(tmpdir(), 'layerwise-fuzz-'));
    try {
      for (const [file, bytes] of files) await writeFile(join(folder, file), bytes);
      const { train, test, classes } = await loadDataset({ name: 'imagenet', dataDir: folder });
      for (const part of [train, test]) requireWithin(part, classes.length);
    } catch (error) {
      if (!(error instanceof DataError) || !error.message.includes(folder)) throw error;
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};
