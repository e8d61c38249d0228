// Runs the built command line as a process of its own.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';

export const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');

export interface Ended {
  /** The exit code, or the signal that ended the process. */
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A command in progress. */
export interface Started {
  readonly process: ChildProcessByStdio<null, Readable, Readable>;
  readonly ended: Promise<Ended>;
  /** The first JSON line on standard output that satisfies `test`; rejects when the process ends without one. */
  line(test: (event: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
}

export function start(args: readonly string[], { env, ...options }: RunOptions = {}): Started {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // One thread each: two processes that train on two cores must not wait for each other's.
    env: { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1', ...env },
    ...options,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code: code ?? signal!, stdout, stderr }));
  });
  const line: Started['line'] = (test) =>
    new Promise((resolve, reject) => {
      let looked = 0;
      const look = (): void => {
        const whole = stdout.slice(0, stdout.lastIndexOf('\n') + 1);
        const lines = whole.split('\n').slice(0, -1);
        for (; looked < lines.length; looked++) {
          const event = JSON.parse(lines[looked]!) as Record<string, unknown>;
          if (!test(event)) continue;
          child.stdout.off('data', look);
          resolve(event);
          return;
        }
      };
      child.stdout.on('data', look);
      look();
      ended.then(({ code }) => reject(new Error(`ended with ${code} before the line came: ${stderr}`)));
    });
  return { process: child, ended, line };
}

/** Resolves when the command serves signals, not only dies of them. Of these SIGHUP is the one that Node itself lets be. */
export async function servesSignals({ process: child, ended }: Started): Promise<void> {
  let isOver = false;
  void ended.finally(() => {
    isOver = true;
  });
  for (let caught = 0n; (caught & 1n) === 0n && !isOver; await sleep(5)) {
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    caught = BigInt(`0x${/^SigCgt:\s*(\w+)/m.exec(status)?.[1] ?? 0}`);
  }
}

/** Resolves when the command has a file of this folder open. */
export async function readsIn(folder: string, { process: child, ended }: Started): Promise<void> {
  let isOver = false;
  void ended.finally(() => {
    isOver = true;
  });
  const opened = (): string[] =>
    readdirSync(`/proc/${child.pid}/fd`).map((name) => linkOf(`/proc/${child.pid}/fd/${name}`));
  while (!isOver && !opened().some((file) => file.startsWith(folder))) await sleep(5);
}

/** '' where the file has been closed by now. */
function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}

export const layerwise = (args: readonly string[], options: RunOptions = {}): Promise<Ended> =>
  start(args, options).ended;

export const jsonLines = (text: string): Record<string, unknown>[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** A folder for the files of a test file, removed at its end. Its name has a space and an accent, as people's have. */
export function temporaryFolder(): (...parts: string[]) => string {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise café '));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return (...parts) => join(folder, ...parts);
}

/** Flags of a run of less than a second. */
export const TINY = [
  ...['--width', '2', '--layers', '2', '--epochs', '2', '--batch-size', '32', '--train-limit', '64'],
  ...['--test-limit', '40', '--device', 'cpu', '--precision', 'fp32'],
];
