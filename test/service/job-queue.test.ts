// Jobs that wait for each other: order, threads, cancelling and closing. What outlives a process is in queue-recovery.test.ts.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { JobQueueOptions, QueuedJob } from '../../lib/service/index.js';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';
import { endless, service, whenEvent, whenStepping } from './jobs.js';

const { JobQueue, QueuedJob: BuiltQueuedJob, TrainingJob } = service;

const at = temporaryFolder();
const recipe = smallRecipe();
const onThreads = (threads: number | null) => smallRecipe({ threads });
const endlessOn = (threads: number | null) => smallRecipe({ threads, training: { epochs: 100_000 } });

const stateOf = ({ state }: QueuedJob): string => state;
const recordedThreads = (name: string): unknown =>
  JSON.parse(readFileSync(join(at(name), 'config.json'), 'utf8')).threads;

/** The most jobs, and the most threads, that were running together. */
function watch(jobs: readonly QueuedJob[]): { jobs: number; threads: number } {
  const most = { jobs: 0, threads: 0 };
  const look = (): void => {
    const running = jobs.filter(({ state }) => state === 'running');
    most.jobs = Math.max(most.jobs, running.length);
    most.threads = Math.max(
      most.threads,
      running.reduce((sum, { threads }) => sum + threads, 0),
    );
  };
  for (const job of jobs) job.on('state', look);
  return most;
}

beforeAll(async () => {
  await TrainingJob.train({ recipe, out: at('whole') }).outcome;
});

