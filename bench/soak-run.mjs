// Many short jobs through one queue, in a process of their own that bench/soak.mjs starts: `soak-run.mjs JOBS CONCURRENCY`. Its
// one message has a sample of the process for each pause between jobs, and how many results have other bits than a run alone.
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { JobQueue, overrideRecipe, presetRecipe, releaseFreedMemory, train } from '../dist/index.js';

/**
 * The process between jobs: resident bytes, threads, open files, and what keeps the event loop or listens.
 * @typedef {{ residentBytes: number, threads: number, files: number, resources: string[], listeners: number }} Sample
 *
 * @typedef {{ jobs: number, concurrency: number, samples: Sample[], otherBits: number }} Soaked
 */

/** Short: two layers of two epochs of some steps. */
function soakRecipe() {
  return overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false }), {
    model: { width: 8, layers: 2 },
    dataset: { trainLimit: 128, testLimit: 32 },
    training: { epochs: 2, batchSize: 32, milestones: [1] },
    evaluation: { batchSize: 32 },
    ...{ device: 'cpu', precision: 'fp32' },
  });
}

/**
 * A digest of what a run has left, but for its times.
 * @param {string} run
 */
function digestOf(run) {
  const hash = createHash('sha256');
  for (const name of ['model.safetensors', 'auxiliary-heads.safetensors']) hash.update(readFileSync(join(run, name)));
  for (const line of readFileSync(join(run, 'metrics.jsonl'), 'utf8').trimEnd().split('\n')) {
    const { seconds: _, imagesPerSecond: __, ...figures } = JSON.parse(line);
    hash.update(JSON.stringify(figures));
  }
  return hash.digest('hex');
}

/**
 * Resident bytes, the least of some looks: what threads that have just ended let go of, V8 and the C library give back a little later.
 */
async function residentBytes() {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 5; look++) {
    await sleep(20);
    globalThis.gc?.();
    releaseFreedMemory();
    const [, kibibytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    least = Math.min(least, 1024 * Number(kibibytes));
  }
  return least;
}

/** @returns {Promise<Sample>} */
const sample = async () => ({
  residentBytes: await residentBytes(),
  threads: readdirSync('/proc/self/task').length,
  files: readdirSync('/proc/self/fd').length,
  resources: process.getActiveResourcesInfo().sort(),
  listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
});

/**
 * @param {{ jobs: number, concurrency: number }} request
 * @returns {Promise<Soaked>}
 */
async function soak({ jobs, concurrency }) {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-soak-'));
  const recipe = soakRecipe();
  const queue = new JobQueue({ concurrency, threads: Math.max(2, concurrency) });
  const threads = Math.floor(Math.max(2, concurrency) / concurrency);
  try {
    await train({ recipe: { ...recipe, threads }, out: join(folder, 'alone') });
    const alone = digestOf(join(folder, 'alone'));
    /** @type {Sample[]} */
    const samples = [];
    let otherBits = 0;
    for (let done = 0; done < jobs; done += concurrency) {
      const names = Array.from({ length: Math.min(concurrency, jobs - done) }, (_, i) =>
        join(folder, String(done + i)),
      );
      const queued = await Promise.all(names.map((out) => queue.add({ recipe, out })));
      await Promise.all(queued.map(({ outcome }) => outcome));
      otherBits += names.filter((name) => digestOf(name) !== alone).length;
      for (const name of names) rmSync(name, { recursive: true });
      samples.push(await sample());
    }
    await queue.close();
    return { jobs, concurrency, samples, otherBits };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const [jobs, concurrency] = process.argv.slice(2).map(Number);
process.send?.(await soak({ jobs, concurrency }));
process.disconnect?.();
