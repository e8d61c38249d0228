// What goes wrong between ranks: who says what, and who is named. Ranks of one process meet by sockets as those of several do.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { DistributedError, type JoinOptions, joinGroup, type ProcessGroup } from '../../lib/distributed/index.js';
import { empty, full, ones, onLibTorchMessage, type Tensor, TensorError, tensor } from '../../lib/tensor/index.js';
import { freePort, inFolder, type RunningRanks, startRanks } from './ranks.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-failures-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let storesMade = 0;

/** What c10d logs beside the errors. */
const logged: string[] = [];
onLibTorchMessage((message) => logged.push(message));

const kept: Tensor[] = [];
function keep(x: Tensor): Tensor {
  kept.push(x);
  return x;
}
const groups: ProcessGroup[] = [];
const running: RunningRanks[] = [];
afterEach(async () => {
  for (const x of kept.splice(0)) x.dispose();
  for (const ranks of running.splice(0)) ranks.end();
  await Promise.all(groups.splice(0).map((group) => group.leave()));
});

async function joinHere(options: JoinOptions): Promise<ProcessGroup> {
  const group = await joinGroup(options);
  groups.push(group);
  return group;
}

/** So many ranks of one group, all of this process. */
function together(worldSize: number, others: Partial<JoinOptions> = {}): Promise<ProcessGroup[]> {
  const store = { file: join(folder, `store-${storesMade++}`) };
  const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
  return Promise.all(ranks.map((rank) => joinHere({ rank, worldSize, store, timeoutMs: 20_000, ...others })));
}

/** The error of a promise that must fail. */
async function errorOf(promise: Promise<unknown>): Promise<DistributedError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DistributedError);
  return error as DistributedError;
}

