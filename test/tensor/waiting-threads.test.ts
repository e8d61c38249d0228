// How OpenMP's threads wait for work: for milliseconds while the cores are this process's own, else they sleep almost at once.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { onOneCore } from '../support/one-core.js';

const run = promisify(execFile);
const library = new URL('../../dist/tensor/index.js', import.meta.url).href;
const addon = new URL('../../dist/tensor/native.js', import.meta.url).href;
const load = `
  const { ones, scope, setThreads } = await import(${JSON.stringify(library)});
  const { native } = await import(${JSON.stringify(addon)});
  const waiting = () => native.threadWaiting();
  const until = async (what, work) => { while (!what()) await work(); };
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));`;
/** Work for two threads, with a turn of the event loop after each half second. */
const compute = `
  setThreads(2);
  // An operator that LibTorch divides by OpenMP in every build, small beside a wait for work: half a megabyte is given
  // out again and again, where larger tensors are fresh pages each time, which cost more than the waiting.
  const x = ones([1 << 17]);
  const compute = async (seconds = 0.5) => {
    for (const end = performance.now() + 1000 * seconds; performance.now() < end; ) scope(() => { x.exp(); });
    await pause(0);
  };`;

const POLICIES = ['GOMP_SPINCOUNT', 'OMP_WAIT_POLICY'];
function environment(env: Record<string, string>): NodeJS.ProcessEnv {
  return { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !POLICIES.includes(name))), ...env };
}

const argumentsOf = (program: string) => ['--input-type=module', '-e', `${load}${program}`];

async function answerOf(
  program: string,
  env: Record<string, string> = {},
  before: readonly string[] = [],
): Promise<unknown> {
  const [command, ...rest] = [...before, process.execPath, ...argumentsOf(program)];
  const { stdout } = await run(command!, rest, { env: environment(env), timeout: 50_000 });
  return JSON.parse(stdout);
}

const others: ChildProcess[] = [];
afterEach(() => {
  for (const other of others.splice(0)) other.kill('SIGKILL');
});

/** Without these numbers nothing is watched, and the threads always sleep. */
const isWatched = existsSync('/proc/self/schedstat');
const canShare = isWatched && onOneCore !== null;

const policy = `process.stdout.write(JSON.stringify(waiting().policy));`;

describe('whether the cores are shared decides', () => {
  it('unless the environment does', async () => {
    expect(await answerOf(policy)).toBe(isWatched ? 'watch' : 'sleep');
    expect(await answerOf(policy, { GOMP_SPINCOUNT: '77' })).toBe('environment');
    expect(await answerOf(policy, { OMP_WAIT_POLICY: 'passive' })).toBe('environment');
    expect(await answerOf(policy, { GOMP_SPINCOUNT: '' })).toBe(isWatched ? 'watch' : 'sleep');
  });

  it('also where a worker is the first to load the library, and when that has ended', async () => {
    const program = `
      import { Worker } from 'node:worker_threads';
      const inWorker = new Worker(${JSON.stringify(`import(${JSON.stringify(library)})`)}, { eval: true, execArgv: [] });
      await new Promise((resolve) => inWorker.once('exit', resolve));`;
    const later = `${program} ${load} ${policy}`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', later], { env: environment({}) });
    expect(JSON.parse(stdout)).toBe(isWatched ? 'watch' : 'sleep');
  });

  it.runIf(canShare)(
    'two threads on one core are found, and looked at again and again',
    { timeout: 60_000 },
    async () => {
      const program = `${compute}
      await until(() => waiting().isSleeping, compute);
      const first = waiting().timesShared;
      await until(() => waiting().timesShared > first, compute);
      process.stdout.write(JSON.stringify(waiting()));`;
      expect(await answerOf(program, {}, onOneCore!)).toMatchObject({ policy: 'watch' });
    },
  );

  it.runIf(canShare)('a busy program beside one thread is found too', { timeout: 60_000 }, async () => {
    others.push(
      spawn(onOneCore![0]!, [...onOneCore!.slice(1), process.execPath, '-e', 'for (;;);'], { stdio: 'ignore' }),
    );
    const program = `${compute} setThreads(1);
      await until(() => waiting().isSleeping, compute);
      process.stdout.write('true');`;
    expect(await answerOf(program, {}, onOneCore!)).toBe(true);
  });

  it.runIf(canShare)('the watch rests while nothing is computed, and goes on after', { timeout: 60_000 }, async () => {
    const program = `
      await pause(2000);
      const idle = waiting().timesShared;
      ${compute}
      await until(() => waiting().isSleeping, compute);
      process.stdout.write(JSON.stringify(idle));`;
    expect(await answerOf(program, {}, onOneCore!)).toBe(0);
  });
});

describe('what it brings', () => {
  /** Milliseconds of processor time of fifty short parallel operators, 20 ms apart. */
  const gaps = `${compute}
    const work = () => scope(() => { x.exp(); });
    work();
    const gaps = async () => {
      const before = process.cpuUsage();
      for (let i = 0; i < 50; i++) { work(); await pause(20); }
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1000;
    };`;

  it.runIf(canShare)('a thread without work costs a shared core next to nothing', { timeout: 60_000 }, async () => {
    const shared = `${gaps}
      await until(() => waiting().isSleeping, compute);
      await until(() => waiting().timesShared >= 3, compute);
      process.stdout.write(JSON.stringify(await gaps()));`;
    const spinning = `${gaps} process.stdout.write(JSON.stringify(await gaps()));`;
    const [asleep, awake] = [
      await answerOf(shared, {}, onOneCore!),
      await answerOf(spinning, { GOMP_SPINCOUNT: '300000' }),
    ] as [number, number];
    expect(asleep).toBeLessThan(0.5 * awake);
  });
});
