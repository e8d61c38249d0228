// The trainer embedded in a service: in a worker thread, with the event loop of the caller free.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainingJob as Job, TrainingJobError } from '../../lib/service/index.js';
import type { TrainingEvent } from '../../lib/training/index.js';
import { endlessFolder } from '../data/images.js';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';

// A worker is started from the built file.
const SERVICE = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'service', 'index.js')).href;
const { TrainingJob } = (await import(SERVICE)) as typeof import('../../lib/service/index.js');

const at = temporaryFolder();
const recipe = smallRecipe();

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
  const events: TrainingEvent[] = [];
  let outcome: Awaited<Job['outcome']>;
  beforeAll(async () => {
    const job = TrainingJob.train({ recipe, out: at('whole') });
    job.on('event', (event) => events.push(event));
    outcome = await job.outcome;
  });

  it('trains in a worker: its events come in order, and its outcome is the finished run', () => {
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
    // Between two steps the caller's loop goes round many times; were they done here, it would go round once.
    const turns: number[] = [];
    let turn = 0;
    let isOver = false;
    const count = (): void => {
      turn++;
      if (!isOver) setImmediate(count);
    };
    setImmediate(count);
    const job = TrainingJob.train({ recipe: smallRecipe({ model: { width: 8 } }), out: at('free') });
    job.on('event', ({ type }) => {
      if (type === 'step') turns.push(turn);
    });
    await job.outcome;
    isOver = true;
    const between = turns.slice(1).map((value, i) => value - turns[i]!);
    expect(between).toHaveLength(15);
    // Events that come together are told in one turn; on the whole there are many more turns than steps.
    expect(between.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(10 * 15);
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
    await third.outcome;
    expect(productOf(at('cancelled'))).toEqual(productOf(at('whole')));
    // It is over: nothing to cancel, and no error.
    await third.cancel();
    await expect(third.outcome).resolves.toMatchObject({ runDirectory: at('cancelled') });
  });

  it('can be cancelled before it has begun, with nothing written', async () => {
    const job = TrainingJob.train({ recipe, out: at('early') });
    await job.cancel();
    expect(await failure(job)).toMatchObject({
      code: 'INTERRUPTED',
      message: 'training was interrupted before anything was written: there is nothing to resume',
    });
    expect(existsSync(at('early'))).toBe(false);
  });

  it.runIf(process.platform === 'linux')('is cancelled while it reads its data', async () => {
    const dataDir = await endlessFolder(at('endless'));
    const endless = smallRecipe({ dataset: { name: 'folder', dataDir, trainLimit: null } });
    const job = TrainingJob.train({ recipe: endless, out: at('never') });
    await expect
      .poll(() => openFiles().some((file) => file.startsWith(dataDir)), { timeout: 30_000, interval: 2 })
      .toBe(true);
    await job.cancel();
    expect(await failure(job)).toMatchObject({ code: 'INTERRUPTED' });
    expect(existsSync(at('never'))).toBe(false);
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
      /expected an integer from 1 to 8 for layers, got 9$/,
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
    // The trainer's own error, with its stack in the worker.
    expect(error.cause).toMatchObject({ message: error.message, code });
    expect((error.cause as Error).stack).toContain('    at ');
  });

  it('fails with what the trainer knows of the place', async () => {
    const recipe = smallRecipe({ training: { learningRate: 1e30 } });
    const error = await failure(TrainingJob.train({ recipe, out: at('diverged-again') }));
    expect(error.at).toMatchObject({ layer: 0, epoch: 0, learningRate: 1e30 });
    expect(error.cause).toMatchObject({ name: 'NonFiniteLossError', code: 'LOSS_NOT_FINITE', at: error.at });
  });

  it('takes a directory of its own where none is named, also beside one that starts in the same second', async () => {
    const script = `import { TrainingJob } from ${JSON.stringify(SERVICE)};
      const jobs = [1, 2, 3].map(() => TrainingJob.train({ recipe: ${JSON.stringify(recipe)} }));
      const outcomes = await Promise.all(jobs.map((job) => job.outcome));
      console.log(new Set(outcomes.map((outcome) => outcome.runDirectory)).size);`;
    mkdirSync(at('default'));
    expect(await runNode(['--input-type=module', '-e', script], { cwd: at('default') })).toEqual(['3\n', 0]);
    const runs = readdirSync(join(at('default'), 'runs'));
    expect(runs).toHaveLength(3);
    for (const run of runs) {
      expect(run).toMatch(/^vgg11-layerwise-shapes-\d{8}-\d{6}(-[23])?$/);
      expect(existsSync(join(at('default'), 'runs', run, 'result.json'))).toBe(true);
    }
  });

  it.each([
    ['--input-type=module', '-e'],
    ['--input-type=commonjs', '--eval'],
    ['-p'],
    ['--no-warnings', '--max-old-space-size=500', '-e'],
    ['--import', 'data:text/javascript,globalThis.loaded = true', '--conditions=any', '--input-type=module', '-e'],
  ])('runs in a process with the flags %s %s', async (...flags) => {
    const out = at(`flags ${flags.join(' ').replaceAll('/', '-')}`);
    const script = `import(${JSON.stringify(SERVICE)}).then(async ({ TrainingJob }) => {
      const { result } = await TrainingJob.train({ recipe: ${JSON.stringify(recipe)}, out: ${JSON.stringify(out)} }).outcome;
      console.log('layers', result.layers.length);
    })`;
    const [output, code] = await runNode([...flags, script]);
    expect([output.replace('Promise { <pending> }\n', ''), code]).toEqual(['layers 2\n', 0]);
  });

  it.each([
    ['is terminated', 'worker.terminate()', /ended with code 1/],
    ['leaves by process.exit', "worker.postMessage('exit')", /ended with code 7/],
    ['is out of memory', "worker.postMessage('memory')", /memory/],
  ])('whose worker %s fails with WORKER_FAILED and leaves nothing locked', async (name, kill, message) => {
    const out = at(`dead ${name}`);
    // In the worker, before anything else: it ends itself when it is told.
    const preload = `import { isMainThread, parentPort } from 'node:worker_threads';
      if (!isMainThread) parentPort?.on('message', (message) => {
        if (message === 'exit') process.exit(7);
        if (message === 'memory') for (const all = []; ; ) all.push(new Array(1e6).fill(0.5));
      }).unref();`;
    const script = `import { Worker } from 'node:worker_threads';
      import { TrainingJob } from ${JSON.stringify(SERVICE)};
      // The job's worker is found by the first message that it is sent.
      let worker;
      const { postMessage } = Worker.prototype;
      Worker.prototype.postMessage = function (...args) { worker = this; };
      const job = TrainingJob.train({ recipe: ${JSON.stringify(smallRecipe({ training: { epochs: 50 } }))}, out: ${JSON.stringify(out)} });
      void job.cancel();
      Worker.prototype.postMessage = postMessage;
      job.once('event', () => ${kill});
      const error = await job.outcome.catch((error) => error);
      const again = TrainingJob.resume({ runDirectory: ${JSON.stringify(out)} });
      again.once('event', ({ type }) => { console.log(JSON.stringify([error.code, error.message, type])); void again.cancel(); });
      await again.outcome.catch((error) => console.log(error.code));`;
    const flags = ['--max-old-space-size=100', '--import', `data:text/javascript,${encodeURIComponent(preload)}`];
    const [output, code] = await runNode([...flags, '--input-type=module', '-e', script]);
    const [first, second] = output.trimEnd().split('\n').slice(-2);
    expect([JSON.parse(first!), second, code]).toEqual([
      ['WORKER_FAILED', expect.stringMatching(message), 'start'],
      'INTERRUPTED',
      0,
    ]);
  });

  it('a job that fails and is not awaited does not end the process, and none keeps it alive', async () => {
    const program = at('program.mjs');
    writeFileSync(
      program,
      `import { TrainingJob } from ${JSON.stringify(SERVICE)};
      const recipe = ${JSON.stringify(recipe)};
      TrainingJob.train({ recipe: { ...recipe, seed: -1 }, out: ${JSON.stringify(at('unawaited'))} });
      const job = TrainingJob.train({ recipe, out: ${JSON.stringify(at('last'))} });
      const { result } = await job.outcome;
      console.log('layers', result.layers.length);`,
    );
    // It ends by itself, or the test does not.
    expect(await runNode([program])).toEqual(['layers 2\n', 0]);
  });
});

