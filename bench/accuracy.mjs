// node bench/accuracy.mjs --data-dir DIR [--cases paths,views,precision] [--seeds 1,2,3] [--json FILE] ...
//
// What speed does to accuracy: SimCNN k = 3 on the first 5,000 training and 2,000 test images of CIFAR-10, by layer.
// paths: "plain" is float32 and the modules by their definitions: frozen layers unfolded and computed in every epoch, batch norm and
// ReLU apart, evaluation by the same modules. "fast" is what a user gets.
// views: what kept views do.
// precision: bf16 and fp32, here and in PyTorch (LAYERWISE_BENCH_PYTHON names its Python), one run a core at a time;
// --sides bf16-unfolded, bf16-apart, bf16-float-features switch a fast path off.
// Each run is a process of its own. --json keeps the results as they come; what is there is not run again.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { mean } from './statistics.mjs';

/** @import { FrozenBlocks } from '../dist/nn/index.js' */
/** @import { Recipe } from '../dist/recipe/index.js' */
/** @import { TrainOptions } from '../dist/training/index.js' */

/**
 * What decides a run.
 *
 * @typedef {object} Request
 * @property {boolean} [python] by the reference, which has new views in every epoch and no milestones
 * @property {Switch[]} [without]
 * @property {number} seed
 * @property {number | null} [views]
 * @property {number} epochs of each layer
 * @property {number[]} [milestones]
 * @property {number} [rate] the preset's by default
 * @property {number} width
 * @property {Recipe['precision']} precision
 * @property {number} [threads]
 * @property {TrainOptions['cache']} [cache]
 *
 * @typedef {keyof typeof SWITCHES} Switch
 * @typedef {{ testTop1: number, ensembleTop1: number, seconds?: number }} LayerFigures per cent; the reference tells no seconds
 * @typedef {{ name: string, request: Request }} Named
 */

const { values: flags } = parseArgs({
  options: {
    'data-dir': { type: 'string' },
    cases: { type: 'string', default: 'paths,views' },
    seeds: { type: 'string', default: '1,2,3' },
    views: { type: 'string', default: 'none,1,4,16' },
    'view-seeds': { type: 'string', default: '1' },
    epochs: { type: 'string', default: '4' },
    'view-epochs': { type: 'string', default: '16' },
    width: { type: 'string' },
    sides: { type: 'string', default: 'bf16,fp32,pytorch-bf16,pytorch-fp32' },
    rates: { type: 'string', default: '0.1,0.02' },
    json: { type: 'string' },
    one: { type: 'string' },
  },
});

const TRAIN_IMAGES = 5000;
const TEST_IMAGES = 2000;
/** @param {string} text */
const listOf = (text) => text.split(',').filter((one) => one !== '');

/** What can be switched off, by putting the definitions in the place of what is fast. */
const SWITCHES = {
  /** Frozen layers, and the trained ones in evaluation, by their modules: batch norm unfolded, no parts, weights converted each time. */
  async unfolded() {
    const { FrozenBlocks } = await import('../dist/nn/index.js');
    const { noGrad } = await import('../dist/tensor/index.js');
    FrozenBlocks.prototype.forward = function (input, count) {
      return noGrad(() => this.blocks.slice(0, count).reduce((x, block) => block.forward(x), input));
    };
  },
  /** Batch norm and ReLU as LibTorch's two operators. */
  async apart() {
    const { BatchNorm2d } = await import('../dist/nn/index.js');
    BatchNorm2d.prototype.forwardRectified = function (input) {
      return this.forward(input).relu();
    };
  },
  /** Frozen layers in float32: features are not rounded before the trained layers read them. */
  async 'float-features'() {
    const { FrozenBlocks } = await import('../dist/nn/index.js');
    const { forward } = FrozenBlocks.prototype;
    /** @type {WeakMap<FrozenBlocks, FrozenBlocks>} */
    const whole = new WeakMap();
    FrozenBlocks.prototype.forward = function (input, count) {
      const inFloats = whole.get(this) ?? new FrozenBlocks(this.blocks, 'float32');
      whole.set(this, inFloats);
      return forward.call(inFloats, input.to({ dtype: 'float32' }), count);
    };
  },
};

/**
 * Trains, and prints the layers' figures: what a process of its own does.
 * @param {Request & { dataDir: string, out: string }} request
 */
