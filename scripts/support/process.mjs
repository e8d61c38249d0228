import { spawn } from 'node:child_process';
import { accessSync, constants, createWriteStream } from 'node:fs';
import { delimiter, join } from 'node:path';
import { finished } from 'node:stream/promises';

/** @import { Environment } from './paths.mjs' */

/**
 * The path of a program on PATH, or undefined. A name with a slash is looked at as it is.
 * @param {string} program
 * @param {Environment} [env]
 */
export function which(program, env = process.env) {
  const candidates = program.includes('/')
    ? [program]
    : (env.PATH ?? '').split(delimiter).map((folder) => join(folder || '.', program));
  return candidates.find(isExecutable);
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * What a program left. `code` is null when the signal `endedBy` ended it.
 * @typedef {{ code: number | null, endedBy: NodeJS.Signals | null, stdout: string, stderr: string }} Ended
 */

/**
 * Runs a program to its end. One that cannot be started rejects.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {object} [options]
 * @param {string} [options.cwd]
 * @param {Environment | undefined} [options.env]
 * @param {string} [options.log] a file that both outputs are appended to
 * @param {boolean} [options.inherit] standard output goes to the user, and `stdout` stays empty
 * @param {AbortSignal | undefined} [options.signal] ends the program
 * @param {number} [options.timeout] milliseconds
 * @param {string} [options.input]
 * @returns {Promise<Ended>}
 */
export async function run(program, args, { cwd, env, log, inherit = false, signal, timeout, input } = {}) {
  const child = spawn(program, args, {
    cwd,
    env: env ?? process.env,
    signal,
    timeout,
    stdio: [input === undefined ? 'ignore' : 'pipe', inherit ? 'inherit' : 'pipe', 'pipe'],
  });
  const file = log === undefined ? undefined : createWriteStream(log, { flags: 'a' });
  const output = { stdout: '', stderr: '' };
  for (const name of /** @type {const} */ (['stdout', 'stderr'])) {
    child[name]?.setEncoding('utf8').on('data', (text) => {
      output[name] += text;
      file?.write(text);
    });
  }
  child.stdin?.end(input);
  try {
    /** @type {[code: number | null, endedBy: NodeJS.Signals | null]} */
    const [code, endedBy] = await new Promise((resolve, reject) => {
      child.once('error', reject).once('close', (...end) => resolve(end));
    });
    return { code, endedBy, ...output };
  } finally {
    if (file !== undefined) {
      file.end();
      await finished(file);
    }
  }
}

/**
 * The last lines of a text that are worth showing to a person.
 * @param {string} text
 */
export function tail(text, lines = 15) {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .slice(-lines)
    .join('\n');
}