describe('a queue', () => {
  it('goes on where a job is resumed as soon as it tells that it is paused', async () => {
    await using queue = new JobQueue();
    const [job, other] = await Promise.all(
      ['again', 'behind'].map((name) => queue.add({ recipe: endless, out: at(name) })),
    );
    await whenStepping(job!);
    job!.on('state', (state) => state === 'paused' && void job!.resume());
    await job!.pause();
    await whenStepping(other!);
    expect([job!.state, job!.position]).toEqual(['queued', 0]);
    await other!.cancel();
    await whenStepping(job!);
  });

  it('runs its jobs one after another, in the order in which they came, each to the bits of a run alone', async () => {
    await using queue = new JobQueue();
    const names = ['a', 'b', 'c'];
    const jobs = await Promise.all(names.map((name) => queue.add({ recipe, out: at(name) })));
    expect(jobs[0]).toBeInstanceOf(BuiltQueuedJob);
    expect(jobs[0]).toBeInstanceOf(TrainingJob);
    expect(jobs.map(stateOf)).toEqual(['running', 'queued', 'queued']);
    expect(jobs.map(({ position }) => position)).toEqual([null, 0, 1]);
    expect(queue.jobs).toEqual(jobs);
    expect(queue.job(jobs[1]!.id)).toBe(jobs[1]);
    const most = watch(jobs);
    const ended: string[] = [];
    for (const [i, { outcome }] of jobs.entries()) void outcome.then(() => ended.push(names[i]!));
    await Promise.all(jobs.map(({ outcome }) => outcome));
    expect([most.jobs, ended]).toEqual([1, names]);
    expect(queue.jobs).toEqual([]);
    for (const name of names) expect(productOf(at(name)), name).toEqual(productOf(at('whole')));
  });

  it('runs so many at once, on its threads together, and gives each the same share', async () => {
    await using queue = new JobQueue({ concurrency: 2, threads: 5 });
    const jobs = await Promise.all(
      [null, null, null, 1].map((threads, i) => queue.add({ recipe: onThreads(threads), out: at(`share-${i}`) })),
    );
    expect(jobs.map(({ threads }) => threads)).toEqual([2, 2, 2, 1]);
    const most = watch(jobs);
    await Promise.all(jobs.map(({ outcome }) => outcome));
    expect(most).toEqual({ jobs: 2, threads: 4 });
    expect([0, 1, 2, 3].map((i) => recordedThreads(`share-${i}`))).toEqual([2, 2, 2, 1]);
  });

  it('lets none overtake a job that waits for more threads', async () => {
    await using queue = new JobQueue({ concurrency: 2, threads: 2 });
    const small = await queue.add({ recipe: endless, out: at('small') });
    const large = await queue.add({ recipe: onThreads(2), out: at('large') });
    const late = await queue.add({ recipe, out: at('late') });
    await whenStepping(small);
    expect([small, large, late].map(stateOf)).toEqual(['running', 'queued', 'queued']);
    await small.cancel();
    await Promise.all([large.outcome, late.outcome]);
    expect(recordedThreads('large')).toBe(2);
  });

  it('starts those of a higher priority first', async () => {
    await using queue = new JobQueue();
    const first = await queue.add({ recipe: endless, out: at('first') });
    const add = (name: string, priority?: number) =>
      queue.add({ recipe, out: at(name), ...(priority === undefined ? {} : { priority }) });
    const jobs = [await add('low', -1), await add('usual'), await add('high', 2), await add('high-too', 2)];
    expect(jobs.map(({ position }) => position)).toEqual([3, 2, 0, 1]);
    expect(jobs.map(({ priority }) => priority)).toEqual([-1, 0, 2, 2]);
    const started: QueuedJob[] = [];
    for (const job of jobs) job.on('state', (state) => state === 'running' && started.push(job));
    await first.cancel();
    await Promise.all(jobs.map(({ outcome }) => outcome));
    expect(started).toEqual([jobs[2], jobs[3], jobs[1], jobs[0]]);
  });

  it('never starts a job that is cancelled while it waits', async () => {
    await using queue = new JobQueue();
    const first = await queue.add({ recipe: endless, out: at('before') });
    const controller = new AbortController();
    const waiting = await queue.add({ recipe, out: at('cancelled') });
    const aborted = await queue.add({ recipe, out: at('aborted'), signal: controller.signal });
    const resumed = await queue.resume({ runDirectory: at('whole') });
    const last = await queue.add({ recipe, out: at('after') });
    await Promise.all([waiting.cancel(), resumed.cancel()]);
    controller.abort();
    for (const job of [waiting, aborted]) {
      expect(job.state).toBe('cancelled');
      await expect(job.outcome).rejects.toMatchObject({
        code: 'INTERRUPTED',
        message: 'training was interrupted before anything was written: there is nothing to resume',
      });
    }
    await expect(resumed.outcome).rejects.toThrow(`go on with --resume ${at('whole')}`);
    expect([last.position, queue.jobs]).toEqual([0, [first, last]]);
    await first.cancel();
    await last.outcome;
    expect([existsSync(at('cancelled')), existsSync(at('aborted'))]).toEqual([false, false]);
    const never = await queue.add({ recipe, out: at('never'), signal: controller.signal });
    expect([never.state, queue.jobs]).toEqual(['cancelled', []]);
  });

  it('lets others have the threads of a job that is paused, which then waits again', async () => {
    await using queue = new JobQueue();
    const paused = await queue.add({ recipe, out: at('paused') });
    const other = await queue.add({ recipe: endless, out: at('other') });
    const waiting = await queue.add({ recipe, out: at('waiting') });
    await whenStepping(paused);
    await Promise.all([paused.pause(), waiting.pause()]);
    await whenStepping(other);
    expect([paused, other, waiting].map(stateOf)).toEqual(['paused', 'running', 'paused']);
    await paused.resume();
    expect([paused.state, paused.position, waiting.position]).toEqual(['queued', 0, null]);
    await other.cancel();
    await paused.outcome;
    expect(productOf(at('paused'))).toEqual(productOf(at('whole')));
    await waiting.cancel();
  });

  it('goes on with runs on the threads that they had', async () => {
    await using queue = new JobQueue({ concurrency: 2, threads: 4 });
    const job = await queue.add({ recipe: endlessOn(1), out: at('one-thread') });
    await whenStepping(job);
    await job.cancel();
    const again = await queue.resume({ runDirectory: at('one-thread') });
    expect([again.threads, again.runDirectory]).toEqual([1, at('one-thread')]);
    await whenStepping(again);
    await again.cancel();
    const four = await queue.add({ recipe: endlessOn(4), out: at('four-threads') });
    await whenStepping(four);
    await four.cancel();
    await using small = new JobQueue({ threads: 3 });
    await expect(small.resume({ runDirectory: at('four-threads') })).rejects.toThrow(
      'JobQueue.resume: threads: expected at most 3, those of the queue, got 4',
    );
  });

  it('goes on after a job that fails', async () => {
    await using queue = new JobQueue();
    const failing = await queue.add({
      recipe: smallRecipe({ training: { learningRate: 1e30 } }),
      out: at('diverged'),
    });
    const next = await queue.add({ recipe, out: at('next') });
    await expect(failing.outcome).rejects.toMatchObject({ code: 'LOSS_NOT_FINITE', at: { layer: 0 } });
    await next.outcome;
    const terminated = await queue.add({ recipe: endless, out: at('terminated') });
    await whenStepping(terminated);
    await terminated.terminate();
    await expect(terminated.outcome).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(terminated.state).toBe('cancelled');
    // Nothing is left of it: the run can be gone on with at once.
    const again = await queue.resume({ runDirectory: at('terminated') });
    await whenStepping(again);
    await again.cancel();
  });
});

