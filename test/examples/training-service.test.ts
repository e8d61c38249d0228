// The example of an app of one's own with the training service in it, over HTTP.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { askJson, endless, hasCheckpoint, hasStepped, type RunAnswer, tiny, untilRun } from '../server/services.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-service-'));
let app: ChildProcess;
let address = '';

beforeAll(async () => {
  const program = join(import.meta.dirname, '..', '..', 'examples', 'training-service.mjs');
  app = spawn(process.execPath, [program], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PORT: '0', RUNS: folder },
  });
  const lines = createInterface({ input: app.stdout! });
  for await (const line of lines) {
    address = /Server listening at (http:[^"]+)/.exec(line)?.[1] ?? '';
    if (address !== '') break;
  }
  // Whoever reads no further lets the pipe fill.
  app.stdout!.resume();
  expect(address).toMatch(/^http:/);
});

afterAll(async () => {
  app.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

function call(method: string, path: string, body?: object): Promise<{ status: number; body: RunAnswer }> {
  return askJson(`${address}${path}`, { method, body });
}

/** Waits until a run is as `test` wants it. */
function until(id: string, test: (run: RunAnswer) => boolean): Promise<RunAnswer> {
  return untilRun(async () => (await call('GET', `/training/runs/${id}`)).body, test);
}

it('has its own page, and the service’s below /training', async () => {
  expect(await (await fetch(address)).text()).toContain('an app of one’s own');
  for (const path of ['/training', '/training/']) {
    expect(await (await fetch(`${address}${path}`)).text()).toContain('<title>layerwise</title>');
  }
  const document = (await call('GET', '/training/openapi.json')).body;
  expect(document).toMatchObject({ openapi: expect.any(String), paths: { '/training/runs': expect.any(Object) } });
});

it('trains what its own comment asks for, and stops it', async () => {
  const { status, body } = await call('POST', '/training/runs', { dataset: 'shapes' });
  expect([status, body.dataset]).toEqual([201, 'shapes']);
  expect(await call('POST', `/training/runs/${body.id}/cancel`)).toMatchObject({ body: { state: 'cancelled' } });
});

it('a run ends with its result, and one is stopped with a checkpoint at the end of the app', async () => {
  await call('POST', '/training/runs', { id: 'one', dataset: 'shapes', recipe: tiny });
  const { error, result } = await until('one', ({ state }) => state === 'finished');
  expect([error, (result as { layers: unknown[] }).layers.length]).toEqual([null, 2]);
  await call('POST', '/training/runs', { id: 'two', dataset: 'shapes', recipe: endless });
  await until('two', hasStepped);
  app.kill('SIGTERM');
  expect(await once(app, 'exit')).toEqual([0, null]);
  expect(hasCheckpoint(join(folder, 'two'))).toBe(true);
});
