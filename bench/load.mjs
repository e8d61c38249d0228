// How a training does beside other work: images a second alone, beside one busy and one niced computing program, and two
// trainings at once, here and for the PyTorch reference.
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Reference } from './python.mjs';
import { pairedRatio, summarize } from './statistics.mjs';

/** @import { RateRequest } from './ours.mjs' */
/** @import { Bar, Range, Summary } from './statistics.mjs' */

/**
 * A process that trains on request, and its images a second.
 * @typedef {{ rate(request: RateRequest): Promise<number>, stop(): void }} Trainer
 */
/**
 * @template T
 * @typedef {Record<string, Record<string, T>>} BySituation of each situation and side
 */

const SECONDS = 3;

/**
 * Another program's work: a loop, and one that computes in memory of its own, with low priority.
 * @typedef {{ command: string, args: string[] }} Disturber
 * @type {Record<string, Disturber>}
 */
const DISTURBERS = {
  'beside a busy loop': { command: process.execPath, args: ['-e', 'for (;;);'] },
  'beside a niced program that computes': {
    command: 'nice',
    args: [
      '-n',
      '10',
      process.execPath,
      '-e',
      'for (let s = 0; ; ) { const a = new Float64Array(64e6).fill(1.5); for (let i = 0; i < a.length; i++) s += a[i] * a[i]; }',
    ],
  },
};

/** libgomp's own number of looks for work before a thread sleeps. */
const DEFAULT_SPIN = { GOMP_SPINCOUNT: '300000' };

/**
 * @param {number} threads
 * @param {Record<string, string>} [env]
 * @returns {Promise<Trainer>}
 */
async function startOurs(threads, env = {}) {
  const child = fork(new URL('./rate.mjs', import.meta.url), [String(threads)], { env: { ...process.env, ...env } });
  await once(child, 'message');
  return {
    async rate(request) {
      child.send(request);
      return (await once(child, 'message'))[0];
    },
    stop: () => child.kill(),
  };
}

/**
 * @param {string} python
 * @param {number} threads
 * @returns {Promise<Trainer>}
 */
async function startReference(python, threads) {
  const { reference } = await Reference.start(python, threads);
  return { rate: (request) => reference.measure({ measure: 'rate', ...request }), stop: () => reference.stop() };
}

/**
 * Does `work` while another program runs.
 * @template T
 * @param {Disturber} disturber
 * @param {() => Promise<T>} work
 */
async function beside({ command, args }, work) {
  const other = spawn(command, args, { stdio: 'ignore' });
  try {
    return await work();
  } finally {
    other.kill('SIGKILL');
    await once(other, 'exit');
  }
}

/**
 * @typedef {object} LoadOptions
 * @property {string} python
 * @property {number} threads of each side
 * @property {number} rounds
 */

/**
 * Returns for each situation and side the images a second of each round.
 * @param {LoadOptions & { request: RateRequest }} options
 */
async function measureLoad({ python, threads, rounds, request }) {
  /** @type {Record<string, Trainer[]>} */
  const sides = {
    ours: await Promise.all([startOurs(threads), startOurs(threads)]),
    'ours, spinning': await Promise.all([startOurs(threads, DEFAULT_SPIN)]),
    PyTorch: await Promise.all([startReference(python, threads), startReference(python, threads)]),
  };
  /** @type {Record<string, (trainers: Trainer[]) => Promise<number | null>>} */
  const situations = {
    alone: ([first]) => first.rate(request),
    ...Object.fromEntries(
      Object.entries(DISTURBERS).map(([name, disturber]) => [
        name,
        ([first]) => beside(disturber, () => first.rate(request)),
      ]),
    ),
    'two at once, the slower': async (both) =>
      both.length < 2 ? null : Math.min(...(await Promise.all(both.map((one) => one.rate(request))))),
  };
  /** @type {BySituation<number[]>} */
  const rates = {};
  for (const side of Object.values(sides).flat()) await side.rate({ ...request, seconds: 0 });
  for (let round = 0; round < rounds; round++) {
    for (const [situation, measure] of Object.entries(situations)) {
      for (const [side, processes] of Object.entries(sides)) {
        const value = await measure(processes);
        if (value === null) continue;
        rates[situation] ??= {};
        rates[situation][side] ??= [];
        rates[situation][side].push(value);
      }
    }
  }
  for (const side of Object.values(sides).flat()) side.stop();
  return rates;
}

/**
 * @param {Range} range
 * @param {number} digits
 */
const shown = ({ median, low, high }, digits) =>
  `${median.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`;

/**
 * Prints the table; tells `bar` of each value that is to be reached, and adds to `results`.
 * @param {LoadOptions & {
 *   request: Pick<RateRequest, 'precision' | 'device'>,
 *   results: object[],
 *   bar: (name: string, measured: Range, wanted: Bar) => void,
 * }} options
 */
export async function benchLoad({ bar, results, ...options }) {
  /** @type {RateRequest} */
  const request = {
    network: 'vgg11',
    size: 32,
    width: 16,
    batch: 128,
    layers: 8,
    seconds: SECONDS,
    ...options.request,
  };
  const rates = await measureLoad({ ...options, request });
  /** @type {BySituation<Summary>} */
  const kept = {};
  for (const [situation, sides] of Object.entries(rates)) {
    for (const [side, values] of Object.entries(sides)) {
      // Of a round's own rate alone: drifts of the machine cancel.
      const share = pairedRatio(values, rates.alone[side]);
      kept[situation] ??= {};
      kept[situation][side] = share;
      results.push({ name: `load: ${situation}`, side, rate: summarize(values), share });
      console.log(
        `${`load: ${situation}`.padEnd(44)} ${side.padEnd(15)} ${shown(summarize(values), 0).padEnd(22)} images/s, of alone ${shown(share, 2)}`,
      );
    }
  }
  const busy = kept['beside a busy loop'];
  bar('beside a busy loop, of alone', busy.ours, { least: 0.45 });
  bar('the same, of what PyTorch keeps', pairedRatio(busy.ours.values, busy.PyTorch.values), { least: 1.3 });
  bar('two trainings at once, the slower of alone', kept['two at once, the slower'].ours, { least: 0.4 });
  const alone = pairedRatio(rates.alone.ours, rates.alone['ours, spinning']);
  bar("alone, of the rate with libgomp's own spinning", alone, { least: 0.97 });
}
