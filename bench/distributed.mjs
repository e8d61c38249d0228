// Runs of two processes with a thread each, beside one process with two: what they learn, images a second, bytes a step; and layers that
// train at once, in one process and in two.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensors } from '../dist/nn/index.js';
import { pairedRatio, summarize } from './statistics.mjs';

/** @import { RunRequest } from './distributed-run.mjs' */
/** @import { Bar, Range } from './statistics.mjs' */

/**
 * @typedef {{ layer: number, seconds: number, images: number, bytes: number }} LayerTime
 * @typedef {object} Measured
 * @property {LayerTime[]} layers
 * @property {number[]} losses
 * @property {{ layer: number, block: number, head: number }[]} parameters
 */

const SEED = 1;
const NETWORKS = [
  { name: 'SimCNN k = 1', preset: 'simcnn-k1', model: { width: 64, auxWidth: 64 } },
  { name: 'SimCNN k = 3', preset: 'simcnn-k3', model: { width: 64, auxWidth: 64 } },
  { name: 'VGG-11', preset: 'vgg11-layerwise', model: { width: 32 } },
];
const BATCH = 128;
/** Of VGG-11 once more: its later layers have much to sum for few operations. */
const LARGE_BATCH = 512;
const STEPS = 20;

/**
 * Runs a request in so many processes; gives what rank 0 measured.
 * @param {Omit<RunRequest, 'group'>} request
 * @param {number} processes
 * @param {object} [how]
 * @returns {Promise<Measured>}
 */
