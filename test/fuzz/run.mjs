// npm run fuzz -- [--count N] [--seed S] [--only FORMAT] [--case I]
//
// Runs the cases in a child process, so that one that ends the process, or never ends, is a failure like any other: it is
// told with its seed and number, and the run goes on behind it. The exit code is 1 when a case has failed.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/**
 * A case, by the place of its format in the list.
 * @typedef {{ format: number, number: number }} Position
 *
 * @typedef {object} FuzzRequest
 * @property {string} formats the file that exports the list
 * @property {string} [only] the name of one format
 * @property {number} seed
 * @property {number} first the first case of each format
 * @property {number} count
 * @property {Position} from where to begin
 *
 * @typedef {Position & { name: string }} Running a case that begins
 * @typedef {Running | { failed: string, running: Running } | { summary: string } | { done: true }} FuzzEvent a line of the child
 */

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    case: { type: 'string' },
    // For the test of this program: another list of formats, and other seconds until a case counts as endless.
    formats: { type: 'string', default: fileURLToPath(new URL('formats.ts', import.meta.url)) },
    limit: { type: 'string', default: '120' },
  },
});

/** More failures than this are one failure told often. */
const MOST_FAILURES = 20;

const request = {
  formats: values.formats,
  only: values.only,
  seed: integer('seed'),
  first: values.case === undefined ? 0 : integer('case'),
  count: values.case === undefined ? integer('count') : 1,
};
const limit = integer('limit');

let failures = 0;
/**
 * Where the next child goes on; null when all is done.
 * @type {Position | null}
 */
let from = { format: 0, number: request.first };
while (from !== null) from = await runFrom(from);
process.exitCode = failures === 0 ? 0 : 1;

/** @param {'seed' | 'case' | 'count' | 'limit'} name */
function integer(name) {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`expected an integer from 0 for --${name}, got ${values[name]}`);
  process.exit(2);
}

/**
 * @param {Running} running
 * @param {string} how
 */
function fail({ name, number }, how) {
  console.log(`FAILED ${name}, case ${number}: ${how}`);
  const build = process.env.LAYERWISE_SANITIZE ? ` --sanitize ${process.env.LAYERWISE_SANITIZE}` : '';
  console.log(`  again: npm run fuzz --${build} --only ${name} --seed ${request.seed} --case ${number}`);
  if (++failures < MOST_FAILURES) return;
  console.log(`stopped after ${failures} failures`);
  process.exit(1);
}

/**
 * Runs a child until all is done, or until it ends in the middle of a case. Returns where the next one goes on.
 * @param {Position} start
 * @returns {Promise<Position | null>}
 */
async function runFrom(start) {
  const child = spawn(process.execPath, [fileURLToPath(new URL('child.mjs', import.meta.url))], {
    stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
  });
  const { stdin, stderr } = child;
  const events = child.stdio[3];
  if (stdin === null || stderr === null || !(events instanceof Readable)) throw new Error('a child has no pipes');
  stdin.end(JSON.stringify({ ...request, from: start }));
  let errors = '';
  stderr.setEncoding('utf8').on('data', (text) => {
    errors = (errors + text).slice(0, 8000);
  });
  /** @type {{ running: Running | null, isDone: boolean, isEndless: boolean }} */
  const told = { running: null, isDone: false, isEndless: false };
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  createInterface({ input: events }).on('line', (line) => {
    /** @type {FuzzEvent} */
    const event = JSON.parse(line);
    if ('failed' in event) fail(event.running, event.failed);
    if ('summary' in event) console.log(event.summary);
    if ('done' in event) told.isDone = true;
    if (!('number' in event)) return;
    told.running = event;
    clearTimeout(timer);
    timer = setTimeout(() => {
      told.isEndless = true;
      child.kill('SIGKILL');
    }, limit * 1000);
  });
  /** @type {Promise<[number | null, NodeJS.Signals | null]>} */
  const closed = new Promise((resolve) => child.once('close', (...end) => resolve(end)));
  const [code, signal] = await closed;
  clearTimeout(timer);
  const { running, isDone, isEndless } = told;
  if (isDone) return null;
  const end = isEndless ? `no end after ${limit} s` : (signal ?? `exit code ${code}`);
  if (running === null) {
    console.error(`no case could be started: ${end}\n${errors}`);
    process.exit(1);
  }
  fail(running, `${end}\n${errors}`.trimEnd());
  return { format: running.format, number: running.number + 1 };
}
