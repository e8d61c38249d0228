// A service that trains two runs at a time while five clients upload good and bad images: every request has the answer that it must
// have, and every run ends with the same bits, whether it was paused or not.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MOST_UPLOAD_BYTES, uploads } from './client-images.mjs';
import { quantile } from './statistics.mjs';

/** @import { ChildProcess } from 'node:child_process' */
/** @import { Upload } from './client-images.mjs' */
/** @import { Bar } from './statistics.mjs' */

/** @typedef {{ status: number, body: Buffer }} Answer */

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const CLIENTS = 5;
const RUNS_AT_ONCE = 2;
/** Between two requests of a client: below the service's limit for an address. */
const PAUSE_MS = 110;

const RECIPE = {
  preset: 'vgg11-layerwise',
  dataset: 'shapes',
  recipe: {
    model: { width: 8, layers: 3 },
    dataset: { trainLimit: 2000, testLimit: 200 },
    training: { epochs: 4, batchSize: 64, milestones: [3] },
  },
};

/** A client with an address of its own, as the service's limits see it. */
class Client {
  /**
   * @param {number} port
   * @param {number} number
   */
  constructor(port, number) {
    this.port = port;
    this.localAddress = `127.0.0.${10 + number}`;
    this.agent = new Agent({ keepAlive: true });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{ type: string, body: Buffer } | null} [sent]
   * @returns {Promise<Answer>}
   */
  ask(method, path, sent = null) {
    const { port, localAddress, agent } = this;
    const headers = sent === null ? {} : { 'content-type': sent.type, 'content-length': sent.body.length };
    return new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port, localAddress, agent, method, path, headers }, (answer) => {
        /** @type {Buffer[]} */
        const parts = [];
        answer.on('data', (part) => parts.push(part));
        answer.on('error', reject);
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts) }));
      });
      asked.on('error', reject);
      asked.end(sent?.body);
    });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [value]
   */
  async json(method, path, value) {
    const sent = value === undefined ? null : { type: 'application/json', body: Buffer.from(JSON.stringify(value)) };
    const { status, body } = await this.ask(method, path, sent);
    if (status >= 300) throw new Error(`${method} ${path}: got ${status}, ${body}`);
    return JSON.parse(String(body));
  }

  close() {
    this.agent.destroy();
  }
}

/** What has been seen. */
class Record {
  /** By what was asked for. @type {Map<string, { milliseconds: number[], lost: number }>} */
  kinds = new Map();
  /** @type {string[]} */
  problems = [];

  /**
   * @param {string} kind
   * @param {() => Promise<string | null>} work Resolves with what is wrong with the answer.
   */
  async take(kind, work) {
    const seen = this.kinds.get(kind) ?? { milliseconds: [], lost: 0 };
    this.kinds.set(kind, seen);
    const started = performance.now();
    const problem = await work().catch((error) => String(error));
    seen.milliseconds.push(performance.now() - started);
    if (problem === null) return;
    seen.lost++;
    this.problems.push(`${kind}: ${problem}`);
  }
}

/**
 * What is wrong with an answer. Of good images the first answer is kept in `classes`.
 * @param {Upload} upload
 * @param {Answer} answer
 * @param {Map<string, string>} classes
 */
function problemOf({ name, status, code }, answer, classes) {
  const got = JSON.parse(String(answer.body));
  if (answer.status !== status || (got.code ?? null) !== code) {
    return `expected ${status} ${code ?? ''}, got ${answer.status} ${answer.body}`;
  }
  if (code !== null) return null;
  const [{ predictions }] = got.layers;
  const told = JSON.stringify(predictions.map((/** @type {{ class: string }} */ found) => found.class));
  const before = classes.get(name) ?? told;
  classes.set(name, before);
  return told === before ? null : `expected ${before}, got ${told}`;
}

/**
 * Uploads one image after another until `end`.
 * @param {Client} client
 * @param {{ end: number, record: Record, images: Upload[], classes: Map<string, string>, first: number }} options
 */
async function upload(client, { end, record, images, classes, first }) {
  for (let i = first; performance.now() < end; i++) {
    const image = images[i % images.length];
    const kind = image.status === 200 ? 'good images' : `bad images (${image.status})`;
    await record.take(kind, async () =>
      problemOf(image, await client.ask('POST', '/runs/model/classify?top=3', image), classes),
    );
    await sleep(PAUSE_MS);
  }
}

/**
 * A digest of a finished run, or why there is none.
 * @param {Client} client
 * @param {string} id
 */
async function digestOf(client, id) {
  const { status, body } = await client.ask('GET', `/runs/${id}/weights`);
  if (status !== 200) throw new Error(`run ${id}: expected its weights, got ${status}`);
  return createHash('sha256').update(body).digest('hex');
}

/**
 * Trains runs one after another until `end`, every second of them with a pause.
 * @param {Client} client
 * @param {{ end: number, record: Record, name: string, wanted: string }} options
 * @returns {Promise<number>} How many.
 */
async function trainOn(client, { end, record, name, wanted }) {
  let runs = 0;
  for (; performance.now() < end; runs++) {
    const id = `${name}-${runs}`;
    await record.take('runs', async () => {
      await client.json('POST', '/runs', { ...RECIPE, id });
      if (runs % 2 === 1) {
        await sleep(2000);
        await client.json('POST', `/runs/${id}/pause`);
        await sleep(500);
        await client.json('POST', `/runs/${id}/resume`);
      }
      await ended(client, id);
      const digest = await digestOf(client, id);
      return digest === wanted ? null : `${id} has other bits than the first run`;
    });
  }
  return runs;
}

