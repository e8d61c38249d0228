// Photographs as a run reads them, in random order: loose files and shards, as large as they came and made smaller, from disk, from its
// cache, and from a web server of this machine.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, parse } from 'node:path';
import { prepareImages } from '../dist/data/prepare-images.js';
import { pairedRatio, summarize } from './statistics.mjs';

/** @import { Passed } from './shards-run.mjs' */

/** Of each photograph: so many files that a pass over them is more than what a decoder has ahead. */
const COPIES = 20;
/** More pixels than a photograph has: none is made smaller. */
const WHOLE_SIDE = 4096;
/** Of the web server, in milliseconds. */
const DELAYS = [0, 5, 20];
const DROP_CACHES = '/proc/sys/vm/drop_caches';

/**
 * @typedef {object} Side
 * @property {string} name
 * @property {string} location
 * @property {boolean} isOnDisk
 */

/**
 * Prints a line for each kind of data, cold and warm, and adds to `results`.
 * @param {{ folder: string, rounds: number, results: object[] }} options
 */
export async function benchShards({ folder, rounds, results }) {
  const work = mkdtempSync(join(tmpdir(), 'layerwise-bench-'));
  /** @type {(() => void)[]} */
  const stops = [];
  try {
    const at = (/** @type {string} */ name) => join(work, name);
    const count = copyMany(folder, at('loose'));
    await prepareImages({ from: at('loose'), to: at('shards-whole'), side: WHOLE_SIDE });
    const { bytes } = await prepareImages({ from: at('loose'), to: at('shards-256') });
    unpack(at('shards-256'), at('loose-256'));
    console.log(
      `shards: ${count} training images, ${(bytes / count / 1000).toFixed(0)} kB on average where made smaller`,
    );
    /** @type {Side[]} */
    const sides = [
      { name: 'loose files', location: at('loose'), isOnDisk: true },
      { name: 'loose files, side 256', location: at('loose-256'), isOnDisk: true },
      { name: 'shards, as large as they came', location: at('shards-whole'), isOnDisk: true },
      { name: 'shards, side 256', location: at('shards-256'), isOnDisk: true },
    ];
    for (const delay of DELAYS) {
      const server = fork(new URL('./range-server.mjs', import.meta.url), [at('shards-256'), String(delay)]);
      stops.push(() => server.kill());
      const [port] = await once(server, 'message');
      const name = `shards, side 256, web server${delay === 0 ? '' : `, ${delay} ms`}`;
      sides.push({ name, location: `http://127.0.0.1:${port}`, isOnDisk: false });
    }
    await measure(sides, { rounds, results, stops });
  } finally {
    for (const stop of stops) stop();
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * Copies, and no links, so that each has blocks and an inode of its own. Gives the number of training images.
 * @param {string} folder
 * @param {string} to
 */
function copyMany(folder, to) {
  let count = 0;
  for (const name of readdirSync(folder)) {
    for (const part of ['train', 'val']) mkdirSync(join(to, part, name), { recursive: true });
    for (const file of readdirSync(join(folder, name))) {
      const { name: stem, ext } = parse(file);
      const from = join(folder, name, file);
      copyFileSync(from, join(to, 'val', name, file));
      for (let i = 0; i < COPIES; i++) copyFileSync(from, join(to, 'train', name, `${stem}-${i}${ext}`));
      count += COPIES;
    }
  }
  return count;
}

/**
 * The images of shards as loose files.
 * @param {string} shards
 * @param {string} to
 */
function unpack(shards, to) {
  const set = JSON.parse(readFileSync(join(shards, 'index.json'), 'utf8'));
  for (const [part, folder] of [
    ['train', 'train'],
    ['test', 'val'],
  ]) {
    for (const name of set.classes) mkdirSync(join(to, folder, name), { recursive: true });
    for (const { file } of set[part].shards) {
      const archive = readFileSync(join(shards, file));
      const { names, labels, offsets, lengths } = JSON.parse(
        readFileSync(join(shards, `${parse(file).name}.json`), 'utf8'),
      );
      for (const [i, name] of names.entries()) {
        const jpeg = archive.subarray(offsets[i], offsets[i] + lengths[i]);
        writeFileSync(join(to, folder, set.classes[labels[i]], name), jpeg);
      }
    }
  }
}

/**
 * @param {Side[]} sides
 * @param {{ rounds: number, results: object[], stops: (() => void)[] }} options
 */
async function measure(sides, { rounds, results, stops }) {
  const processes = [];
  for (const { location } of sides) {
    const child = fork(new URL('./shards-run.mjs', import.meta.url), [location]);
    stops.push(() => child.disconnect());
    await once(child, 'message');
    processes.push(child);
  }
  const canDrop = dropCaches();
  if (!canDrop) console.log(`shards: only from the cache, since ${DROP_CACHES} cannot be written here`);
  /** @type {Record<string, Passed[]>} */
  const passed = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [i, { name, isOnDisk }] of sides.entries()) {
      for (const state of isOnDisk ? ['warm', 'cold'] : ['warm']) {
        if (state === 'cold' && !dropCaches()) continue;
        // The pass before has filled the cache.
        const child = processes[i];
        if (state === 'warm' && isOnDisk && round > 0) await passIn(child, round);
        const one = await passIn(child, round);
        // The first of all is for the caches, and for what the compiler does.
        if (round === 0) continue;
        const key = `${name}, ${state}`;
        passed[key] = [...(passed[key] ?? []), one];
      }
    }
  }
  const rates = Object.fromEntries(Object.entries(passed).map(([name, all]) => [name, all.map(({ rate }) => rate)]));
  for (const [name, all] of Object.entries(passed)) {
    const state = name.endsWith('cold') ? 'cold' : 'warm';
    const ratio = pairedRatio(rates[name], rates[`loose files, ${state}`]);
    const { median, low, high } = summarize(rates[name]);
    const fromDisk = summarize(all.map(({ diskBytes }) => diskBytes)).median / 1000;
    results.push({ name: `shards: ${name}`, rates: rates[name], ofLoose: ratio, diskKilobytes: fromDisk });
    console.log(
      `${name.padEnd(44)} ${median.toFixed(0)}/s [${low.toFixed(0)}, ${high.toFixed(0)}], ${fromDisk.toFixed(1)} kB from the disk an image; ` +
        `of loose files' ${ratio.median.toFixed(2)} [${ratio.low.toFixed(2)}, ${ratio.high.toFixed(2)}]`,
    );
  }
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @param {number} epoch
 * @returns {Promise<Passed>}
 */
async function passIn(child, epoch) {
  child.send(epoch);
  const [passed] = await once(child, 'message');
  return passed;
}

/** Empties the system's cache of files, and of folders and inodes; false where that is not allowed. */
function dropCaches() {
  try {
    writeFileSync(DROP_CACHES, '3');
    return true;
  } catch {
    return false;
  }
}