/** Paths of the files that this process has open, its workers' too. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((descriptor) => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      // Closed in the meantime.
      return [];
    }
  });
}

/** What a Node process with these arguments prints, and its exit code. */
async function runNode(args: readonly string[], options: { cwd?: string } = {}): Promise<[string, number | null]> {
  const child = spawn(process.execPath, args, { env: { ...process.env, OMP_NUM_THREADS: '1' }, ...options });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return [output, code];
}

describe('what a job is asked for', () => {
  it.each<[string, unknown]>([
    ['TrainingJob.train: expected an object for options, got undefined', undefined],
    ['TrainingJob.train: expected an object for recipe, got undefined', { out: 'x' }],
    ['TrainingJob.train: out: expected a path, got 5', { recipe, out: 5 }],
    ['TrainingJob.train: out: expected a path, got ""', { recipe, out: '' }],
    ['TrainingJob.train: expected an object for startFrom, got string', { recipe, startFrom: 'x' }],
    ['TrainingJob.train: startFrom.runDirectory: expected a path, got nothing', { recipe, startFrom: {} }],
    ['TrainingJob.train: unknown option onEvent, expected cache, ', { recipe, onEvent: 'x' }],
    ['expected options that can be cloned: ', { recipe, cache: { host: () => 1 } }],
  ])('is checked at once: %s', (message, options) => {
    expect(() => TrainingJob.train(options as never)).toThrow(
      expect.objectContaining({
        name: 'TrainingJobError',
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      }),
    );
  });

  it.each<[string, unknown]>([
    ['TrainingJob.resume: expected an object for options, got undefined', undefined],
    ['TrainingJob.resume: runDirectory: expected a path, got nothing', {}],
    ['TrainingJob.resume: dataDir: expected a path, got 5', { runDirectory: 'x', dataDir: 5 }],
    ['TrainingJob.resume: unknown option out, expected cache, ', { runDirectory: 'x', out: 'y' }],
  ])('is checked at once: %s', (message, options) => {
    expect(() => TrainingJob.resume(options as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });

  it('is of the working directory in which it was asked', async () => {
    const program = `
      import { TrainingJob } from ${JSON.stringify(SERVICE)};
      const job = TrainingJob.train({ recipe: ${JSON.stringify(recipe)}, out: 'relative' });
      process.chdir('/');
      const { runDirectory } = await job.outcome;
      console.log(runDirectory);`;
    mkdirSync(at('asked'));
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      cwd: at('asked'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const text of child.stdout) output += text;
    expect(output).toBe(`${join(at('asked'), 'relative')}\n`);
    expect(existsSync(join(at('asked'), 'relative', 'result.json'))).toBe(true);
  });
});
