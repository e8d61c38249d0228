import { spawn } from 'node:child_process';
import { accessSync, constants, createWriteStream } from 'node:fs';
import { delimiter, join } from 'node:path';
import { finished } from 'node:stream/promises';

/** The path of a program on PATH, or undefined. A name with a slash is looked at as it is. */
export function which(program, env = process.env) {
  const candidates = program.includes('/')
    ? [program]
    : (env.PATH ?? '').split(delimiter).map((folder) => join(folder || '.', program));
  return candidates.find(isExecutable);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs a program to its end: `{ code, endedBy, stdout, stderr }`, where code is null when the signal `endedBy` ended it. A program that
 * cannot be started rejects. `log` appends both outputs to a file; `inherit` shows standard output to the user as
 * well; `signal` ends the program.
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
  for (const name of ['stdout', 'stderr']) {
    child[name]?.setEncoding('utf8').on('data', (text) => {
      output[name] += text;
      file?.write(text);
    });
  }
  child.stdin?.end(input);
  try {
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

/** The last lines of a text that are worth showing to a person. */
export function tail(text, lines = 15) {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .slice(-lines)
    .join('\n');
}
