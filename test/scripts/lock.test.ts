import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { describeHolder, type LockHolder, withLock } from '../../scripts/support/lock.mjs';
import { temporaryFolder } from './scripts.js';

const MODULE = new URL('../../scripts/support/lock.mjs', import.meta.url).href;

/** Whoever waits even once does not come to an end within the test. */
const AT_ONCE = { pollMs: 3_600_000, silenceMs: 3_600_000_000 };
const newLock = (): string => join(temporaryFolder(), 'lock');
const recordIn = (lock: string): Record<string, unknown> => JSON.parse(readFileSync(lock, 'utf8'));

/** What this thread writes into a lock, with some of it changed. */
async function forged(changes: object): Promise<string> {
  const lock = newLock();
  return withLock(lock, async () => JSON.stringify({ ...recordIn(lock), token: 'forged', ...changes }));
}

/** A process that holds the lock and does `work`, a piece of a program; resolves once it holds it. */
async function holderOf(
  lock: string,
  work: string,
  [command, ...args]: string[] = [process.execPath],
): Promise<ChildProcess> {
  const program = `import { withLock } from ${JSON.stringify(MODULE)};
    await withLock(${JSON.stringify(lock)}, async (lock) => { console.log('held'); ${work} });`;
  const child = spawn(command!, [...args, '--input-type=module', '-e', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

const FOREVER = 'await new Promise((resolve) => setInterval(resolve, 2 ** 31 - 1));';

/** The holder that a waiter finds alive. */
async function foundAlive(lock: string, options: object): Promise<LockHolder> {
  const alive = new Error('alive');
  let holder: LockHolder | undefined;
  const waiting = withLock(lock, async () => expect.fail('it was taken over'), {
    ...options,
    onWait: (found) => {
      holder = found;
      throw alive;
    },
  });
  await expect(waiting).rejects.toBe(alive);
  return holder!;
}

test('a lock lets one work at a time and goes on an error too', async () => {
  const lock = newLock();
  let inside = 0;
  let most = 0;
  const work = async () => {
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setTimeout(resolve, 20));
    inside--;
  };
  await Promise.all([1, 2, 3].map(() => withLock(lock, work, { pollMs: 5 })));
  expect(most).toBe(1);
  await expect(withLock(lock, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  expect(existsSync(lock)).toBe(false);
});

test('a lock whose holder lives is waited for, said once, and left by an abort with its reason', async () => {
  const lock = newLock();
  const holders: LockHolder[] = [];
  await withLock(lock, async () => {
    const controller = new AbortController();
    let looks = 0;
    const options = {
      pollMs: 5,
      signal: controller.signal,
      onWait: (holder: LockHolder) => holders.push(holder),
    };
    const waiting = withLock(lock, async () => expect.fail('it was not free'), options);
    const timer = setInterval(() => ++looks === 10 && controller.abort(new Error('enough')), 5);
    await expect(waiting).rejects.toThrow('enough');
    clearInterval(timer);
  });
  expect(holders).toEqual([expect.objectContaining({ pid: process.pid, host: hostname() })]);
  expect(describeHolder(holders[0])).toBe(`process ${process.pid} on host ${hostname()}, for less than a minute`);
});

test('a lock that cannot be made is refused with its path and the reason, and leaves nothing', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'file'), '');
  const lock = join(folder, 'file', 'lock');
  await expect(withLock(lock, async () => {})).rejects.toMatchObject({
    code: 'WRITE_FAILED',
    message: expect.stringMatching(/file\/lock: could not be written: .*\((ENOTDIR|EEXIST)\)/),
  });
  expect(readdirSync(folder)).toEqual(['file']);
});

describe('on this machine a holder that is gone is known at once:', () => {
  test('a process that was killed', async () => {
    const lock = newLock();
    const holder = await holderOf(lock, FOREVER);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(existsSync(lock)).toBe(true);
    expect(await withLock(lock, async () => 'mine', AT_ONCE)).toBe('mine');
  });

  test('a process that was killed, to several waiters, who take turns', async () => {
    const lock = newLock();
    const holder = await holderOf(lock, FOREVER);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const order: string[] = [];
    const waiter = () =>
      withLock(
        lock,
        async () => {
          order.push('in');
          await new Promise((resolve) => setTimeout(resolve, 10));
          order.push('out');
        },
        { pollMs: 2 },
      );
    await Promise.all([waiter(), waiter(), waiter()]);
    expect(order).toEqual(['in', 'out', 'in', 'out', 'in', 'out']);
    expect(readdirSync(join(lock, '..'))).toEqual([]);
  });

  test('one whose process id was given to another', async () => {
    const lock = newLock();
    writeFileSync(lock, await forged({ started: '1' }));
    expect(await withLock(lock, async () => 'mine', AT_ONCE)).toBe('mine');
  });

  test.runIf(process.platform === 'linux')('a worker thread that was terminated, while its process lives', async () => {
    const lock = newLock();
    const program = `import(${JSON.stringify(MODULE)}).then(({ withLock }) => withLock(${JSON.stringify(lock)}, async () => {
      require('node:worker_threads').parentPort.postMessage('held');
      ${FOREVER}
    }))`;
    const worker = new Worker(program, { eval: true });
    await once(worker, 'message');
    await foundAlive(lock, AT_ONCE);
    await worker.terminate();
    expect(existsSync(lock)).toBe(true);
    expect(await withLock(lock, async () => 'mine', AT_ONCE)).toBe('mine');
  });

  test('one that exits by itself, which leaves no lock', async () => {
    const lock = newLock();
    const holder = await holderOf(lock, 'process.exit(3);');
    const [code] = holder.exitCode === null ? await once(holder, 'exit') : [holder.exitCode];
    expect([code, existsSync(lock)]).toEqual([3, false]);
  });
});

describe('a holder that cannot be seen from here', () => {
  const elsewhere = { host: 'elsewhere', pidSpace: 'another machine' };

  test('lives while its heartbeat moves, and is waited for until it falls silent', async () => {
    const lock = newLock();
    writeFileSync(lock, await forged(elsewhere));
    let beats = 0;
    const beat = () => utimesSync(lock, ++beats, beats);
    const timer = setInterval(beat, 10);
    onTestFinished(() => clearInterval(timer));
    const options = { pollMs: 10, silenceMs: 1_000 };
    expect(await foundAlive(lock, options)).toMatchObject({ host: 'elsewhere' });
    let beatsAtTheEnd = 0;
    const waiting = withLock(lock, async () => 'mine', options);
    setTimeout(() => {
      clearInterval(timer);
      beatsAtTheEnd = beats;
    }, 300);
    expect(await waiting).toBe('mine');
    expect(beatsAtTheEnd).toBeGreaterThan(0);
  });

  test.each([
    ['another host', elsewhere],
    ['another container of this host', { pidSpace: 'boot pid:[1]', pid: 1 }],
    ['a host that does not tell', { pidSpace: null }],
  ])('is gone after a silence, and not before: %s', async (_, where) => {
    const lock = newLock();
    writeFileSync(lock, await forged(where));
    const looks = { pollMs: 1, silenceMs: 50 };
    const start = performance.now();
    expect(await withLock(lock, async () => 'mine', { ...looks, onWait: () => expect.fail('it is not alive') })).toBe(
      'mine',
    );
    expect(performance.now() - start).toBeGreaterThan(49);
  });

  test('beats whatever its thread is busy with', async () => {
    const lock = newLock();
    await holderOf(lock, 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);');
    writeFileSync(lock, JSON.stringify({ ...recordIn(lock), ...elsewhere }));
    expect(await foundAlive(lock, {})).toMatchObject({ host: 'elsewhere' });
  });

  test('finds out that it was taken for dead, when it was suspended', async () => {
    const lock = newLock();
    const holder = await holderOf(
      lock,
      `process.stdin.once('data', () => {
        try { lock.requireHeld(); console.log('still held'); } catch (error) { console.log(error.code + ' ' + error.message); }
      });
      ${FOREVER}`,
    );
    writeFileSync(lock, JSON.stringify({ ...recordIn(lock), ...elsewhere }));
    holder.kill('SIGSTOP');
    await withLock(
      lock,
      async (mine) => {
        holder.kill('SIGCONT');
        holder.stdin!.write('\n');
        const [said] = await once(holder.stdout!, 'data');
        expect(String(said)).toBe(
          `LOCK_LOST ${lock}: this process has lost its lock (process ${process.pid} on host ${hostname()}, ` +
            'for less than a minute), so it must not write any more\n',
        );
        mine.requireHeld();
        holder.kill('SIGKILL');
        await once(holder, 'exit');
      },
      { pollMs: 20, silenceMs: 4_000 },
    );
    expect(existsSync(lock)).toBe(false);
  });

  const inNamespace = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', process.execPath];
  const mayUnshare = spawnSync(inNamespace[0]!, [...inNamespace.slice(1), '-e', '0']).status === 0;
  if (!mayUnshare) console.log('skipped: locks of another PID namespace (unshare --pid is not permitted)');
  test.runIf(mayUnshare)('in another PID namespace is not taken for dead', async () => {
    const lock = newLock();
    await holderOf(lock, FOREVER, inNamespace);
    expect(recordIn(lock).pid).toBe(1);
    // Here too there is a process 1, another one.
    expect(await foundAlive(lock, {})).toMatchObject({ pid: 1 });
  });
});

test.each([
  ['empty, as a full disk leaves it', ''],
  ['half written', '{"pid":'],
  ['of something else', '[1, 2]'],
])('a lock file that is %s blocks for a moment only, and is nobody alive', async (_, content) => {
  const lock = newLock();
  writeFileSync(lock, content);
  // Five seconds, in as many looks as there are in them.
  expect(await withLock(lock, async () => 'mine', { pollMs: 500, onWait: () => expect.fail('nobody is there') })).toBe(
    'mine',
  );
});

test('a takeover that was itself cut off does not block for good', async () => {
  const lock = newLock();
  writeFileSync(lock, await forged({ started: '1' }));
  writeFileSync(`${lock}.forged.gone`, '');
  expect(await withLock(lock, async () => 'mine', { pollMs: 500 })).toBe('mine');
  expect(readdirSync(join(lock, '..'))).toEqual([]);
});

test('a lock that is removed under its holder is lost, and a new one of another is left alone', async () => {
  const lock = newLock();
  await withLock(lock, async (mine) => {
    rmSync(lock);
    expect(() => mine.requireHeld()).toThrow(
      expect.objectContaining({ code: 'LOCK_LOST', message: expect.stringContaining('(it was removed)') }),
    );
    writeFileSync(lock, await forged({}));
  });
  expect(recordIn(lock).token).toBe('forged');
});

test('a folder in the place of a lock is an error, not a wait', async () => {
  const lock = newLock();
  mkdirSync(lock);
  await expect(withLock(lock, async () => {}, AT_ONCE)).rejects.toMatchObject({
    code: 'EISDIR',
    message: `${lock}: expected a lock file, but it cannot be read: illegal operation on a directory (EISDIR)`,
  });
  expect(statSync(lock).isDirectory()).toBe(true);
});

test('a lock is held and released where no thread for its heartbeat can be started', () => {
  const lock = newLock();
  const program = `import { existsSync } from 'node:fs';
    import threads from 'node:worker_threads';
    import { syncBuiltinESMExports } from 'node:module';
    threads.Worker = class { constructor() { throw new Error('no more threads'); } };
    syncBuiltinESMExports();
    const { withLock } = await import(${JSON.stringify(MODULE)});
    for (const round of [1, 2]) console.log(round, await withLock(process.argv[1], async (held) => { held.requireHeld(); return existsSync(process.argv[1]); }));
    console.log(existsSync(process.argv[1]));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program, lock], {
    encoding: 'utf8',
  });
  expect([stdout, stderr]).toEqual(['1 true\n2 true\nfalse\n', '']);
});
