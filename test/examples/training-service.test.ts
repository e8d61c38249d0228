// The example of an HTTP service, over HTTP.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-service-'));
let service: ChildProcess;
let address = '';

beforeAll(async () => {
  const program = join(import.meta.dirname, '..', '..', 'examples', 'training-service.mjs');
  service = spawn(process.execPath, [program], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PORT: '0', RUNS: folder },
  });
  const [line] = await once(service.stdout!.setEncoding('utf8'), 'data');
  address = /^listening on (http:\S+);/.exec(line)![1]!;
});
afterAll(async () => {
  service.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  readonly id: string;
  readonly status: string;
  readonly runDirectory: string;
  readonly last: { readonly type: string } | null;
  readonly result: { readonly layers: readonly unknown[] } | null;
  readonly error: string | null;
}

async function call(method: string, path: string, body?: string): Promise<[number, Run]> {
  const response = await fetch(`${address}${path}`, { method, ...(body === undefined ? {} : { body }) });
  return [response.status, (await response.json()) as Run];
}

const recipe = (epochs: number): string =>
  JSON.stringify({
    ...{ device: 'cpu', threads: 1, model: { width: 2, layers: 2 }, dataset: { trainLimit: 60, testLimit: 20 } },
    training: { epochs, milestones: [] },
  });

/** Waits until a run is as `test` wants it. */
async function until(id: string, test: (run: Run) => boolean): Promise<Run> {
  let run: Run;
  await expect
    .poll(
      async () => {
        [, run] = await call('GET', `/runs/${id}`);
        return test(run);
      },
      { timeout: 50_000 },
    )
    .toBe(true);
  return run!;
}

it('a run is started, watched, stopped with a checkpoint, gone on with', async () => {
  const [code, started] = await call('POST', '/runs', recipe(100_000));
  expect([code, started.status, started.runDirectory]).toEqual([201, 'running', `${folder}/${started.id}`]);
  // Training does not keep the service from answering.
  await until(started.id, ({ last }) => last !== null);
  expect(await call('POST', `/runs/${started.id}/resume`)).toEqual([409, { error: `run ${started.id} is running` }]);
  expect(await call('DELETE', `/runs/${started.id}`)).toMatchObject([200, { status: 'stopped' }]);
  expect(existsSync(join(started.runDirectory, 'checkpoint', 'state.json'))).toBe(true);
  expect(await call('POST', `/runs/${started.id}/resume`)).toMatchObject([200, { status: 'running', last: null }]);
  await until(started.id, ({ last }) => last !== null);
  expect(await call('DELETE', `/runs/${started.id}`)).toMatchObject([200, { status: 'stopped' }]);
});

it('a run ends with its result, and leaves nothing to stop or to go on with', async () => {
  const [, { id }] = await call('POST', '/runs', recipe(1));
  const { status, result, error } = await until(id, (run) => run.status !== 'running');
  expect([status, result?.layers.length, error]).toEqual(['done', 2, null]);
  expect(await call('DELETE', `/runs/${id}`)).toMatchObject([200, { status: 'done' }]);
  expect(await call('POST', `/runs/${id}/resume`)).toEqual([409, { error: `run ${id} is done` }]);
});

it('what is wrong is answered', async () => {
  for (const body of ['{', '5', '{"width": 1}', '{"seed": -1}']) {
    expect(await call('POST', '/runs', body), body).toMatchObject([400, { error: expect.any(String) }]);
  }
  expect(await call('GET', '/runs/99')).toEqual([404, { error: 'no run 99' }]);
  expect(await call('GET', '/')).toEqual([404, { error: 'not found' }]);
  const [, { id }] = await call(
    'POST',
    '/runs',
    JSON.stringify({ dataset: { name: 'cifar10', dataDir: join(folder, 'none') } }),
  );
  const { status, error } = await until(id, (run) => run.status !== 'running');
  expect([status, error]).toEqual(['failed', expect.stringContaining('no CIFAR-10 in')]);
});
