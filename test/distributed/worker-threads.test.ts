// Worker threads as ranks, beside each other in one process, and one that is ended while it waits.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, expect, it } from 'vitest';
import { joinGroup } from '../../lib/distributed/index.js';
import { full } from '../../lib/tensor/index.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-workers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const library = (path: string): string => JSON.stringify(new URL(`../../dist/${path}`, import.meta.url).href);

/** A worker that joins as rank 1 of 2, says so, and then runs a body with `group` and `full`. */
const start = (file: string, body: string): Worker =>
  new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     (async () => {
       const { joinGroup } = await import(${library('distributed/index.js')});
       const { full } = await import(${library('tensor/index.js')});
       const store = { file: workerData };
       const group = await joinGroup({ rank: 1, worldSize: 2, store, timeoutMs: 5000 });
       parentPort.postMessage('joined');
       ${body}
     })();`,
    { eval: true, workerData: file, execArgv: [] },
  );

const messageOf = (worker: Worker): Promise<unknown> =>
  new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));

it('a worker and the main thread form sums', async () => {
  const file = join(folder, 'sums');
  const worker = start(
    file,
    `const x = full([3], 2);
     await group.allReduce(x);
     parentPort.postMessage(x.toArray());
     await group.leave();`,
  );
  const joined = messageOf(worker);
  const group = await joinGroup({ rank: 0, worldSize: 2, store: { file }, timeoutMs: 20_000 });
  expect(await joined).toBe('joined');
  using x = full([3], 1);
  const summed = messageOf(worker);
  await group.allReduce(x);
  expect(x.toArray()).toEqual([3, 3, 3]);
  expect(await summed).toEqual([3, 3, 3]);
  await Promise.all([group.leave(), new Promise((resolve) => worker.once('exit', resolve))]);
});

it('a worker that is ended in the middle of a collective neither crashes the process nor holds it', async () => {
  for (let round = 0; round < 2; round++) {
    const file = join(folder, `ended-${round}`);
    const worker = start(file, 'for (;;) await group.allReduce(full([100_000], 1));');
    const joined = messageOf(worker);
    const group = await joinGroup({ rank: 0, worldSize: 2, store: { file }, timeoutMs: 1000 });
    await joined;
    using x = full([100_000], 1);
    if (round > 0) await group.allReduce(x);
    await worker.terminate();
    const after = async (): Promise<void> => {
      for (;;) await group.allReduce(x);
    };
    await expect(after()).rejects.toMatchObject({ name: 'DistributedError', missing: [1] });
    await group.leave();
  }
});