describe('joining', () => {
  it('names the ranks that do not come', async () => {
    await inFolder(async (folder) => {
      const options = { worldSize: 4, store: { file: `${folder}/store` }, timeoutMs: 500 };
      const errors = await Promise.all([0, 2].map((rank) => errorOf(joinGroup({ ...options, rank }))));
      for (const error of errors) expect(error).toMatchObject({ code: 'TIMEOUT', missing: [1, 3], operation: 'join' });
      expect(errors[0]!.message).toBe('rank 0 of 4: join: not all ranks joined within 500 ms; missing: ranks 1, 3');
    });
  });

  it('says where no store answers, and where one cannot be served', async () => {
    const port = await freePort();
    const store = { host: '127.0.0.1', port };
    const unanswered = await errorOf(joinGroup({ rank: 1, worldSize: 2, store, timeoutMs: 300 }));
    expect(unanswered).toMatchObject({ code: 'TIMEOUT', missing: [] });
    expect(unanswered.message).toBe(`rank 1 of 2: join: no store answered at 127.0.0.1:${port} within 300 ms`);
    const first = joinGroup({ rank: 0, worldSize: 2, store, timeoutMs: 1500 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const second = await errorOf(joinGroup({ rank: 0, worldSize: 2, store, timeoutMs: 1500 }));
    expect(second.code).toBe('STORE_UNAVAILABLE');
    expect(second.message).toContain(`the store could not be served at 127.0.0.1:${port}`);
    expect(await errorOf(first)).toMatchObject({ code: 'TIMEOUT', missing: [1] });
    // Logged errors come without the list of calls that led to them.
    expect(logged.join('\n')).toContain(`failed to connect/validate to host 127.0.0.1:${port} - timed out`);
    expect(logged.join('\n')).not.toMatch(/frame #|Exception raised/);
  });

  it('refuses a rank twice, and a store of an earlier group', async () => {
    await inFolder(async (folder) => {
      const store = { file: `${folder}/store` };
      const options = { worldSize: 2, store, timeoutMs: 400 };
      const outcomes = await Promise.all([0, 0].map((rank) => errorOf(joinGroup({ ...options, rank }))));
      expect(outcomes.map(({ code }) => code).sort()).toEqual(['RANK_TAKEN', 'TIMEOUT']);
      const again = await errorOf(joinGroup({ ...options, rank: 0 }));
      expect(again.code).toBe('RANK_TAKEN');
      expect(again.message).toContain('remove the file');
      // With a prefix of its own a group may use it all the same.
      const other = { ...store, prefix: 'again' };
      const joined = await Promise.all(
        [0, 1].map((rank) => joinHere({ ...options, rank, store: other, timeoutMs: 20_000 })),
      );
      await Promise.all(joined.map((group) => group.barrier()));
    });
  });

  it.each<[string, Partial<JoinOptions>]>([
    ['world sizes', { worldSize: 3 }],
    ['whether to verify', { verify: false }],
  ])('refuses ranks that want different groups: %s', async (_, others) => {
    await inFolder(async (folder) => {
      const options = { worldSize: 2, store: { file: `${folder}/store` }, timeoutMs: 20_000 };
      const joins = [joinGroup({ ...options, rank: 0 }), joinGroup({ ...options, rank: 1, ...others })];
      for (const error of await Promise.all(joins.map(errorOf))) {
        expect(error.code).toBe('MISMATCH');
        expect(error.message).toContain('joins another group');
      }
    });
  });
});

describe('a rank that is missing', () => {
  it('in a collective is named by the others, and hears of it when it comes', async () => {
    const [a, b, late] = await together(3, { timeoutMs: 500 });
    const xs = [0, 1, 2].map(() => keep(ones([2, 3])));
    const waiting = [a!.allReduce(xs[0]!, 'mean'), b!.allReduce(xs[1]!, 'mean')];
    const [first] = await Promise.all(waiting.map(errorOf));
    expect(first).toMatchObject({
      ...{ code: 'TIMEOUT', rank: 0, worldSize: 3, missing: [2] },
      operation: 'allReduce of float32[2, 3] (mean)',
    });
    expect(first!.message).toContain(
      'rank 0 of 3: allReduce of float32[2, 3] (mean): no answer within 500 ms; rank 1 gave up in allReduce',
    );
    const heard = await errorOf(late!.allReduce(xs[2]!, 'mean'));
    expect(heard).toMatchObject({ missing: [] });
    expect(heard.message).toContain('rank 0 gave up in allReduce of float32[2, 3] (mean): no answer within 500 ms');
    const after = await errorOf(a!.barrier());
    expect(after).toMatchObject({ code: 'GROUP_FAILED', operation: 'barrier' });
    expect(after.cause).toBe(first);
  });

  it('since it left is said to have left', async () => {
    const [stays, leaves] = await together(2, { timeoutMs: 500 });
    const [error] = await Promise.all([errorOf(stays!.barrier()), leaves!.leave()]);
    expect(error).toMatchObject({ missing: [1], operation: 'barrier' });
    expect(error.message).toContain('rank 1 had left the group');
  });

  it('since it was killed is named long before the time-out', async () => {
    await inFolder(async (folder) => {
      const options = [0, 1, 2].map((rank) => ({
        ...{ rank, worldSize: 3, timeoutMs: 60_000 },
        store: { file: `${folder}/store` },
      }));
      const ranks = startRanks('until-killed.mjs', options);
      running.push(ranks);
      await Promise.all([0, 1, 2].map((rank) => ranks.printed(rank)));
      const start = performance.now();
      ranks.processes[1]!.kill('SIGKILL');
      const [first, killed, last] = await ranks.ended;
      expect(performance.now() - start).toBeLessThan(30_000);
      expect(killed!.signal).toBe('SIGKILL');
      for (const [rank, { code, lines }] of [
        [0, first!],
        [2, last!],
      ] as const) {
        expect(code).toBe(0);
        expect(lines[1]).toMatchObject({
          ...{ name: 'DistributedError', code: 'CONNECTION_LOST', rank, worldSize: 3, missing: [1] },
          operation: 'allReduce of float32[100000] (mean)',
        });
      }
    });
  });

  it('since it was killed is named where it served the store, too', async () => {
    const store = { host: '127.0.0.1', port: await freePort() };
    const options = [0, 1].map((rank) => ({ rank, worldSize: 2, timeoutMs: 60_000, store }));
    const ranks = startRanks('until-killed.mjs', options);
    running.push(ranks);
    await Promise.all([0, 1].map((rank) => ranks.printed(rank)));
    ranks.processes[0]!.kill('SIGKILL');
    const [, other] = await ranks.ended;
    expect(other!.lines[1]).toMatchObject({ code: 'CONNECTION_LOST', rank: 1, missing: [0] });
    expect((other!.lines[1] as { message: string }).message).toContain(`the store at 127.0.0.1:${store.port}`);
  });
});

describe('calls that do not fit', () => {
  it.each<[string, (group: ProcessGroup, rank: number) => Promise<void>, string]>([
    [
      'shapes',
      (group, rank) => group.allReduce(keep(ones([2 + rank]))),
      'rank 0 allReduce of float32[2] (sum), rank 1 allReduce of float32[3] (sum)',
    ],
    [
      'dtypes',
      (group, rank) => group.broadcast(keep(ones([2], { dtype: rank === 0 ? 'float32' : 'float16' }))),
      'rank 0 broadcast of float32[2] from rank 0, rank 1 broadcast of float16[2] from rank 0',
    ],
    [
      'operations',
      (group, rank) => group.allReduce(keep(ones([2])), rank === 0 ? 'mean' : 'max'),
      'rank 0 allReduce of float32[2] (mean), rank 1 allReduce of float32[2] (max)',
    ],
    ['roots', (group, rank) => group.broadcast(keep(ones([2])), rank), 'from rank 0, rank 1'],
    [
      'collectives',
      (group, rank) => (rank === 0 ? group.barrier() : group.allReduce(keep(ones([2])))),
      'rank 0 barrier, rank 1 allReduce',
    ],
    [
      'orders of memory',
      (group, rank) => {
        const x = keep(ones([2, 3, 4, 4]));
        return group.allReduce(rank === 0 ? x : keep(x.contiguous({ memoryFormat: 'channelsLast' })));
      },
      'rank 1 allReduce of float32[2, 3, 4, 4] in another order of memory (sum)',
    ],
  ])('are an error of all ranks: %s; and the group goes on', async (_, call, message) => {
    const pair = await together(2);
    for (const error of await Promise.all(pair.map((group, rank) => errorOf(call(group, rank))))) {
      expect(error.code).toBe('MISMATCH');
      expect(error.message).toContain(message);
    }
    const xs = pair.map(({ rank }) => keep(full([], rank + 1)));
    await Promise.all(pair.map((group, rank) => group.allReduce(xs[rank]!)));
    expect(xs.map((x) => x.item())).toEqual([3, 3]);
  });
});

describe('a group of one', () => {
  it('needs no store, and leaves tensors as they are', async () => {
    const group = await joinHere({ rank: 0, worldSize: 1 });
    const x = keep(tensor([1, 2]));
    for (const operation of ['sum', 'mean', 'max'] as const) await group.allReduce(x, operation);
    await group.broadcast(x);
    await group.barrier();
    const output = keep(empty([1, 2]));
    await group.allGather(x, output);
    expect([...x.toFloat32Array(), ...output.toFloat32Array()]).toEqual([1, 2, 1, 2]);
  });

  it('refuses everything after it was left; leaving again is no error', async () => {
    const group = await joinHere({ rank: 0, worldSize: 1 });
    await group.leave();
    await group.leave();
    expect(await errorOf(group.barrier())).toMatchObject({ code: 'GROUP_LEFT', rank: 0, operation: 'barrier' });
    expect(await errorOf(group.allReduce(keep(ones([1]))))).toMatchObject({ code: 'GROUP_LEFT' });
  });

  it('does what was called before it was left', async () => {
    const group = await joinHere({ rank: 0, worldSize: 1 });
    const calls = [group.barrier(), group.barrier()];
    await group.leave();
    await Promise.all(calls);
  });

  it('refuses tensors that cannot be sent', async () => {
    const group = await joinHere({ rank: 0, worldSize: 1 });
    const x = keep(ones([4, 4]));
    const refusals: [Promise<void>, string][] = [
      [group.allReduce(keep(x.narrow(1, 0, 2))), 'expected a tensor that is one block of memory'],
      [group.allReduce(keep(ones([2], { device: 'meta' }))), 'gloo takes tensors on the CPU, got one on meta'],
      [group.allReduce(keep(ones([2], { dtype: 'int64' })), 'mean'), 'a mean takes a tensor of floating-point numbers'],
      [group.allReduce(keep(ones([2], { dtype: 'bool' }))), 'a tensor of bool cannot be reduced'],
      [group.broadcast(x, 1), 'root: expected 0 to 0, got 1'],
      [group.allGather(x, keep(empty([2, 4, 4]))), "output: expected [1, 4, 4] of the tensor's dtype and device"],
      [group.allGather(x, keep(empty([1, 4, 4], { dtype: 'float16' }))), 'output: expected [1, 4, 4]'],
    ];
    for (const [promise, message] of refusals) {
      const error = await promise.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(TensorError);
      expect((error as Error).message).toContain(message);
    }
    const gone = ones([2]);
    gone.dispose();
    await expect(group.allReduce(gone)).rejects.toMatchObject({ code: 'TENSOR_DISPOSED', operator: 'allReduce' });
    for (const wrong of [null, undefined, 3, [1]]) {
      expect(await errorOf(group.allReduce(wrong as never))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(await errorOf(group.allReduce(x, 'product' as never))).toMatchObject({
      message: 'rank 0 of 1: allReduce: expected one of sum, mean, max for operation, got product',
    });
    // None of these is the group's end.
    await group.barrier();
  });
});

it('a tensor may be disposed while it is sent', async () => {
  const pair = await together(2);
  const outputs = pair.map(() => keep(empty([2, 50_000])));
  await Promise.all(
    pair.map((group, rank) => {
      const x = full([50_000], rank + 1);
      const done = group.allGather(x, outputs[rank]!);
      x.dispose();
      return done;
    }),
  );
  for (const output of outputs)
    expect(keep(output.mean({ dims: [1] })).toFloat32Array()).toEqual(Float32Array.of(1, 2));
});

describe.each(['end', 'exit', 'waiting'])('processes that do not leave: %s', (how) => {
  it('end at once', async () => {
    await inFolder(async (folder) => {
      const options = [0, 1].map((rank) => ({
        ...{ rank, worldSize: 2, timeoutMs: 60_000 },
        store: { file: `${folder}/store` },
      }));
      const start = performance.now();
      const ranks = startRanks('leaves-open.mjs', options, { HOW: how });
      running.push(ranks);
      const codes = (await ranks.ended).map(({ code, stderr }) => ({ code, stderr }));
      const expected = { end: [0, 0], exit: [3, 3], waiting: [3, 0] }[how]!;
      expect(codes).toEqual(expected.map((code) => ({ code, stderr: '' })));
      expect(performance.now() - start).toBeLessThan(30_000);
    });
  });
});

describe('options', () => {
  const store = { host: 'a', port: 1 };
  it.each<[unknown, string]>([
    [undefined, 'expected an object for options, got undefined'],
    [{ rank: 0 }, 'expected an integer from 1 to 65536 for worldSize, got undefined'],
    [{ rank: 0, worldSize: 0 }, 'for worldSize, got 0'],
    [{ rank: 2, worldSize: 2, store }, 'expected an integer from 0 to 1 for rank, got 2'],
    [{ rank: 0.5, worldSize: 2, store }, 'for rank, got 0.5'],
    [{ rank: 0, worldSize: 2 }, 'expected a store, where 2 ranks find each other, got none'],
    [
      { rank: 0, worldSize: 2, store: { host: 'a', port: 0 } },
      'expected an integer from 1 to 65535 for store.port, got 0',
    ],
    [{ rank: 0, worldSize: 2, store: { host: 'a', port: 65_536 } }, 'for store.port, got 65536'],
    [{ rank: 0, worldSize: 2, store: { host: '', port: 1 } }, 'for store.host, got ""'],
    [{ rank: 0, worldSize: 2, store: { ...store, hostsStore: 1 } }, 'for store.hostsStore, got 1'],
    [{ rank: 0, worldSize: 2, store: { ...store, file: '/tmp/a' } }, 'expected a file, or a host and a port'],
    [{ rank: 0, worldSize: 2, store: { file: '/no/such/folder/a' } }, 'in a folder that exists'],
    [{ rank: 0, worldSize: 2, store: { file: '/' } }, 'expected a file for store.file'],
    [{ rank: 0, worldSize: 2, store: { ...store, prefix: 3 } }, 'for store.prefix, got 3'],
    [{ rank: 0, worldSize: 2, store: 'a' }, 'expected an object for store'],
    [{ rank: 0, worldSize: 1, backend: 'mpi' }, 'expected one of gloo, nccl for backend, got "mpi"'],
    [{ rank: 0, worldSize: 1, timeoutMs: 0 }, 'for timeoutMs, got 0'],
    [{ rank: 0, worldSize: 1, verify: 'no' }, 'expected true or false for verify, got "no"'],
    [{ rank: 0, worldSize: 1, size: 1 }, 'unknown option size'],
  ])('%j is refused', async (options, message) => {
    const error = await errorOf(joinGroup(options as JoinOptions));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toContain(message);
  });

  it('a backend that this build lacks is refused with the reason', async () => {
    const { buildInfo } = await import('../../lib/tensor/index.js');
    const { ncclReason } = buildInfo();
    if (ncclReason === '') return;
    const error = await errorOf(joinGroup({ rank: 0, worldSize: 1, backend: 'nccl' }));
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    expect(error.message).toContain(`nccl is not available: ${ncclReason}`);
  });
});
