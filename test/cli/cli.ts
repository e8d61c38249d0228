// Runs the built command line as a process of its own.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterAll } from 'vitest';

const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');

export interface Ended {
  /** The exit code, or the signal that ended the process. */
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command in progress. */
export interface Started {
  readonly process: ChildProcessByStdio<null, Readable, Readable>;
  readonly ended: Promise<Ended>;
  /** The first JSON line on standard output that satisfies `test`; rejects when the process ends without one. */
  line(test: (event: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
}

export function start(args: readonly string[], options: { cwd?: string } = {}): Started {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // One thread each: two processes that train on two cores must not wait for each other's.
    env: { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' },
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

export const layerwise = (args: readonly string[], options: { cwd?: string } = {}): Promise<Ended> =>
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
