// A trained network that answers calls: images a second and latencies at some calls at once, here (Predictor), in PyTorch's eager
// Python and in onnxruntime-node, all with the same policy: what waits when a batch is done is the next one, of at most 32 images.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { disposeNetwork } from '../dist/models/index.js';
import { Predictor } from '../dist/predictor/index.js';
import { buildNetwork } from '../dist/recipe/index.js';
import { describeRun, writeExported } from '../dist/run/index.js';
import { NORMALIZATION, recipeOf } from './ours.mjs';
import { pairedRatio, quantile, summarize } from './statistics.mjs';

/** @import { Reference, Served } from './python.mjs' */
/** @import { Problem } from './ours.mjs' */
/** @import { Range } from './statistics.mjs' */

const CONCURRENT = [1, 8, 64];
const MOST_AT_ONCE = 32;
const SECONDS = 3;
const CLASSES = 10;

/**
 * What a side is measured to do.
 * @typedef {{ serve(concurrent: number, seconds: number): Promise<Served>, stop(): Promise<void> }} Side
 */

/**
 * Prints a line for each number of calls at once and each side: medians over rounds, the ends of the middle half, and the ratio of
 * images a second here to there.
 * @param {object} options
 * @param {Reference} options.reference
 * @param {Record<string, Pick<Problem, 'network' | 'size'>>} options.networks
 * @param {number} options.rounds
 * @param {number} options.threads
 * @param {object[]} options.results
 */
export async function benchPredictor({ reference, networks, rounds, threads, results }) {
  for (const [name, { network, size }] of Object.entries(networks)) {
    const folder = mkdtempSync(join(tmpdir(), 'layerwise-bench-'));
    const problem = { network, size, threads, folder };
    /** @type {Record<string, Side>} */
    const sides = { ours: await ourSide(problem), PyTorch: pythonSide(reference, problem) };
    const onnx = await onnxSide(reference, problem);
    if (onnx !== null) sides['onnxruntime-node'] = onnx;
    for (const concurrent of CONCURRENT) {
      await compare(`${name}, fp32, ${concurrent} at once`, sides, { concurrent, rounds, results });
    }
    for (const side of Object.values(sides)) await side.stop();
    rmSync(folder, { recursive: true });
  }
}

/**
 * @param {string} name
 * @param {Record<string, Side>} sides
 * @param {{ concurrent: number, rounds: number, results: object[] }} options
 */
async function compare(name, sides, { concurrent, rounds, results }) {
  /** @type {Record<string, Served[]>} */
  const measured = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
  for (const side of Object.values(sides)) await side.serve(concurrent, 0.5);
  for (let round = 0; round < rounds; round++) {
    for (const [side, { serve }] of Object.entries(sides)) measured[side].push(await serve(concurrent, SECONDS));
  }
  for (const [side, rows] of Object.entries(measured)) {
    const [rate, p50, p99] = /** @type {const} */ (['rate', 'p50', 'p99']).map((key) =>
      summarize(rows.map((row) => row[key])),
    );
    const ratio = pairedRatio(
      measured.ours.map(({ rate }) => rate),
      rows.map(({ rate }) => rate),
    );
    results.push({ name: `predictor: ${name}`, side, rate, p50, p99, ratio });
    console.log(
      `${`predictor: ${name}`.padEnd(44)} ${side.padEnd(17)} ${shown(rate, 0)} images/s  p50 ${shown(p50, 2)} ms  ` +
        `p99 ${shown(p99, 2)} ms  ours to it ${shown(ratio, 2)}`,
    );
  }
}

/**
 * @param {Range} range
 * @param {number} digits
 */
const shown = ({ median, low, high }, digits) =>
  `${median.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`;

/** @typedef {Pick<Problem, 'network' | 'size'> & { threads: number, folder: string }} PredictorProblem */

/**
 * @param {PredictorProblem} problem
 * @returns {Promise<Side>}
 */
async function ourSide({ network, size, threads, folder }) {
  const file = join(folder, 'network.safetensors');
  await exportNetwork(file, { network, size });
  const predictor = await Predictor.open(file, { threads, maxBatchSize: MOST_AT_ONCE });
  /** @type {[number, number, number]} */
  const imageShape = [3, size, size];
  return {
    serve: (concurrent, seconds) =>
      load(concurrent, seconds, (pixels) => predictor.classify({ pixels, imageShape }), size),
    stop: () => predictor.close(),
  };
}

