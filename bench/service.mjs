// How a service does beside a training job, and the job beside a service: requests a second of a trivial HTTP route, the delay of
// its event loop, images a second. Server and job are one process, the requests come from another: as many as can be, for which server
// and client want a processor each, and a given number of them.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { pairedRatio, summarize } from './statistics.mjs';

/** @import { ChildProcess } from 'node:child_process' */
/** @import { HostRequest, Watched } from './service-host.mjs' */
/** @import { Loaded, LoadRequest } from './service-load.mjs' */
/** @import { Bar, Range } from './statistics.mjs' */

const SECONDS = 4;

/** Requests a second of a busy service. */
const PACE = 5_000;

/** Threads of the job, and how far they step back. */
const JOBS = [1, 2].flatMap((threads) => [0, 5, 10].map((niceness) => ({ threads, niceness })));

/**
 * @typedef {{ delay: number, delayUnderLoad: number, requests: number, idleRequests: number, rate: number, idleRate: number,
 *   failed: number, pacedRequests: number, pacedDelay: number, pacedRate: number }} Round
 */

/**
 * @param {ChildProcess} child
 * @param {unknown} request
 */
async function ask(child, request) {
  child.send(/** @type {import('node:child_process').Serializable} */ (request));
  return (await once(child, 'message'))[0];
}

/**
 * @param {ChildProcess} load
 * @param {LoadRequest} request
 * @returns {Promise<Loaded>}
 */
const askLoad = (load, request) => ask(load, request);

/**
 * @param {ChildProcess} host
 * @param {HostRequest} request
 * @returns {Promise<Watched>}
 */
const askHost = (host, request) => ask(host, request);

/**
 * @param {ChildProcess} host
 * @param {ChildProcess} load
 * @param {{ threads: number, niceness: number }} job
 * @returns {Promise<Round>}
 */
async function measureRound(host, load, job) {
  const before = await askLoad(load, { seconds: SECONDS });
  await askHost(host, { type: 'train', ...job });
  const alone = await askHost(host, { type: 'watch', seconds: SECONDS });
  /** @param {LoadRequest} request */
  const underLoad = (request) =>
    Promise.all([askHost(host, { type: 'watch', seconds: SECONDS }), askLoad(load, request)]);
  const [beside, both] = await underLoad({ seconds: SECONDS });
  const [besidePaced, paced] = await underLoad({ seconds: SECONDS, rate: PACE });
  await askHost(host, { type: 'stop' });
  const after = await askLoad(load, { seconds: SECONDS });
  return {
    ...{ delay: alone.delay, delayUnderLoad: beside.delay },
    // Before and after, since the machine drifts.
    ...{ requests: both.rate, idleRequests: (before.rate + after.rate) / 2 },
    failed: before.failed + both.failed + paced.failed + after.failed,
    ...{ pacedRequests: paced.rate / PACE, pacedDelay: paced.delay, pacedRate: besidePaced.rate ?? 0 },
    ...{ rate: beside.rate ?? 0, idleRate: alone.rate ?? 0 },
  };
}

/**
 * Prints a line for each job; tells `bar` of each value that is to be reached, and adds to `results`.
 * @param {{ rounds: number, results: object[], bar: (name: string, measured: number | Range, wanted: Bar) => void }} options
 */
export async function benchService({ rounds, results, bar }) {
  const host = fork(new URL('./service-host.mjs', import.meta.url));
  const [port] = await once(host, 'message');
  const load = fork(new URL('./service-load.mjs', import.meta.url), [String(port)]);
  await once(load, 'message');
  await askLoad(load, { seconds: 1 });
  /** @type {Round[][]} */
  const measured = JOBS.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, job] of JOBS.entries()) measured[i].push(await measureRound(host, load, job));
  }
  load.disconnect();
  host.disconnect();
  await Promise.all([host, load].map((child) => once(child, 'exit')));

  for (const [i, { threads, niceness }] of JOBS.entries()) {
    /** @param {keyof Round} name */
    const values = (name) => measured[i].map((round) => round[name]);
    const requests = pairedRatio(values('requests'), values('idleRequests'));
    const rate = pairedRatio(values('rate'), values('idleRate'));
    const [delay, delayUnderLoad] = [summarize(values('delay')), summarize(values('delayUnderLoad'))];
    const failed = values('failed').reduce((a, b) => a + b);
    const name = `service: job on ${threads} ${threads === 1 ? 'thread' : 'threads'}, niceness ${niceness}`;
    const pacedRequests = summarize(values('pacedRequests'));
    const pacedRate = pairedRatio(values('pacedRate'), values('idleRate'));
    const pacedDelay = summarize(values('pacedDelay'));
    results.push({
      name,
      requests,
      rate,
      delay,
      delayUnderLoad,
      failed,
      pacedRequests,
      pacedRate,
      pacedDelay,
      rounds: measured[i],
    });
    console.log(
      `${name.padEnd(42)} event loop ${delay.median.toFixed(1)} ms, under load ${delayUnderLoad.median.toFixed(1)} ms (99th percentile); ` +
        `requests ${requests.median.toFixed(2)} of ${summarize(values('idleRequests')).median.toFixed(0)}/s, ${failed} failed; ` +
        `job ${rate.median.toFixed(2)} of ${summarize(values('idleRate')).median.toFixed(0)} images/s; ` +
        `of ${PACE} requests a second ${pacedRequests.median.toFixed(2)}, ${pacedDelay.median.toFixed(1)} ms late (99th percentile), job ${pacedRate.median.toFixed(2)}`,
    );
    bar(`${name}: event loop delay, ms`, delay, { most: 10 });
    bar(`${name}: requests, of idle`, requests, { least: 0.8 });
    bar(`${name}: failed requests`, failed, { most: 0 });
    bar(`${name}: images a second, of idle`, rate, { least: 0.5 });
  }
}
