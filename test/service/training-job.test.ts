// The trainer embedded in a service: in a worker thread, with the event loop of the caller free.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { TrainingJob as Job, TrainingJobError } from '../../lib/service/index.js';
import type { TrainingEvent } from '../../lib/training/index.js';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';

// A worker is started from the built file.
const SERVICE = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'service', 'index.js')).href;
const { TrainingJob } = (await import(SERVICE)) as typeof import('../../lib/service/index.js');

const at = temporaryFolder();
const recipe = smallRecipe();

function eventsOf(job: Job): TrainingEvent[] {
  const events: TrainingEvent[] = [];
  job.on('event', (event) => events.push(event));
  return events;
}

const failure = (job: Job): Promise<TrainingJobError> =>
  job.outcome.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error as TrainingJobError,
  );

const when = (job: Job, test: (event: TrainingEvent) => boolean): Promise<void> =>
  new Promise((resolve, reject) => {
    job.on('event', (event) => {
      if (test(event)) resolve();
    });
    job.outcome.then(() => reject(new Error('it ended first')), reject);
  });

describe('a training job', () => {
  it('trains in a worker: its events come in order, and its outcome is the finished run', async () => {
    const job = TrainingJob.train({ recipe, out: at('whole') });
    const events = eventsOf(job);
    const outcome = await job.outcome;
    const epoch = ['step', 'step', 'step', 'step', 'epoch'];
    const layer = [...epoch, 'checkpoint', ...epoch, 'layer'];
    expect(events.map(({ type }) => type)).toEqual(['start', ...layer, ...layer, 'done']);
    expect(events.filter((event) => event.type === 'step').map(({ stepsDone }) => stepsDone)).toEqual(
      Array.from({ length: 16 }, (_, i) => i + 1),
    );
    expect(outcome.runDirectory).toBe(at('whole'));
    expect(JSON.parse(readFileSync(join(at('whole'), 'result.json'), 'utf8'))).toEqual(outcome.result);
  });

  it('leaves the event loop of the caller free', async () => {
    // Steps of some 100 ms: were they done here, a timer of 10 ms would wait as long.
    const heavy = smallRecipe({
      model: { width: 16, layers: 1 },
      dataset: { trainLimit: 512, testLimit: 8 },
      training: { epochs: 1, batchSize: 256 },
    });
    const gaps: number[] = [];
    const job = TrainingJob.train({ recipe: heavy, out: at('heavy') });
    let ticking: NodeJS.Timeout | undefined;
    let last = 0;
    job.on('event', ({ type }) => {
      if (type !== 'start') return;
      last = performance.now();
      ticking = setInterval(() => {
        const now = performance.now();
        gaps.push(now - last);
        last = now;
      }, 10);
    });
    await job.outcome;
    clearInterval(ticking);
    gaps.sort((a, b) => a - b);
    expect(gaps.length).toBeGreaterThan(5);
    expect(gaps[Math.floor(gaps.length / 2)]).toBeLessThan(20);
    // Not the longest of all: that one another process can be the cause of.
    expect(gaps[Math.floor(0.9 * gaps.length)]).toBeLessThan(50);
  });

  it('stops with a checkpoint when it is cancelled, and goes on to the same bits', async () => {
    const first = TrainingJob.train({ recipe, out: at('cancelled') });
    await when(first, (event) => event.type === 'step' && event.step === 2);
    await first.cancel();
    expect(await failure(first)).toMatchObject({
      name: 'TrainingJobError',
      code: 'INTERRUPTED',
      message: `training was interrupted; go on with --resume ${at('cancelled')}`,
    });
    const second = TrainingJob.resume({ runDirectory: at('cancelled'), checkpointSeconds: 0 });
    await when(second, (event) => event.type === 'checkpoint');
    await Promise.all([second.cancel(), second.cancel()]);
    expect(await failure(second)).toMatchObject({ code: 'INTERRUPTED' });

    const third = TrainingJob.resume({ runDirectory: at('cancelled') });
    const [started] = await third.outcome.then(() => [true]);
    expect(started).toBe(true);
    expect(productOf(at('cancelled'))).toEqual(productOf(at('whole')));
    // It is over: nothing to cancel, and no error.
    await third.cancel();
    await expect(third.outcome).resolves.toMatchObject({ runDirectory: at('cancelled') });
  });

  it('can be cancelled before it has begun', async () => {
    const job = TrainingJob.train({ recipe, out: at('early') });
    await job.cancel();
    expect(await failure(job)).toMatchObject({ code: 'INTERRUPTED' });
    await TrainingJob.resume({ runDirectory: at('early') }).outcome;
    expect(productOf(at('early'))).toEqual(productOf(at('whole')));
  });

  it('runs beside another, each with its share of the threads, to the bits it has alone', async () => {
    const other = smallRecipe({ seed: 3, precision: 'bf16' });
    const jobs = [
      TrainingJob.train({ recipe, out: at('beside-1') }),
      TrainingJob.train({ recipe: other, out: at('beside-2') }),
    ];
    await Promise.all(jobs.map((job) => job.outcome));
    await TrainingJob.train({ recipe: other, out: at('alone') }).outcome;
    expect(productOf(at('beside-1'))).toEqual(productOf(at('whole')));
    expect(productOf(at('beside-2'))).toEqual(productOf(at('alone')));
  });

  it.each<[string, () => Job, string | RegExp]>([
    [
      'INVALID_RECIPE',
      () => TrainingJob.train({ recipe: { ...recipe, seed: -1 }, out: at('bad') }),
      /^seed: .*, got -1$/,
    ],
    [
      'INVALID_ARGUMENT',
      () => TrainingJob.train({ recipe: smallRecipe({ model: { layers: 9 } }), out: at('bad') }),
      '',
    ],
    ['RUN_DIRECTORY', () => TrainingJob.train({ recipe, out: at('whole') }), 'already holds a run'],
    ['RUN_DIRECTORY', () => TrainingJob.resume({ runDirectory: at('nowhere') }), 'expected a run directory'],
    [
      'LOSS_NOT_FINITE',
      () => TrainingJob.train({ recipe: smallRecipe({ training: { learningRate: 1e30 } }), out: at('diverged') }),
      'learning rate 1e+30',
    ],
    [
      'DATA_NOT_FOUND',
      () =>
        TrainingJob.train({
          recipe: smallRecipe({ dataset: { name: 'cifar10', dataDir: at('nowhere') } }),
          out: at('no-data'),
        }),
      'no CIFAR-10 in',
    ],
  ])('fails with the code of the trainer: %s', async (code, start, message) => {
    const error = await failure(start());
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: 'TrainingJobError', code });
    expect(error.message).toMatch(message);
    // The stack of the worker, for whoever looks for the place.
    expect(error.cause).toContain('    at ');
  });

  it('a job that fails and is not awaited does not end the process, and none keeps it alive', async () => {
    const program = at('program.mjs');
    writeFileSync(
      program,
      `import { TrainingJob } from ${JSON.stringify(SERVICE)};
      const recipe = ${JSON.stringify(recipe)};
      TrainingJob.train({ recipe: { ...recipe, seed: -1 }, out: ${JSON.stringify(at('unawaited'))} });
      const job = TrainingJob.train({ recipe, out: ${JSON.stringify(at('last'))} });
      process.on('exit', () => console.log('exit', performance.now() - ended < 1000));
      let ended = NaN;
      const { result } = await job.outcome;
      ended = performance.now();
      console.log('layers', result.layers.length);`,
    );
    const child = spawn(process.execPath, [program], { env: { ...process.env, OMP_NUM_THREADS: '1' } });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect([output, code]).toEqual(['layers 2\nexit true\n', 0]);
  });
});