/**
 * A network with the weights that it begins with, as if it had been trained: only its shape matters.
 * @param {string} file
 * @param {Pick<Problem, 'network' | 'size'>} problem
 */
async function exportNetwork(file, { network: name, size }) {
  const recipe = recipeOf({ network: name, size, batch: MOST_AT_ONCE, precision: 'fp32', device: 'cpu' });
  const network = buildNetwork(recipe, CLASSES, 'cpu');
  const classes = Array.from({ length: CLASSES }, (_, label) => `class ${label}`);
  const made = { recipe, classes, normalization: NORMALIZATION };
  const config = describeRun({ ...made, device: 'cpu', precision: 'fp32' });
  await writeExported(file, network, { config });
  disposeNetwork(network);
}

/**
 * @param {Reference} reference
 * @param {PredictorProblem} problem
 * @returns {Side}
 */
const pythonSide = (reference, { network, size }) => ({
  serve: (concurrent, seconds) =>
    reference.serve({ measure: 'serve', network, size, concurrent, seconds, most_at_once: MOST_AT_ONCE }),
  stop: async () => {},
});

/**
 * Null, with a line that says so, where the package is not installed.
 * @param {Reference} reference
 * @param {PredictorProblem} problem
 * @returns {Promise<Side | null>}
 */
async function onnxSide(reference, { network, size, threads, folder }) {
  // Not among the dependencies: npm install --no-save --ignore-scripts onnxruntime-node
  const name = 'onnxruntime-node';
  const ort = await import(name).catch(() => null);
  if (ort === null) {
    console.log('predictor: onnxruntime-node is not installed, and left out');
    return null;
  }
  const file = join(folder, 'network.onnx');
  await reference.measure({ measure: 'export_onnx', network, size, file });
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: threads });
  const answer = inBatches(async (/** @type {Uint8Array[]} */ images) => {
    const joined = new Uint8Array(images.length * images[0].length);
    images.forEach((image, i) => {
      joined.set(image, i * image.length);
    });
    const input = new ort.Tensor('uint8', joined, [images.length, 3, size, size]);
    const { values, indices } = await session.run({ images: input });
    return images.map((_, i) => [values.data.slice(5 * i, 5 * i + 5), indices.data.slice(5 * i, 5 * i + 5)]);
  });
  return {
    serve: (concurrent, seconds) => load(concurrent, seconds, answer, size),
    stop: async () => session.release(),
  };
}

/**
 * One call of `compute` at a time, on whatever came meanwhile.
 * @template Input, Output
 * @param {(inputs: Input[]) => Promise<Output[]>} compute
 * @returns {(input: Input) => Promise<Output>}
 */
function inBatches(compute) {
  /** @type {{ input: Input, resolve: (output: Output) => void, reject: (error: unknown) => void }[]} */
  const waiting = [];
  let isRunning = false;
  const next = async () => {
    if (isRunning || waiting.length === 0) return;
    isRunning = true;
    const batch = waiting.splice(0, MOST_AT_ONCE);
    try {
      const outputs = await compute(batch.map(({ input }) => input));
      batch.forEach(({ resolve }, i) => {
        resolve(outputs[i]);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
    isRunning = false;
    setImmediate(next);
  };
  return (input) =>
    new Promise((resolve, reject) => {
      waiting.push({ input, resolve, reject });
      setImmediate(next);
    });
}

/**
 * So many callers, each of which calls again when it is answered, for some seconds.
 * @param {number} concurrent
 * @param {number} seconds
 * @param {(pixels: Uint8Array) => Promise<unknown>} call
 * @param {number} size of the images, pixels a side
 * @returns {Promise<Served>}
 */
async function load(concurrent, seconds, call, size) {
  /** @type {number[]} */
  const latencies = [];
  const begin = performance.now();
  const caller = async (/** @type {number} */ seed) => {
    const pixels = Uint8Array.from(
      { length: 3 * size * size },
      (_, i) => (Math.imul(i + seed, 2654435761) >>> 13) & 255,
    );
    while (performance.now() - begin < 1000 * seconds) {
      const start = performance.now();
      await call(pixels);
      latencies.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: concurrent }, (_, seed) => caller(seed)));
  const took = (performance.now() - begin) / 1000;
  const sorted = latencies.sort((a, b) => a - b);
  const at = (/** @type {number} */ part) => quantile(sorted, part);
  return { rate: latencies.length / took, p50: at(0.5), p99: at(0.99) };
}