describe('a queue that is closed', () => {
  it('stops what runs with a checkpoint, rejects what waits, and takes nothing more', async () => {
    const queue = new JobQueue({ concurrency: 2, threads: 2 });
    const names = ['close-1', 'close-2', 'close-3'];
    const jobs = await Promise.all(names.map((name) => queue.add({ recipe: endless, out: at(name) })));
    await Promise.all(jobs.slice(0, 2).map(whenStepping));
    await Promise.all([queue.close(), queue.close({ deadlineMs: 60_000 })]);
    for (const { outcome } of jobs) await expect(outcome).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(jobs.map(stateOf)).toEqual(['cancelled', 'cancelled', 'cancelled']);
    expect(names.map((name) => existsSync(join(at(name), 'checkpoint', 'state.json')))).toEqual([true, true, false]);
    const closed = { code: 'QUEUE_CLOSED', message: 'the queue is closed: it takes no more jobs' };
    await expect(queue.add({ recipe })).rejects.toMatchObject(closed);
    await expect(queue.resume({ runDirectory: at('close-1') })).rejects.toMatchObject(closed);
    expect(() => queue.closeOnSignal(['SIGTERM'])).toThrow(closed.message);
    await queue.close();
  });

  it('ends at the deadline what has not stopped, whose last checkpoint holds', async () => {
    const queue = new JobQueue();
    const checkpointed = await queue.add({ recipe: endless, out: at('deadline'), checkpointSeconds: 0 });
    await whenEvent(checkpointed, ({ type }) => type === 'checkpoint');
    await queue.close({ deadlineMs: 0 });
    await expect(checkpointed.outcome).rejects.toMatchObject({ code: 'INTERRUPTED' });
    const job = TrainingJob.resume({ runDirectory: at('deadline') });
    for await (const event of job) {
      if (event.type !== 'start') continue;
      expect(event.resumedFrom).not.toBeNull();
      break;
    }
    await job.cancel();
  });

  it('listens to signals until then', async () => {
    const before = process.listenerCount('SIGTERM');
    {
      await using queue = new JobQueue();
      queue.closeOnSignal(['SIGTERM', 'SIGHUP'], { deadlineMs: 1000 });
      queue.closeOnSignal(['SIGTERM']);
      expect(process.listenerCount('SIGTERM')).toBe(before + 2);
    }
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });
});

describe('what a queue is asked for is checked at once', () => {
  it.each<[string, unknown]>([
    ['JobQueue: expected an object for options, got null', null],
    ['JobQueue: unknown option runs, expected concurrency, threads for options', { runs: 'x' }],
    ['JobQueue: concurrency: expected a whole number of at least 1, got 0', { concurrency: 0 }],
    [
      'JobQueue: threads: expected a whole number of at least 3, one for each of the jobs at once, got 2',
      { concurrency: 3, threads: 2 },
    ],
    [
      'JobQueue: threads: expected a whole number of at least 1, one for each of the jobs at once, got 1.5',
      { threads: 1.5 },
    ],
  ])('%s', (message, options) => {
    expect(() => new JobQueue(options as JobQueueOptions)).toThrow(
      expect.objectContaining({ name: 'TrainingJobError', code: 'INVALID_ARGUMENT', message }),
    );
  });

  it.each<[string, string | RegExp, unknown]>([
    ['INVALID_ARGUMENT', 'JobQueue.add: expected an object for options, got undefined', undefined],
    ['INVALID_ARGUMENT', 'JobQueue.add: expected an object for recipe, got undefined', {}],
    ['INVALID_ARGUMENT', 'JobQueue.add: priority: expected a whole number, got "high"', { recipe, priority: 'high' }],
    ['INVALID_ARGUMENT', /^JobQueue.add: unknown option threads, expected cache, /, { recipe, threads: 2 }],
    ['INVALID_ARGUMENT', /^JobQueue.add: expected options that can be cloned: /, { recipe, cache: { host: () => 1 } }],
    [
      'INVALID_ARGUMENT',
      'JobQueue.add: threads: expected at most 1, those of the queue, got 2',
      { recipe: onThreads(2) },
    ],
    ['INVALID_RECIPE', /^seed: .*, got -1$/, { recipe: { ...recipe, seed: -1 } }],
    ['RUN_DIRECTORY', /already holds a run/, { recipe, out: at('whole') }],
  ])('%s: %s', async (code, message, options) => {
    await using queue = new JobQueue({ threads: 1 });
    await expect(queue.add(options as never)).rejects.toMatchObject({ name: 'TrainingJobError', code });
    await expect(queue.add(options as never)).rejects.toThrow(message);
    expect(queue.jobs).toEqual([]);
  });

  it('two jobs of one run directory are refused, and a run directory that is none', async () => {
    await using queue = new JobQueue();
    const job = await queue.add({ recipe: endless, out: at('twice') });
    const message = `${at('twice')} is the run directory of another job of the queue`;
    await expect(queue.add({ recipe, out: at('twice') })).rejects.toThrow(message);
    await whenStepping(job);
    await expect(queue.resume({ runDirectory: at('twice') })).rejects.toThrow(message);
    await expect(queue.resume({ runDirectory: at('nowhere') })).rejects.toMatchObject({ code: 'RUN_DIRECTORY' });
    await job.cancel();
    const again = await queue.resume({ runDirectory: at('twice') });
    await again.cancel();
    await expect(queue.close({ deadlineMs: 1e10 })).rejects.toThrow('from 0 to 2147483647, got 10000000000');
    await expect(queue.close({ deadlineMs: -1 })).rejects.toThrow(
      'deadlineMs: expected milliseconds from 0 to 2147483647, got -1',
    );
    for (const signals of [['SIGWHAT'], 'SIGTERM', null]) {
      expect(() => queue.closeOnSignal(signals as NodeJS.Signals[])).toThrow(
        `signals: expected names of signals, got ${JSON.stringify(signals)}`,
      );
    }
  });
});