/**
 * @param {Client} client
 * @param {string} id
 */
async function ended(client, id) {
  for (;;) {
    const { state, error } = await client.json('GET', `/runs/${id}`);
    if (state === 'finished') return;
    if (!['queued', 'running'].includes(state)) throw new Error(`run ${id} is ${state}: ${JSON.stringify(error)}`);
    await sleep(1000);
  }
}

/** Starts `layerwise serve` in a folder; gives its port. */
async function serve(/** @type {string} */ folder) {
  const flags = ['--runs', folder, '--port', '0', '--concurrency', String(RUNS_AT_ONCE)];
  const limits = ['--max-upload-bytes', String(MOST_UPLOAD_BYTES)];
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags, ...limits], { stdio: ['ignore', 'pipe', 'inherit'] });
  /** Lines of the log that tell of a fault of the server's. @type {string[]} */
  const faults = [];
  /** @type {number} */
  const port = await new Promise((resolve, reject) => {
    child.on('exit', (code) => reject(new Error(`the service ended with code ${code}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { level, msg } = JSON.parse(line);
      if (level >= 50) faults.push(line);
      const [, port] = /listening at http:\/\/127\.0\.0\.1:(\d+)/.exec(msg) ?? [];
      if (port !== undefined) resolve(Number(port));
    });
  });
  return { child, port, faults };
}

/** @param {ChildProcess} child */
function residentMegabytes({ pid }) {
  const [, kibibytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kibibytes) / 1024;
}

/**
 * Resident memory once a second until `end`.
 * @param {ChildProcess} child
 * @param {number} end
 */
async function watchMemory(child, end) {
  /** @type {number[]} */
  const samples = [];
  for (; performance.now() < end; await sleep(1000)) samples.push(residentMegabytes(child));
  return samples;
}

/** @param {number[]} samples */
const middle = (samples) =>
  quantile(
    [...samples].sort((a, b) => a - b),
    0.5,
  );

/**
 * Prints a line for each kind of request; tells `bar` of each value that is to be reached, and adds to `results`.
 * @param {{ minutes: number, results: object[], bar: (name: string, measured: number, wanted: Bar) => void }} options
 */
export async function benchClients({ minutes, results, bar }) {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-clients-'));
  const { child, port, faults } = await serve(folder);
  const owner = new Client(port, 0);
  const record = new Record();
  try {
    await owner.json('POST', '/runs', { ...RECIPE, id: 'model' });
    await ended(owner, 'model');
    const wanted = await digestOf(owner, 'model');
    const images = await uploads();
    /** @type {Map<string, string>} */
    const classes = new Map();
    const end = performance.now() + 60_000 * minutes;
    const clients = Array.from({ length: CLIENTS }, (_, i) => new Client(port, 1 + i));
    const [memory, ...runs] = await Promise.all([
      watchMemory(child, end),
      ...Array.from({ length: RUNS_AT_ONCE }, (_, i) => trainOn(owner, { end, record, name: `run-${i}`, wanted })),
      ...clients.map(async (client, i) => {
        await upload(client, { end, record, images, classes, first: 7 * i });
        client.close();
        return 0;
      }),
    ]);
    report({ minutes, record, faults, memory, runs: runs.reduce((a, b) => a + b), results, bar });
  } finally {
    owner.close();
    child.removeAllListeners('exit');
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'exit');
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {{ minutes: number, record: Record, faults: string[], memory: number[], runs: number, results: object[],
 *   bar: (name: string, measured: number, wanted: Bar) => void }} seen
 */
function report({ minutes, record, faults, memory, runs, results, bar }) {
  const third = Math.floor(memory.length / 3);
  const [early, late] = [middle(memory.slice(third, 2 * third)), middle(memory.slice(-third))];
  console.log(`clients: ${minutes} minutes, ${CLIENTS} clients, ${runs} runs, ${RUNS_AT_ONCE} at a time`);
  let lost = 0;
  for (const [kind, seen] of [...record.kinds].sort(([a], [b]) => a.localeCompare(b))) {
    const sorted = [...seen.milliseconds].sort((a, b) => a - b);
    lost += seen.lost;
    const [median, high] = [quantile(sorted, 0.5), quantile(sorted, 0.99)];
    results.push({ name: `clients: ${kind}`, count: sorted.length, lost: seen.lost, median, high });
    console.log(
      `  ${kind.padEnd(22)} ${String(sorted.length).padStart(6)}, ${seen.lost} lost; ${median.toFixed(0)} ms, 99th percentile ${high.toFixed(0)} ms`,
    );
  }
  console.log(`  resident memory ${early.toFixed(0)} MiB, then ${late.toFixed(0)} MiB`);
  for (const problem of [...new Set([...record.problems, ...faults])].slice(0, 20)) console.log(`  ${problem}`);
  results.push({ name: 'clients: memory', early, late });
  bar('clients: requests and runs that were lost', lost, { most: 0 });
  bar('clients: faults in the log of the service', faults.length, { most: 0 });
}
