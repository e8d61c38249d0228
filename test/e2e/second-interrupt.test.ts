import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';

const root = mkdtempSync(join(tmpdir(), 'layerwise-second-interrupt-'));
afterAll(() => rmSync(root, { recursive: true }));
const main = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');

it('a second Ctrl-C ends the process in the middle of a long step, with 130', async () => {
  const out = join(root, 'run');
  // One step of 4,000 images at width 48 takes many seconds on one thread.
  const flags = [
    '--train-limit',
    '4000',
    '--test-limit',
    '10',
    '--batch-size',
    '4000',
    '--width',
    '48',
    '--precision',
    'fp32',
  ];
  const child = spawn(process.execPath, [main, 'train', '--json', ...flags, '--out', out], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  const ended = once(child, 'exit');
  await once(child.stdout, 'data'); // The start event: the first step begins.
  child.kill('SIGINT');
  const [note] = await once(child.stderr, 'data');
  expect(String(note)).toBe('Stopping. Ctrl-C again stops at once.\n');
  // Closer together they would be one wish.
  await sleep(700);
  child.kill('SIGINT');
  expect(await ended).toEqual([130, null]);
  // The first would have waited for the step, and for its checkpoint.
  expect(existsSync(join(out, 'config.json'))).toBe(true);
  expect(existsSync(join(out, 'checkpoint')), 'the step was not finished').toBe(false);
});
