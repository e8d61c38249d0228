// Photographs from JPEG files to batches: here, by sharp alone, and by torchvision's transforms over Pillow in worker processes.
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pairedRatio, summarize } from './statistics.mjs';

/** @import { Decoded, DecodeRequest, StepRequest } from './images-run.mjs' */
/** @import { Bar, Range } from './statistics.mjs' */

/** @typedef {{ name: string, rate(request: DecodeRequest | StepRequest): Promise<number>, peakMegabytes(): number | null, stop(): void }} Side */

/** Passes over the photographs that are one measurement. */
const PASSES = { ours: 8, sharp: 1, Pillow: 3 };

/**
 * A process of this project's decoder.
 * @param {string} name
 * @param {{ folder: string, env: Record<string, string> }} options
 * @returns {Promise<Side>}
 */
async function nodeSide(name, { folder, env }) {
  const child = fork(new URL('./images-run.mjs', import.meta.url), [folder], { env: { ...process.env, ...env } });
  await once(child, 'message');
  let peak = 0;
  return {
    name,
    async rate(request) {
      child.send(request);
      /** @type {[Decoded]} */
      const [{ rate, peakMegabytes }] = /** @type {[Decoded]} */ (await once(child, 'message'));
      peak = Math.max(peak, peakMegabytes);
      return rate;
    },
    peakMegabytes: () => peak,
    stop: () => child.disconnect(),
  };
}

/**
 * @param {string} python
 * @param {string} folder
 * @returns {Promise<Side & { version: string }>}
 */
async function pillowSide(python, folder) {
  const program = fileURLToPath(new URL('./reference/images.py', import.meta.url));
  const child = spawn(python, [program, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${python} ended; it needs Pillow and NumPy (LAYERWISE_BENCH_PYTHON names another)`);
    return JSON.parse(value);
  };
  const { pillow } = await answer();
  return {
    name: 'Pillow',
    version: pillow,
    rate: async (request) => {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return answer();
    },
    peakMegabytes: () => null,
    stop: () => child.stdin.end(),
  };
}

/**
 * Prints a line for each kind and number of threads; tells `bar` of each value that is to be reached, and adds to `results`.
 * @param {{ folder: string, python: string, rounds: number, results: object[],
 *   bar: (name: string, measured: number | Range, wanted: Bar) => void }} options
 */
export async function benchImages({ folder, python, rounds, results, bar }) {
  const ours = await nodeSide('ours', { folder, env: {} });
  const sharp = await nodeSide('sharp', { folder, env: { LAYERWISE_TURBOJPEG: 'none' } });
  const sharpAlone = await nodeSide('sharp', {
    folder,
    env: { LAYERWISE_TURBOJPEG: 'none', UV_THREADPOOL_SIZE: '1', VIPS_CONCURRENCY: '1' },
  });
  const pillow = await pillowSide(python, folder);
  console.log(`Pillow ${pillow.version}`);
  for (const threads of [1, 2]) {
    const sides = [ours, threads === 1 ? sharpAlone : sharp, pillow];
    for (const kind of /** @type {const} */ (['train', 'evaluate'])) {
      /** @type {Record<string, number[]>} */
      const rates = { ours: [], sharp: [], Pillow: [] };
      for (const side of sides) await side.rate({ measure: 'decode', kind, threads, passes: 1 });
      for (let round = 0; round < rounds; round++) {
        for (const side of sides) {
          const passes = PASSES[/** @type {keyof typeof PASSES} */ (side.name)];
          rates[side.name]?.push(await side.rate({ measure: 'decode', kind, threads, passes }));
        }
      }
      const name = `images: ${kind}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
      const [toSharp, toPillow] = [rates.sharp, rates.Pillow].map((other) =>
        pairedRatio(rates.ours ?? [], other ?? []),
      );
      results.push({ name, rates, toSharp, toPillow });
      const shown = sides
        .map((side) => `${side.name} ${summarize(rates[side.name] ?? []).median.toFixed(0)}/s`)
        .join(', ');
      console.log(
        `${name.padEnd(32)} ${shown}; of sharp's ${toSharp?.median.toFixed(2)}, of Pillow's ${toPillow?.median.toFixed(2)}`,
      );
      if (threads !== 2 || toSharp === undefined || toPillow === undefined) continue;
      bar(`${name}, of Pillow's`, toPillow, { least: kind === 'train' ? 2.2 : 1.6 });
      if (kind === 'train') bar(`${name}, of sharp's`, toSharp, { least: 5 });
    }
  }
  await benchFlip(ours, { rounds, results, bar });
  await benchTraining(ours, { rounds, results, bar });
  const peak = ours.peakMegabytes();
  console.log(
    `images: resident memory at most ${peak?.toFixed(0)} MiB here, ${sharp.peakMegabytes()?.toFixed(0)} MiB by sharp`,
  );
  results.push({ name: 'images: memory', peakMegabytes: peak });
  for (const side of [ours, sharp, sharpAlone, pillow]) side.stop();
}