async function run(request, processes, how = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-bench-'));
  try {
    const ranks = Array.from({ length: processes }, (_, rank) => {
      const group = { rank, worldSize: processes, store: { file: join(folder, 'store') }, timeoutMs: 120_000, ...how };
      const RUN = JSON.stringify({ ...request, ...(processes === 1 ? {} : { group }) });
      const child = spawn(process.execPath, [new URL('./distributed-run.mjs', import.meta.url).pathname], {
        env: { ...process.env, RUN },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let printed = '';
      child.stdout.setEncoding('utf8').on('data', (text) => (printed += text));
      return once(child, 'close').then(([code]) => {
        if (code !== 0) throw new Error(`rank ${rank} of ${processes} ended with ${code}`);
        return printed;
      });
    });
    const [first] = await Promise.all(ranks);
    return JSON.parse(first ?? '');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {object} training
 * @param {number} threads
 * @param {number} [batch]
 */
const changesOf = (training, threads, batch = BATCH) => ({
  dataset: { trainLimit: batch * STEPS, testLimit: 100 },
  training: { epochs: 1, batchSize: batch, milestones: [], ...training },
  ...{ device: 'cpu', threads, seed: SEED },
});

/**
 * @param {{ rounds: number, results: object[], bar: (name: string, measured: Range, wanted: Bar) => void }} options
 */
export async function benchDistributed(options) {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-bench-runs-'));
  try {
    await benchEquality(folder, options);
    for (const network of NETWORKS) await benchShares(folder, { ...network, batch: BATCH }, options);
    for (const network of NETWORKS.slice(-1)) await benchShares(folder, { ...network, batch: LARGE_BATCH }, options);
    await benchLayers(folder, options);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The first 20 steps of a layer, in fp32 at a rate of 0.001: at 0.01 a difference of 1e-7 in the rate alone grows beyond 1e-5 in
 * one process, too.
 * @param {string} folder
 * @param {{ results: object[] }} options
 */
async function benchEquality(folder, { results }) {
  console.log('distributed: two processes beside one, over 20 steps of the first layer (fp32, rate 0.001)\n');
  console.log('| network | batch norm | largest difference of a loss | of weights and statistics |\n|---|---|---|---|');
  for (const { name, preset, model } of NETWORKS) {
    const layers = preset.startsWith('vgg') ? { layers: 1 } : { layers: 1, downsampleAt: [] };
    const training = { learningRate: 0.001, syncBatchNorm: 'on' };
    const changes = { ...changesOf(training, 1), precision: 'fp32', model: { ...model, ...layers } };
    const [one, two] = ['one', 'two'].map((count) => join(folder, `${preset}-${count}`));
    const alone = await run({ preset, changes, out: one ?? '' }, 1);
    const together = await run({ preset, changes, out: two ?? '' }, 2);
    const ofLosses = Math.max(...alone.losses.map((loss, i) => Math.abs(loss - (together.losses[i] ?? Number.NaN))));
    const ofWeights = await weightDistance(one ?? '', two ?? '');
    results.push({ name: `distributed: equality of ${preset}`, ofLosses, ofWeights });
    const norm = preset === 'simcnn-k1' ? 'none' : 'synchronised';
    console.log(`| ${name} | ${norm} | ${ofLosses.toExponential(1)} | ${ofWeights.toExponential(1)} |`);
  }
  console.log();
}

/**
 * @param {string} one
 * @param {string} two
 */
async function weightDistance(one, two) {
  let most = 0;
  for (const file of ['model.safetensors', 'auxiliary-heads.safetensors']) {
    if (!existsSync(join(one, file))) continue;
    const [ours, theirs] = [await readSafetensors(join(one, file)), await readSafetensors(join(two, file))];
    for (const [name, tensor] of ours.tensors) {
      const [a, b] = [tensor, theirs.tensors.get(name)].map((x) => x?.to({ dtype: 'float64' }).toTypedArray());
      a?.forEach((value, i) => {
        most = Math.max(most, Math.abs(Number(value) - Number(b?.[i])));
      });
    }
  }
  return most;
}

/** @param {Measured} measured */
const rateOf = ({ layers }) =>
  layers.reduce((sum, { images }) => sum + images, 0) / layers.reduce((sum, { seconds }) => sum + seconds, 0);

/** @param {number} bytes */
const kib = (bytes) => Math.round(bytes / 1024).toLocaleString('en-US');

/**
 * @param {string} folder
 * @param {typeof NETWORKS[number] & { batch: number }} network
 * @param {{ rounds: number, results: object[], bar: (name: string, measured: Range, wanted: Bar) => void }} options
 */
async function benchShares(folder, { name, preset, model, batch }, { rounds, results, bar }) {
  /** @type {Measured[]} */
  const alone = [];
  /** @type {Measured[]} */
  const together = [];
  let number = 0;
  for (let round = 0; round < rounds; round++) {
    const out = () => join(folder, `${preset}-${batch}-${number++}`);
    alone.push(await run({ preset, changes: { ...changesOf({}, 2, batch), model }, out: out() }, 1));
    together.push(await run({ preset, changes: { ...changesOf({}, 1, batch), model }, out: out() }, 2));
  }
  const ratio = pairedRatio(together.map(rateOf), alone.map(rateOf));
  results.push({ name: `distributed: shares of ${preset}, batches of ${batch}`, alone, together, ratio });
  const first = together[0];
  if (first === undefined) throw new Error('expected a round at least');
  const whole = first.parameters.reduce((sum, { block }) => sum + block, 0) + (first.parameters.at(-1)?.head ?? 0);
  console.log(
    `distributed: ${name}, batches of ${batch}: images a second, and KiB that each of two processes sends in a step\n`,
  );
  console.log(
    '| layer | 1 x 2 threads | 2 x 1 thread | ratio | gradients | sent | end to end |\n|---|---|---|---|---|---|---|',
  );
  for (const [i, { layer }] of first.layers.entries()) {
    const rates = (/** @type {Measured[]} */ all) =>
      all.map(({ layers }) => batch / (layers[i]?.seconds ?? Number.NaN));
    const own = summarize(rates(alone));
    const shared = summarize(rates(together));
    const { block = 0, head = 0 } = first.parameters[i] ?? {};
    // Both send as much, over one interface.
    const sent = summarize(together.map(({ layers }) => (layers[i]?.bytes ?? Number.NaN) / 2)).median;
    const ofLayer = pairedRatio(rates(together), rates(alone)).median.toFixed(2);
    console.log(
      `| ${layer + 1} | ${Math.round(own.median)} | ${Math.round(shared.median)} | ${ofLayer} ` +
        `| ${kib(4 * (block + head))} | ${kib(sent)} | ${kib(4 * whole)} |`,
    );
  }
  console.log();
  bar(`distributed: images a second of ${preset} in batches of ${batch}, 2 x 1 thread over 1 x 2 threads`, ratio, {
    least: 0.85,
  });
}

/**
 * @param {string} folder
 * @param {{ rounds: number, results: object[] }} options
 */
async function benchLayers(folder, { rounds, results }) {
  console.log(
    'distributed: layers that train at once: images a second in one process with two threads, and in two with one\n',
  );
  console.log('| network | one process | a share of the batch each | some of the layers each |\n|---|---|---|---|');
  let number = 0;
  for (const { name, preset, model } of NETWORKS) {
    const training = { schedule: 'simultaneous' };
    /** @type {[number[], number[], number[]]} */
    const rates = [[], [], []];
    for (let round = 0; round < rounds; round++) {
      const out = () => join(folder, `${preset}-at-once-${number++}`);
      const one = { ...changesOf(training, 2), model };
      const two = { ...changesOf(training, 1), model };
      rates[0].push(rateOf(await run({ preset, changes: one, out: out() }, 1)));
      rates[1].push(rateOf(await run({ preset, changes: two, out: out() }, 2)));
      rates[2].push(rateOf(await run({ preset, changes: two, out: out() }, 2, { parallel: 'layers' })));
    }
    results.push({ name: `distributed: layers of ${preset}`, rates });
    const [one, shares, layers] = rates.map((all) => Math.round(summarize(all).median));
    console.log(`| ${name} | ${one} | ${shares} | ${layers} |`);
  }
  console.log();
}