async function runOne({
  without = [],
  seed,
  views,
  epochs,
  milestones,
  rate,
  width,
  dataDir,
  out,
  precision,
  threads,
  cache,
}) {
  const { overrideRecipe, presetRecipe, train } = await import('../dist/index.js');
  for (const name of without) await SWITCHES[name]();
  const recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'cifar10', onCuda: false }), {
    model: { width, auxWidth: width },
    dataset: { dataDir, trainLimit: TRAIN_IMAGES, testLimit: TEST_IMAGES },
    augmentation: { views },
    training: { epochs, milestones, ...(rate === undefined ? {} : { learningRate: rate }) },
    seed,
    threads: threads ?? null,
    precision,
  });
  const { result } = await train({ recipe, out, cache });
  const layers = result.layers.map(({ testTop1, ensembleTop1, seconds }) => ({ testTop1, ensembleTop1, seconds }));
  console.log(JSON.stringify({ layers }));
}

if (flags.one !== undefined) {
  await runOne(JSON.parse(flags.one));
  process.exit(0);
}
const dataDir = dataDirectory();

function dataDirectory() {
  if (flags['data-dir'] !== undefined) return flags['data-dir'];
  console.error('bench: --data-dir: expected the directory of CIFAR-10, got nothing');
  process.exit(2);
}

/** @type {(Named & { layers: LayerFigures[] })[]} */
const results = flags.json !== undefined && existsSync(flags.json) ? JSON.parse(readFileSync(flags.json, 'utf8')) : [];
/** @param {Named} result */
const keyOf = ({ name, request }) => JSON.stringify([name, request]);

/** @param {Named & { layers: LayerFigures[] }} result */
function record(result) {
  results.push(result);
  if (flags.json === undefined) return;
  writeFileSync(`${flags.json}.part`, `${JSON.stringify(results, null, 2)}\n`);
  renameSync(`${flags.json}.part`, flags.json);
}

const run = promisify(execFile);

/**
 * One run in a process of its own; its layers' figures.
 * @param {string} name
 * @param {Request} request
 */
async function measure(name, request) {
  const known = results.find((result) => keyOf(result) === keyOf({ name, request }));
  if (known !== undefined) return known.layers;
  const { python, ...own } = request;
  const whole = {
    ...own,
    dataDir,
    out: join(folder, keyOf({ name, request }).replaceAll(/\W+/g, '-')),
  };
  const { stdout } = python
    ? await run(process.env.LAYERWISE_BENCH_PYTHON ?? 'python3', [
        join(import.meta.dirname, 'reference', 'accuracy.py'),
        JSON.stringify({ ...whole, train: TRAIN_IMAGES, test: TEST_IMAGES }),
      ])
    : await run(process.execPath, [import.meta.filename, '--one', JSON.stringify(whole)]);
  /** @type {{ layers: LayerFigures[] }} */
  const { layers } = JSON.parse(lastOf(stdout.trim().split('\n')));
  rmSync(whole.out, { recursive: true, force: true });
  record({ name, request, layers });
  const shown = layers.map(({ testTop1 }) => testTop1.toFixed(2).padStart(6)).join(' ');
  const seconds = layers.flatMap((layer) => layer.seconds ?? []);
  const paces = python ? '' : `  seconds ${seconds.map((value) => value.toFixed(0).padStart(4)).join(' ')}`;
  console.log(`${name.padEnd(44)} top-1 ${shown}  ensemble ${lastOf(layers).ensembleTop1.toFixed(2)}${paces}`);
  return layers;
}

/**
 * @template T
 * @param {readonly T[]} values at least one
 */
const lastOf = (values) => values[values.length - 1];

/**
 * The paper's milestones are at 0.3, 0.6 and 0.9 of the epochs.
 * @param {number} epochs
 */
const milestonesOf = (epochs) => [...new Set([0.3, 0.6, 0.9].map((part) => Math.max(1, Math.round(part * epochs))))];
const KEPT = { cache: { host: 12 * 2 ** 30 } };

/**
 * The sides of the case `precision`: here, here with a fast path switched off, and the reference.
 * @type {Record<string, Pick<Request, 'python' | 'precision' | 'without'>>}
 */
const SIDES = {
  bf16: { precision: 'bf16', without: [] },
  'bf16-unfolded': { precision: 'bf16', without: ['unfolded'] },
  'bf16-apart': { precision: 'bf16', without: ['apart'] },
  'bf16-float-features': { precision: 'bf16', without: ['float-features'] },
  fp32: { precision: 'fp32', without: [] },
  'fp32-unfolded': { precision: 'fp32', without: ['unfolded'] },
  'fp32-apart': { precision: 'fp32', without: ['apart'] },
  'pytorch-bf16': { precision: 'bf16', python: true },
  'pytorch-fp32': { precision: 'fp32', python: true },
};

