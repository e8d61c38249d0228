// Measures on this machine what docs/scale.md is checked with: `node bench/scale-run.mjs FILE`, some minutes. All-reduces of local
// processes; `layerwise train`, one thread a process: of two and four processes together, of one with the share of each, alone and beside
// others that do the same by themselves; and steps with hardly anything to compute. `npm run bench -- --cases scale --measured FILE` prints it beside what is predicted.
import { execFile, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { overrideRecipe, presetRecipe } from '../dist/recipe/index.js';
import { buildInfo, setThreads } from '../dist/tensor/index.js';
import { measureStepTimes } from '../dist/training/step-times.js';
import { usableProcessors } from '../scripts/support/limits.mjs';
import { summarize } from './statistics.mjs';

/** @import { AllReduce } from './all-reduce-run.mjs' */

/**
 * Images a second of each layer, by number of processes: of one process that has their share of a batch, alone; of the slowest of so many
 * that have it at the same time, each by itself; and of all together.
 * @typedef {Record<string, number[]>} Rates
 * @typedef {{ name: string, preset: string, width: number, alone: Rates, beside: Rates, together: Rates }} MeasuredNetwork
 *
 * All-reduces by number of processes. `hostSeconds`: of a step of each layer of a SimCNN k = 3 of two channels.
 * @typedef {object} Measured
 * @property {string} machine
 * @property {string} date
 * @property {string} libtorch
 * @property {string} node
 * @property {number} processors
 * @property {number} batch
 * @property {Record<string, AllReduce[]>} allReduce
 * @property {number[]} hostSeconds
 * @property {MeasuredNetwork[]} networks
 */

const BATCH = 128;
const PROCESSES = [2, 4];
const NETWORKS = [
  { name: 'SimCNN k = 1', preset: 'simcnn-k1', width: 32 },
  { name: 'VGG-11', preset: 'vgg11-layerwise', width: 32 },
];
/** Of an epoch. The fastest epoch of a layer counts, but for its first: what other programs take of the machine is not what is asked. */
const STEPS = 4;
const EPOCHS = 3;
const TEST_IMAGES = 64;

const file = process.argv[2];
if (file === undefined) {
  console.error('scale-run: expected a file to write, got none');
  process.exit(2);
}
const temporary = mkdtempSync(join(tmpdir(), 'layerwise-scale-'));
const program = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/**
 * @param {number} ranks
 * @returns {Promise<AllReduce[]>} of rank 0
 */
async function allReduces(ranks) {
  const path = fileURLToPath(new URL('./all-reduce-run.mjs', import.meta.url));
  const store = join(temporary, `store-${ranks}`);
  const measured = await Promise.all(
    Array.from(
      { length: ranks },
      (_, rank) =>
        new Promise((resolve, reject) => {
          const child = fork(path, [String(rank), String(ranks), store]);
          child.once('message', resolve);
          child.once('exit', (code) => reject(new Error(`rank ${rank} of ${ranks} ended with code ${code}`)));
        }),
    ),
  );
  return measured[0];
}

let runs = 0;

/**
 * Images a second of each layer.
 * @param {{ preset: string, width: number }} network
 * @param {{ batch: number, processes?: number }} options
 * @returns {Promise<number[]>}
 */
async function train({ preset, width }, { batch, processes }) {
  const out = join(temporary, `run-${runs++}`);
  const flags = {
    ...{ preset, dataset: 'shapes', width, out, epochs: EPOCHS, threads: 1 },
    ...{ 'batch-size': batch, 'train-limit': STEPS * batch, 'test-limit': TEST_IMAGES },
    ...(processes === undefined ? {} : { processes }),
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
  await promisify(execFile)(process.execPath, [program, 'train', ...args]);
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  /** @type {number[]} */
  const fastest = [];
  for (const line of lines) {
    /** @type {{ layer: number, epoch: number, imagesPerSecond: number }} */
    const { layer, epoch, imagesPerSecond } = JSON.parse(line);
    if (epoch > 0) fastest[layer] = Math.max(fastest[layer] ?? 0, imagesPerSecond);
  }
  return fastest;
}

/**
 * @param {typeof NETWORKS[number]} network
 * @returns {Promise<MeasuredNetwork>}
 */
async function ratesOf(network) {
  /** @type {MeasuredNetwork} */
  const rates = { ...network, alone: { 1: await train(network, { batch: BATCH }) }, beside: {}, together: {} };
  for (const processes of PROCESSES) {
    const batch = BATCH / processes;
    rates.alone[processes] = await train(network, { batch });
    const others = await Promise.all(Array.from({ length: processes }, () => train(network, { batch })));
    rates.beside[processes] = others[0].map((_, layer) => Math.min(...others.map((one) => one[layer])));
    rates.together[processes] = await train(network, { batch: BATCH, processes });
  }
  return rates;
}

/** Of a step of each layer, with hardly anything to compute: what the program takes, at most. */
function hostSeconds() {
  setThreads(1);
  const recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'imagenet', onCuda: true }), {
    model: { width: 2, auxWidth: 2, downsampleAt: [2] },
    dataset: { imageSize: 8, testResize: 8, trainCount: 4, testCount: 4 },
    training: { batchSize: 4 },
  });
  const times = measureStepTimes({ recipe, classes: 10, device: 'cpu', precision: 'fp32', isKept: false });
  return times.map(({ stepSeconds }) => stepSeconds);
}

try {
  /** @type {Measured['allReduce']} */
  const allReduce = {};
  for (const ranks of PROCESSES) allReduce[ranks] = await allReduces(ranks);
  const rounds = Array.from({ length: 3 }, hostSeconds);
  /** @type {MeasuredNetwork[]} */
  const networks = [];
  for (const network of NETWORKS) networks.push(await ratesOf(network));
  const { libtorchLoaded, libtorchBuilt } = buildInfo();
  /** @type {Measured} */
  const measured = {
    machine: cpus()[0].model,
    date: new Date().toISOString().slice(0, 10),
    ...{
      libtorch: libtorchLoaded || libtorchBuilt,
      node: process.version,
      processors: usableProcessors(),
      batch: BATCH,
    },
    allReduce,
    hostSeconds: rounds[0].map((_, layer) => summarize(rounds.map((round) => round[layer])).median),
    networks,
  };
  writeFileSync(file, `${JSON.stringify(measured, null, 2)}\n`);
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
