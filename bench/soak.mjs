// What many short jobs leave behind in their process: resident memory, threads, open files, listeners; and whether each result has
// the bits of a run alone.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { summarize } from './statistics.mjs';

/** @import { Sample, Soaked } from './soak-run.mjs' */
/** @import { Bar } from './statistics.mjs' */

const JOBS = 200;

/**
 * @param {{ jobs: number, concurrency: number }} request
 * @returns {Promise<Soaked>}
 */
export async function soak({ jobs, concurrency }) {
  const child = fork(new URL('./soak-run.mjs', import.meta.url), [String(jobs), String(concurrency)], {
    execArgv: ['--expose-gc'],
    // Otherwise the addon has more threads while the machine is busy (ARCHITECTURE.md, "Beside other work").
    env: { ...process.env, GOMP_SPINCOUNT: '100' },
  });
  const exit = once(child, 'exit').then(([code]) => {
    throw new Error(`the jobs ended with code ${code}`);
  });
  const [soaked] = await Promise.race([once(child, 'message'), exit]);
  await exit.catch(() => {});
  return /** @type {Soaked} */ (soaked);
}

/**
 * The last third of the samples beside the middle third: the ratio of the medians of resident memory, and by how much the most of
 * all else has grown.
 * @param {Soaked} soaked
 */
export function leftBehind({ samples }) {
  const third = Math.floor(samples.length / 3);
  const [middle, last] = [samples.slice(third, 2 * third), samples.slice(-third)];
  /** @param {Sample[]} part */
  const resident = (part) => summarize(part.map(({ residentBytes }) => residentBytes)).median;
  /** @param {(sample: Sample) => number} of */
  const growth = (of) => Math.max(...last.map(of)) - Math.max(...middle.map(of));
  return {
    resident: resident(last) / resident(middle),
    threads: growth(({ threads }) => threads),
    files: growth(({ files }) => files),
    resources: growth(({ resources }) => resources.length),
    listeners: growth(({ listeners }) => listeners),
  };
}

/**
 * Prints a line for each concurrency; tells `bar` of each value that is to be reached, and adds to `results`.
 * @param {{ results: object[], bar: (name: string, measured: number, wanted: Bar) => void }} options
 */
export async function benchSoak({ results, bar }) {
  for (const concurrency of [1, 4]) {
    const soaked = await soak({ jobs: JOBS, concurrency });
    const left = leftBehind(soaked);
    const name = `soak: ${JOBS} jobs, ${concurrency} at a time`;
    results.push({ name, left, ...soaked });
    console.log(`${name.padEnd(42)} ${JSON.stringify(left)}, ${soaked.otherBits} results of other bits`);
    bar(`${name}: resident memory, last third of middle third`, left.resident, { most: 1.02 });
    for (const kind of /** @type {const} */ (['threads', 'files', 'resources', 'listeners'])) {
      bar(`${name}: ${kind} more`, left[kind], { most: 0 });
    }
    bar(`${name}: results of other bits`, soaked.otherBits, { most: 0 });
  }
}