/** @type {Record<string, () => Promise<void>>} */
const CASES = {
  async paths() {
    const epochs = Number(flags.epochs);
    const width = Number(flags.width ?? 32);
    /** @type {Record<'plain' | 'fast', Pick<Request, 'without' | 'precision' | 'cache'>>} */
    const sides = {
      plain: { without: ['apart', 'unfolded'], precision: 'fp32', cache: 'none' },
      fast: { precision: 'auto', ...KEPT },
    };
    /**
     * Of each seed, top-1 by layer.
     * @type {Record<string, number[][]>}
     */
    const runs = { plain: [], fast: [] };
    for (const seed of listOf(flags.seeds).map(Number)) {
      for (const [side, options] of Object.entries(sides)) {
        const request = { ...options, seed, views: null, epochs, milestones: milestonesOf(epochs), width };
        const layers = await measure(`${side}, new views, seed ${seed}, ${epochs} epochs`, request);
        runs[side].push(layers.map(({ testTop1 }) => testTop1));
      }
    }
    runs.plain[0].forEach((_, layer) => {
      const [plain, fast] = ['plain', 'fast'].map((side) => runs[side].map((values) => values[layer]));
      const spread = Math.max(...plain) - Math.min(...plain);
      console.log(
        `layer ${layer + 1}: plain ${mean(plain).toFixed(2)}, spread of its seeds ${spread.toFixed(2)}; ` +
          `fast ${mean(fast).toFixed(2)}, difference of the means ${(mean(fast) - mean(plain)).toFixed(2)}`,
      );
    });
  },

  async views() {
    const epochs = Number(flags['view-epochs']);
    const width = Number(flags.width ?? 32);
    for (const seed of listOf(flags['view-seeds']).map(Number)) {
      for (const views of listOf(flags.views)) {
        const own = { views: views === 'none' ? null : Number(views), epochs, milestones: milestonesOf(epochs) };
        await measure(`views ${views}, seed ${seed}, ${epochs} epochs`, {
          precision: 'auto',
          ...KEPT,
          ...own,
          seed,
          width,
        });
      }
    }
  },

  async precision() {
    const epochs = Number(flags.epochs);
    const width = Number(flags.width ?? 64);
    const seeds = listOf(flags.seeds).map(Number);
    const wanted = listOf(flags.rates).flatMap((rate) =>
      seeds.flatMap((seed) => listOf(flags.sides).map((side) => ({ rate: Number(rate), seed, side }))),
    );
    /** @type {Map<string, LayerFigures[][]>} */
    const done = new Map();
    const take = async () => {
      for (let next = wanted.shift(); next !== undefined; next = wanted.shift()) {
        const { rate, seed, side } = next;
        const { precision, python, without } = SIDES[side];
        const request = { precision, rate, seed, epochs, width, threads: 1 };
        const own = python ? { python } : { without, views: null, milestones: [epochs], ...KEPT };
        const layers = await measure(`${side}, rate ${rate}, seed ${seed}`, { ...request, ...own });
        const key = `${side}, rate ${rate}`;
        done.set(key, [...(done.get(key) ?? []), layers]);
      }
    };
    await Promise.all(Array.from({ length: availableParallelism() }, take));
    for (const [key, runs] of done) {
      const last = runs.map(lastOf);
      const figures = [
        { name: 'last layer', values: last.map(({ testTop1 }) => testTop1) },
        { name: 'ensemble', values: last.map(({ ensembleTop1 }) => ensembleTop1) },
      ].map(({ name, values }) => {
        const middle = mean(values);
        const deviation = Math.sqrt(
          mean(values.map((value) => (value - middle) ** 2)) * (values.length / (values.length - 1)),
        );
        return `${name} ${middle.toFixed(2)} (standard error ${(deviation / Math.sqrt(values.length)).toFixed(2)})`;
      });
      console.log(`${key.padEnd(28)} ${runs.length} seeds: ${figures.join(', ')}`);
    }
  },
};

requireKnown('--cases', listOf(flags.cases), CASES);
requireKnown('--sides', listOf(flags.sides), SIDES);
/** The runs, each until it has been measured. */
const folder = mkdtempSync(join(tmpdir(), 'layerwise-accuracy-'));
console.log(`${cpus()[0].model}, Node ${process.version}; ${new Date().toISOString().slice(0, 10)}`);
for (const name of listOf(flags.cases)) await CASES[name]();
rmSync(folder, { recursive: true });

/**
 * Ends the program where a name is not one of the known.
 * @param {string} flag
 * @param {string[]} names
 * @param {object} known
 */
function requireKnown(flag, names, known) {
  const unknown = names.find((name) => !Object.hasOwn(known, name));
  if (unknown === undefined) return;
  console.error(`bench: ${flag}: expected some of ${Object.keys(known).join(', ')}, got ${unknown}`);
  process.exit(2);
}
