import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import {
  overrideRecipe,
  presetRecipe,
  resume,
  type TrainingEvent,
  TrainingInterrupted,
  train,
} from '../../lib/training/index.js';

const root = mkdtempSync(join(tmpdir(), 'layerwise-lock-'));
afterAll(() => rmSync(root, { recursive: true }));

const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { onCuda: false }), {
  model: { width: 2, layers: 2 },
  dataset: { trainLimit: 64, testLimit: 20 },
  training: { epochs: 1, batchSize: 32, milestones: [] },
  evaluation: { batchSize: 20 },
  precision: 'fp32',
});

it('refuses a second trainer of a run while the first one trains, and leaves no lock behind', async () => {
  const out = join(root, 'run');
  let refused: Promise<unknown> | null = null;
  await train({
    recipe,
    out,
    onEvent: (event) => {
      if (event.type === 'epoch') refused ??= resume(out).catch((error: Error) => error);
    },
  });
  expect(await refused).toMatchObject({
    code: 'RUN_DIRECTORY',
    message: `${out}: process ${process.pid} on ${hostname()} is training this run`,
  });
  expect(readdirSync(out)).not.toContain('run.lock');
  expect(existsSync(join(out, 'result.json'))).toBe(true);
});

it('takes over the lock of a process that is gone', async () => {
  const out = join(root, 'killed');
  const controller = new AbortController();
  const onEvent = ({ type }: TrainingEvent): void => {
    if (type === 'start') controller.abort();
  };
  await expect(train({ recipe, out, signal: controller.signal, onEvent })).rejects.toThrow(TrainingInterrupted);
  // The largest process id that Linux can give is 2^22.
  const gone = { pid: 2 ** 22 + 1, host: hostname(), started: '1', token: 'gone' };
  writeFileSync(join(out, 'run.lock'), JSON.stringify(gone));
  const { result } = await resume(out);
  expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
});
