// What each layer of a network asks of its input: images a second here, by measured steps; on an H100 and on eight, by arithmetic; and
// the cores that read and decode so many, from files and from shards, by the rate of one core here.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadDataset } from '../dist/data/index.js';
import { prepareImages } from '../dist/data/prepare-images.js';
import { overrideRecipe, presetRecipe } from '../dist/recipe/index.js';
import { resolvePrecision } from '../dist/recipe/precision.js';
import { setDecodingThreads } from '../dist/tensor/index.js';
import { measureImageRate } from '../dist/training/image-rate.js';
import { planRun } from '../dist/training/plan.js';
import { measureStepTimes } from '../dist/training/step-times.js';
import { stepOperations } from './operations.mjs';
import { summarize } from './statistics.mjs';

const PRESETS = ['vgg11-layerwise', 'simcnn-k1', 'simcnn-k3'];
const SIZE = 224;
const IMAGENET = { trainCount: 1_281_167, testCount: 50_000, classes: 1000 };

/**
 * NVIDIA's H100 SXM: 989 TFLOP/s of dense bf16 products in its data sheet, of which a training reaches some part: 40 % is an
 * assumption, and one that reaches less asks for less.
 */
const H100 = { operationsPerSecond: 989e12, reached: 0.4 };

/** @typedef {{ files: number, shards: number }} Rates Images a second */

/**
 * @param {{ folder: string, rounds: number, results: object[] }} options `folder`: of JPEG files, a folder for each class
 */
export async function benchInput({ folder, rounds, results }) {
  const { one, two } = await decodingRates(folder, rounds);
  results.push({ name: 'input: decoding', one, two });
  console.log(
    `input: one thread reads ${shown(one.files)} images a second from files, ${shown(one.shards)} from shards`,
  );
  console.log(`input: two threads read ${shown(two.files)} and ${shown(two.shards)}\n`);
  for (const preset of PRESETS) {
    const rows = layersOf(preset, one);
    results.push({ name: `input: ${preset}`, rows });
    console.log(
      `${preset}: images a second that a layer takes; cores, from files and from shards, that read so many\n`,
    );
    console.log('| layer | GFLOP an image | here | H100 | cores | 8 H100 | cores |\n|---|---|---|---|---|---|---|');
    for (const { layer, operations, here, h100, cores } of rows) {
      const eight = cores.map((count) => count * 8);
      console.log(
        `| ${layer} | ${(operations / 1e9).toFixed(1)} | ${shown(here)} | ${shown(h100)} | ${cores.map(upwards).join(' / ')} ` +
          `| ${shown(8 * h100)} | ${eight.map(upwards).join(' / ')} |`,
      );
    }
    console.log();
  }
}

/** @param {number} value */
const shown = (value) => (value < 10 ? value.toPrecision(2) : Math.round(value).toLocaleString('en-US'));
/** @param {number} cores */
const upwards = (cores) => String(Math.ceil(cores));

/**
 * @param {string} preset
 * @param {Rates} rates Of one core.
 */
function layersOf(preset, rates) {
  const device = 'cpu';
  const precision = resolvePrecision('auto', device);
  const { classes, ...counts } = IMAGENET;
  const recipe = overrideRecipe(presetRecipe(preset, { dataset: 'imagenet', onCuda: false }), { dataset: counts });
  const shared = /** @type {const} */ ({ recipe, classes, device, precision });
  const plan = planRun({ ...shared, budget: { device: 0, host: 0, disk: 0 }, imagesInMemory: false });
  const times = measureStepTimes({ ...shared, isKept: false });
  return plan.layers.map(({ layer, multiplyAdds }, i) => {
    const operations = stepOperations(multiplyAdds);
    const h100 = (H100.reached * H100.operationsPerSecond) / operations;
    return {
      ...{ layer: layer + 1, operations, here: times[i]?.imagesPerSecond ?? Number.NaN, h100 },
      cores: [h100 / rates.files, h100 / rates.shards],
    };
  });
}

/**
 * Of one thread, and of two.
 * @param {string} folder
 * @param {number} rounds
 * @returns {Promise<{ one: Rates, two: Rates }>}
 */
async function decodingRates(folder, rounds) {
  const temporary = mkdtempSync(join(tmpdir(), 'layerwise-input-'));
  try {
    const at = { files: join(temporary, 'files'), shards: join(temporary, 'shards') };
    mkdirSync(at.files);
    for (const part of ['train', 'val']) symlinkSync(resolve(folder), join(at.files, part));
    await prepareImages({ from: at.files, to: at.shards });
    return { one: await ratesOf(at, { threads: 1, rounds }), two: await ratesOf(at, { threads: 2, rounds }) };
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

/**
 * @param {{ files: string, shards: string }} at
 * @param {{ threads: number, rounds: number }} options
 * @returns {Promise<Rates>}
 */
async function ratesOf(at, { threads, rounds }) {
  setDecodingThreads(threads);
  const recipe = presetRecipe('vgg11-layerwise', { dataset: 'imagenet', onCuda: false });
  /** @type {{ files: number[], shards: number[] }} */
  const rates = { files: [], shards: [] };
  for (let round = 0; round < rounds; round++) {
    for (const kind of /** @type {const} */ (['files', 'shards'])) {
      const { train } = await loadDataset({ name: 'imagenet', dataDir: at[kind], imageSize: SIZE });
      const rate = await measureImageRate(train, recipe);
      rates[kind].push(rate?.imagesPerSecond ?? Number.NaN);
    }
  }
  return { files: summarize(rates.files).median, shards: summarize(rates.shards).median };
}
