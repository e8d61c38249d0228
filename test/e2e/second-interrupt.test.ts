import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';

const root = mkdtempSync(join(tmpdir(), 'layerwise-second-interrupt-'));
afterAll(() => rmSync(root, { recursive: true }));
const main = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');
const endlessStep = join(import.meta.dirname, 'programs', 'endless-step.cjs');

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

it('a second Ctrl-C ends the process in the middle of a step that would never end, with 130', async () => {
  const out = join(root, 'run');
  const began = join(root, 'began');
  const flags = ['--train-limit', '20', '--test-limit', '10', '--batch-size', '10', '--width', '4'];
  const child = spawn(process.execPath, ['--require', endlessStep, main, 'train', '--json', ...flags, '--out', out], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: '1', LAYERWISE_TEST_BEGAN: began },
  });
  const ended = once(child, 'exit');
  const notes: string[] = [];
  createInterface(child.stderr).on('line', (line) => notes.push(line));

  await until(() => existsSync(began) || child.exitCode !== null);
  child.kill('SIGINT');
  await until(() => notes.includes('Stopping. Ctrl-C again stops at once.') || child.exitCode !== null);
  // The first waits for the step, and for its checkpoint.
  await sleep(700); // Closer together they would be one wish.
  expect(child.exitCode).toBe(null);
  child.kill('SIGINT');
  expect(await ended, notes.join('\n')).toEqual([130, null]);
  expect(existsSync(join(out, 'config.json'))).toBe(true);
  expect(existsSync(join(out, 'checkpoint')), 'the step was not finished').toBe(false);
});
