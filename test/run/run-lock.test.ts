import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { resume, train } from '../../lib/training/index.js';
import { startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();

const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { onCuda: false }), {
  model: { width: 2, layers: 2 },
  dataset: { trainLimit: 64, testLimit: 20 },
  training: { epochs: 1, batchSize: 32, milestones: [] },
  evaluation: { batchSize: 20 },
  precision: 'fp32',
});

it('refuses a second trainer of a run while the first one trains, and leaves no lock behind', async () => {
  const out = at('run');
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
    message:
      `${out}: another program is at work on this run (process ${process.pid} on host ${hostname()}, for less than a ` +
      `minute): wait for it, or remove ${out}/run.lock if you are sure that it has ended`,
  });
  expect(readdirSync(out)).not.toContain('run.lock');
  expect(existsSync(join(out, 'result.json'))).toBe(true);
});

/** A run that was stopped after its first step, with the lock that it had. */
async function stoppedRun(out: string): Promise<Record<string, unknown>> {
  let lock = '';
  const onEvent = (): void => {
    lock = readFileSync(join(out, 'run.lock'), 'utf8');
  };
  await startAndStop({ recipe, out, onEvent });
  return JSON.parse(lock);
}

const layersOf = ({ result }: Awaited<ReturnType<typeof resume>>) => result.layers.map(({ layer }) => layer);

it('takes over the lock of a process that is gone', async () => {
  const out = at('killed');
  const lock = await stoppedRun(out);
  // The largest process id that Linux can give is 2^22.
  writeFileSync(join(out, 'run.lock'), JSON.stringify({ ...lock, pid: 2 ** 22 + 1 }));
  expect(layersOf(await resume(out))).toEqual([0, 1]);
});

it('takes over an empty lock, which a full disk left', async () => {
  const out = at('empty');
  await stoppedRun(out);
  writeFileSync(join(out, 'run.lock'), '');
  expect(layersOf(await resume(out))).toEqual([0, 1]);
});

it("waiting to see whether another host's holder lives is given up on an abort", async () => {
  const out = at('elsewhere');
  const lock = await stoppedRun(out);
  const record = JSON.stringify({ ...lock, host: 'elsewhere', pidSpace: 'elsewhere' });
  writeFileSync(join(out, 'run.lock'), record);
  const controller = new AbortController();
  const waiting = resume(out, { signal: controller.signal });
  setTimeout(() => controller.abort(), 50);
  await expect(waiting).rejects.toMatchObject({
    code: 'INTERRUPTED',
    message: `training was interrupted; go on with --resume ${out}`,
  });
  expect(readFileSync(join(out, 'run.lock'), 'utf8')).toBe(record);
});

it.each([
  ['taken by another', (file: string) => writeFileSync(file, '{"pid": 7, "host": "elsewhere", "token": "theirs"}')],
  ['removed', (file: string) => rmSync(file)],
])('a run whose lock was %s in the meantime stops with an error, and writes nothing more', async (name, lose) => {
  const out = at(name);
  let before: string[] = [];
  const lost = train({
    recipe,
    out,
    checkpointSeconds: 0,
    onEvent: (event) => {
      // There is one checkpoint by now.
      if (event.type !== 'step' || event.step !== 2) return;
      lose(join(out, 'run.lock'));
      before = contentsOf(out);
    },
  });
  await expect(lost).rejects.toMatchObject({ code: 'LOCK_LOST', message: expect.stringContaining(`${out}/run.lock`) });
  expect(before.length).toBeGreaterThanOrEqual(3);
  expect(contentsOf(out)).toEqual(before);
});

function contentsOf(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map(({ parentPath, name }) => `${name} ${readFileSync(join(parentPath, name), 'base64')}`).sort();
}