/**
 * Random resized crops that are mirrored where they are decoded, or batch by batch afterwards.
 * @param {Side} ours
 * @param {{ rounds: number, results: object[], bar: (name: string, measured: number | Range, wanted: Bar) => void }} options
 */
async function benchFlip(ours, { rounds, results, bar }) {
  /** @type {{ none: number[], decoder: number[], after: number[] }} */
  const rates = { none: [], decoder: [], after: [] };
  const request = /** @type {const} */ ({ measure: 'decode', kind: 'train', threads: 2, passes: PASSES.ours });
  for (let round = 0; round < rounds; round++) {
    rates.none.push(await ours.rate(request));
    rates.decoder.push(await ours.rate({ ...request, flip: 'decoder' }));
    rates.after.push(await ours.rate({ ...request, flip: 'after' }));
  }
  const [toNone, toAfter] = [rates.none, rates.after].map((other) => pairedRatio(rates.decoder, other));
  const name = 'images: mirrored by the decoder';
  results.push({ name, rates, toNone, toAfter });
  const shown = Object.entries(rates).map(([side, values]) => `${side} ${summarize(values).median.toFixed(0)}/s`);
  console.log(
    `${name.padEnd(32)} ${shown.join(', ')}; of none ${toNone?.median.toFixed(3)}, of afterwards ${toAfter?.median.toFixed(3)}`,
  );
  if (toAfter !== undefined) bar(`${name}, of afterwards`, toAfter, { least: 1 });
}

/** Steps that are one measurement. */
const STEPS = 12;

/**
 * The training of some layers on photographs as they are decoded, beside the slower of decoder and training alone.
 * @param {Side} ours
 * @param {{ rounds: number, results: object[], bar: (name: string, measured: number | Range, wanted: Bar) => void }} options
 */
async function benchTraining(ours, { rounds, results, bar }) {
  for (const layer of [0, 3, 7]) {
    /** @type {{ decoder: number[], alone: number[], both: number[] }} */
    const rates = { decoder: [], alone: [], both: [] };
    for (let round = 0; round < rounds; round++) {
      rates.decoder.push(await ours.rate({ measure: 'decode', kind: 'train', threads: 2, passes: 4 }));
      rates.alone.push(await ours.rate({ measure: 'step', layer, steps: STEPS, isDecoding: false }));
      rates.both.push(await ours.rate({ measure: 'step', layer, steps: STEPS, isDecoding: true }));
    }
    const slower = rates.decoder.map((rate, i) => Math.min(rate, rates.alone[i] ?? rate));
    const ratio = pairedRatio(rates.both, slower);
    const name = `images: VGG-11 of width 8, layer ${layer + 1}`;
    results.push({ name, rates, ratio });
    const shown = Object.entries(rates).map(([side, values]) => `${side} ${summarize(values).median.toFixed(0)}/s`);
    console.log(`${name.padEnd(40)} ${shown.join(', ')}; ${ratio.median.toFixed(2)} of the slower`);
    bar(`${name}, of the slower alone`, ratio, { least: 0.9 });
  }
}
