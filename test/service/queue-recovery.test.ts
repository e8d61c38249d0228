// What of a queue outlives its process: jobs that were killed with it, that a signal stopped, that had not begun.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { OpenQueueOptions, QueuedJob } from '../../lib/service/index.js';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';
import { endless, SERVICE, service, whenEvent, whenStepping } from './jobs.js';

const { JobQueue, TrainingJob } = service;

const own = pathToFileURL(join(import.meta.dirname, '..', 'fixtures', 'modules', 'own.mjs'));
const at = temporaryFolder();
const recipe = smallRecipe();

const kept = (runs: string) =>
  JSON.parse(readFileSync(join(runs, 'queue.json'), 'utf8')) as { jobs: { id: string; isPaused: boolean }[] };
const locksIn = (runs: string) =>
  readdirSync(runs, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.lock'));

/** A process whose program has `JobQueue`, `recipe`, `endless` and `runs`; what it prints, and how it ends. */
async function inProcess(runs: string, program: string): Promise<{ output: string; code: number; signal: string }> {
  const start = `import { JobQueue } from ${JSON.stringify(SERVICE)};
    const [runs, recipe, endless] = ${JSON.stringify([runs, recipe, endless])};`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', start + program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code, signal] = await once(child, 'close');
  return { output, code, signal };
}

/** Opens the queue again and lets all its jobs end. */
async function finishAll(options: OpenQueueOptions): Promise<QueuedJob[]> {
  await using queue = await JobQueue.open(options);
  const jobs = [...queue.jobs];
  await Promise.all(jobs.map(({ outcome }) => outcome));
  return jobs;
}

beforeAll(async () => {
  await TrainingJob.train({ recipe, out: at('whole') }).outcome;
});

describe('jobs come back', () => {
  it('after a kill of the process, those that ran and those that waited, to the bits of a run alone', async () => {
    const runs = at('killed');
    const { output, signal } = await inProcess(
      runs,
      `const queue = await JobQueue.open({ runs, concurrency: 2, threads: 2 });
      const jobs = [];
      for (let i = 0; i < 4; i++) jobs.push(await queue.add({ recipe, priority: i === 3 ? 1 : 0 }));
      console.log(jobs.map(({ id }) => id).join());
      jobs[0].on('event', ({ type }) => { if (type === 'checkpoint') process.kill(process.pid, 'SIGKILL'); });`,
    );
    expect(signal).toBe('SIGKILL');
    const ids = output.trim().split(',');
    expect(existsSync(join(runs, ids[0]!, 'checkpoint', 'state.json'))).toBe(true);
    expect(existsSync(join(runs, ids[2]!))).toBe(false);

    const queue = await JobQueue.open({ runs, threads: 1 });
    expect(queue.jobs.map(({ id }) => id)).toEqual(ids);
    expect(queue.jobs.map(({ priority }) => priority)).toEqual([0, 0, 0, 1]);
    expect(queue.interrupted).toEqual([]);
    const [first] = queue.jobs;
    const starts: unknown[] = [];
    first!.on('event', (event) => event.type === 'start' && starts.push(event.resumedFrom));
    await Promise.all(queue.jobs.map(({ outcome }) => outcome));
    expect(starts).toEqual([expect.objectContaining({ layer: 0 })]);
    for (const id of ids) expect(productOf(join(runs, id)), id).toEqual(productOf(at('whole')));
    await queue.close();
    expect(kept(runs).jobs).toEqual([]);
    expect(locksIn(runs)).toEqual([]);
  });

  it('after SIGTERM, by which each writes its checkpoint and the process ends', async () => {
    const runs = at('terminated');
    const { signal } = await inProcess(
      runs,
      `const queue = await JobQueue.open({ runs, concurrency: 2, threads: 2 });
      queue.closeOnSignal(['SIGTERM'], { deadlineMs: 30_000 });
      const jobs = [];
      for (let i = 0; i < 4; i++) jobs.push(await queue.add({ recipe: endless, out: runs + '/job-' + i }));
      await jobs[3].cancel();
      for (const job of jobs.slice(0, 2)) for await (const { type } of job) if (type === 'step') break;
      process.kill(process.pid, 'SIGTERM');`,
    );
    expect(signal).toBe('SIGTERM');
    expect(locksIn(runs)).toEqual([]);
    expect(kept(runs).jobs).toHaveLength(3);
    for (const name of ['job-0', 'job-1']) {
      expect(existsSync(join(runs, name, 'checkpoint', 'state.json')), name).toBe(true);
    }
    await using queue = await JobQueue.open({ runs, recover: 'pause' });
    expect(queue.jobs.map(({ state }) => state)).toEqual(['paused', 'paused', 'paused']);
    await queue.jobs[1]!.resume();
    await whenEvent(queue.jobs[1]!, (event) => event.type === 'start' && event.resumedFrom !== null);
    for (const job of queue.jobs) await job.cancel();
    expect(queue.jobs).toEqual([]);
  });

  it('and a program that listens for the signal itself ends as it wants', async () => {
    const { output, code } = await inProcess(
      at('own-end'),
      `const queue = await JobQueue.open({ runs });
      queue.closeOnSignal(['SIGTERM']);
      const job = await queue.add({ recipe: endless });
      process.once('SIGTERM', async () => {
        await job.outcome.catch(({ code }) => console.log(code));
        await queue.close();
        process.exitCode = 5;
      });
      process.on('SIGTERM', () => {});
      process.kill(process.pid, 'SIGTERM');`,
    );
    expect([output, code]).toEqual(['INTERRUPTED\n', 5]);
  });

  it('paused where they were paused, and not where they were cancelled or are over', async () => {
    const runs = at('states');
    const queue = await JobQueue.open({ runs });
    const running = await queue.add({ recipe });
    const [paused, waiting, cancelled] = [
      await queue.add({ recipe }),
      await queue.add({ recipe }),
      await queue.add({ recipe }),
    ];
    await whenStepping(running);
    await Promise.all([paused.pause(), cancelled.cancel()]);
    const aborted = await queue.add({ recipe, signal: AbortSignal.abort() });
    expect(aborted.state).toBe('cancelled');
    await queue.close();
    expect(waiting.state).toBe('cancelled');
    expect(kept(runs).jobs.map(({ id }) => id)).toEqual([running.id, paused.id, waiting.id]);

    await using again = await JobQueue.open({ runs });
    const [first, second, third] = again.jobs;
    expect(second!.state).toBe('paused');
    await Promise.all([first!.outcome, third!.outcome]);
    expect(again.jobs).toEqual([second]);
    await second!.resume();
    await second!.outcome;
    for (const { id } of [running, paused, waiting]) expect(productOf(join(runs, id))).toEqual(productOf(at('whole')));
  });

  it('only where their modules may run', async () => {
    const runs = at('modules');
    const ownRecipe = { ...recipe, preset: 'own', model: { name: 'own' as const, options: { width: 6 } } };
    const queue = await JobQueue.open({ runs });
    const first = await queue.add({ recipe: ownRecipe, network: own });
    const second = await queue.add({ recipe: ownRecipe, network: own });
    await whenStepping(first);
    await queue.close();

    const distrustful = await JobQueue.open({ runs });
    expect(distrustful.jobs).toEqual([]);
    const problem = `it needs ${own.href}, which is not run without trustModules`;
    expect(distrustful.interrupted).toEqual(
      [first, second].map(({ id }) => ({ id, runDirectory: join(runs, id), problem })),
    );
    await distrustful.close();

    const jobs = await finishAll({ runs, trustModules: true });
    expect(jobs.map(({ id }) => id)).toEqual([first.id, second.id]);
    expect(productOf(join(runs, first.id))).toEqual(productOf(join(runs, second.id)));
  });

  it('not on fewer threads than they began on', async () => {
    const runs = at('fewer');
    const queue = await JobQueue.open({ runs, threads: 2 });
    const job = await queue.add({ recipe: smallRecipe({ threads: null, training: { epochs: 100_000 } }) });
    expect(job.threads).toBe(2);
    await whenStepping(job);
    await queue.close();
    const smaller = await JobQueue.open({ runs, threads: 1 });
    const problem = 'JobQueue.open: threads: expected at most 1, those of the queue, got 2';
    expect(smaller.interrupted).toEqual([{ id: job.id, runDirectory: join(runs, job.id), problem }]);
    await smaller.close();
    expect(kept(runs).jobs).toHaveLength(1);
    const again = await JobQueue.open({ runs, threads: 2, recover: 'pause' });
    expect(again.jobs.map(({ id, threads, state }) => [id, threads, state])).toEqual([[job.id, 2, 'paused']]);
    await again.close();
    // So that it goes on where the queue is opened without.
    expect(kept(runs).jobs.map(({ isPaused }) => isPaused)).toEqual([false]);
    const last = await JobQueue.open({ runs, threads: 1 });
    await last.forget(job.id);
    expect(last.interrupted).toEqual([]);
    await last.close();
    expect(kept(runs).jobs).toEqual([]);
  });
});

describe('the folder of a queue', () => {
  it('is free again, and signals have their effect, where a listener throws while it is closed', async () => {
    const runs = at('throwing');
    const program = `const queue = await JobQueue.open({ runs });
      queue.closeOnSignal(['SIGTERM']);
      process.on('uncaughtException', ({ message }) => console.log(message));
      const jobs = [await queue.add({ recipe: endless }), await queue.add({ recipe: endless })];
      jobs[1].on('state', (state) => { throw new Error('of ' + state); });
      await queue.close();
      console.log(jobs.map(({ state }) => state).join(), process.listenerCount('SIGTERM'));
      await (await JobQueue.open({ runs, recover: 'pause' })).close();`;
    expect(await inProcess(runs, program)).toEqual({
      output: 'of cancelled\ncancelled,cancelled 0\n',
      code: 0,
      signal: null,
    });
  });

  it('is that of one queue at a time', async () => {
    const runs = at('one');
    const queue = await JobQueue.open({ runs });
    await expect(JobQueue.open({ runs })).rejects.toMatchObject({
      code: 'QUEUE_HELD',
      message:
        `${runs}: another queue has this folder (process ${process.pid} on host ${hostname()}, for less than a minute): ` +
        'close it first',
    });
    const program = `await JobQueue.open({ runs }).catch(({ code }) => console.log(code));`;
    expect((await inProcess(runs, program)).output).toBe('QUEUE_HELD\n');
    await queue.close();
    const next = await JobQueue.open({ runs });
    await next.close();
  });

  it('may hold other unfinished runs, which are named and left alone', async () => {
    const runs = at('others');
    const stopped = TrainingJob.train({ recipe: endless, out: join(runs, 'stopped') });
    const busy = TrainingJob.train({ recipe: endless, out: join(runs, 'busy') });
    await TrainingJob.train({ recipe, out: join(runs, 'finished') }).outcome;
    await Promise.all([stopped, busy].map(whenStepping));
    await stopped.cancel();
    mkdirSync(join(runs, 'foreign'));
    writeFileSync(join(runs, 'foreign', 'config.json'), '{"package": "another"}');
    // A lock that cannot be read.
    cpSync(join(runs, 'stopped'), join(runs, 'unclear'), { recursive: true });
    mkdirSync(join(runs, 'unclear', 'run.lock'));
    const queue = await JobQueue.open({ runs });
    await busy.cancel();
    expect(queue.interrupted).toEqual([
      { runDirectory: join(runs, 'stopped'), id: null, problem: null },
      { runDirectory: join(runs, 'unclear'), id: null, problem: expect.stringMatching(/EISDIR/) },
    ]);
    expect(queue.jobs).toEqual([]);
    const job = await queue.resume({ runDirectory: queue.interrupted[0]!.runDirectory });
    await whenStepping(job);
    await queue.close();
    await using again = await JobQueue.open({ runs, recover: 'pause' });
    expect(again.jobs.map(({ id, runDirectory }) => [id, runDirectory])).toEqual([[job.id, join(runs, 'stopped')]]);
    expect(again.interrupted.map(({ runDirectory }) => runDirectory)).toEqual([
      join(runs, 'busy'),
      join(runs, 'unclear'),
    ]);
  });

  it('gives the result of a job whose end was not noted any more', async () => {
    const runs = at('unnoted');
    const queue = await JobQueue.open({ runs });
    const job = await queue.add({ recipe });
    const before = readFileSync(join(runs, 'queue.json'));
    const { result } = await job.outcome;
    await queue.close();
    writeFileSync(join(runs, 'queue.json'), before);
    const [again] = await finishAll({ runs });
    expect([again!.id, (await again!.outcome).result]).toEqual([job.id, result]);
  });

  it.each<[string, string | RegExp]>([
    ['{', /queue\.json:1:2: /],
    ['[]', /queue\.json: the whole: expected object, got \[\]/],
    ['{"package": "layerwise", "formatVersion": 2, "jobs": []}', /queue\.json: formatVersion: expected 1, got 2/],
    [
      '{"package": "layerwise", "formatVersion": 1, "jobs": [{"id": "a", "priority": 0, "isPaused": false, "input": {"kind": "x"}}]}',
      /queue\.json: jobs\.0\.input\.kind: /,
    ],
  ])('is refused with a damaged queue.json, and not held then: %s', async (text, message) => {
    const runs = at('damaged');
    mkdirSync(runs, { recursive: true });
    writeFileSync(join(runs, 'queue.json'), text);
    await expect(JobQueue.open({ runs })).rejects.toMatchObject({ code: 'QUEUE_FILE' });
    await expect(JobQueue.open({ runs })).rejects.toThrow(message);
    expect(locksIn(runs)).toEqual([]);
  });

  it('that is lost takes no job, and what cannot be kept is refused', async () => {
    const runs = at('lost');
    const queue = await JobQueue.open({ runs });
    await expect(queue.add({ recipe, cache: { host: Number.POSITIVE_INFINITY } })).rejects.toThrow(
      'options.cache.host: expected a value of JSON, which is kept, got Infinity',
    );
    await expect(queue.add({ recipe, orResume: true } as never)).rejects.toThrow(
      'JobQueue.add: orResume: expected none, a run that has begun is for JobQueue.resume; got true',
    );
    rmSync(runs, { recursive: true });
    await expect(queue.add({ recipe })).rejects.toMatchObject({ code: 'LOCK_LOST' });
    expect(queue.jobs).toEqual([]);
    await queue.close();
  });

  it.each<[string, unknown]>([
    ['JobQueue.open: runs: expected a path, got nothing', {}],
    ['JobQueue.open: recover: expected resume or pause, got "list"', { runs: 'x', recover: 'list' }],
    ['JobQueue.open: trustModules: expected true or false, got "no"', { runs: 'x', trustModules: 'no' }],
    [
      'JobQueue.open: unknown option folder, expected concurrency, threads, runs, recover, trustModules for options',
      { folder: 'x' },
    ],
  ])('is asked for as it must be: %s', async (message, options) => {
    await expect(JobQueue.open(options as OpenQueueOptions)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message,
    });
  });
});
