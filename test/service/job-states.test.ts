// A job's life: paused and gone on with, read as an iteration, ended by a signal or by leaving its block.
import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainingJob as Job, JobState } from '../../lib/service/index.js';
import type { TrainingEvent } from '../../lib/training/index.js';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';
import { endless, SERVICE, service, whenEvent } from './jobs.js';

const { TrainingJob } = service;

const MODULES = join(import.meta.dirname, '..', 'fixtures', 'modules');
const at = temporaryFolder();
const recipe = smallRecipe();

const isStep = (event: TrainingEvent): boolean => event.type === 'step';

function statesOf(job: Job): JobState[] {
  const states: JobState[] = [];
  job.on('state', (state) => states.push(state));
  return states;
}

beforeAll(async () => {
  await TrainingJob.train({ recipe, out: at('whole') }).outcome;
});

describe('a job that is paused', () => {
  it('leaves a checkpoint, holds nothing, and goes on to the same bits', async () => {
    const job = TrainingJob.train({ recipe, out: at('paused') });
    const states = statesOf(job);
    const starts: unknown[] = [];
    job.on('event', (event) => {
      if (event.type === 'start') starts.push(event.resumedFrom);
    });
    expect([job.state, job.runDirectory]).toEqual(['running', null]);
    await whenEvent(job, isStep);
    expect(job.runDirectory).toBe(at('paused'));
    await job.pause();
    expect(job.state).toBe('paused');
    expect(readdirSync(at('paused'))).not.toContain('run.lock');
    expect(existsSync(join(at('paused'), 'checkpoint', 'state.json'))).toBe(true);
    await job.resume();
    expect(job.state).toBe('running');
    await whenEvent(job, (event) => event.type === 'layer');
    const paused = job.pause();
    expect(job.state).toBe('pausing');
    await Promise.all([paused, job.pause()]);
    await job.resume();
    expect((await job.outcome).runDirectory).toBe(at('paused'));
    expect(states).toEqual([...['pausing', 'paused', 'running'], ...['pausing', 'paused', 'running'], 'finished']);
    expect(starts).toEqual([null, expect.objectContaining({ layer: 0 }), expect.objectContaining({ layer: 1 })]);
    expect(productOf(at('paused'))).toEqual(productOf(at('whole')));
  });

  it('before anything is written begins anew', async () => {
    const job = TrainingJob.train({ recipe, out: at('early') });
    await job.pause();
    expect([job.state, job.runDirectory, existsSync(at('early'))]).toEqual(['paused', null, false]);
    await job.resume();
    await job.outcome;
    expect(productOf(at('early'))).toEqual(productOf(at('whole')));
  });

  it('may be gone on with elsewhere meanwhile', async () => {
    const job = TrainingJob.train({ recipe, out: at('elsewhere') });
    await whenEvent(job, isStep);
    await job.pause();
    await TrainingJob.resume({ runDirectory: at('elsewhere') }).outcome;
    await job.resume();
    const { result } = await job.outcome;
    expect(result.layers).toHaveLength(2);
    expect(productOf(at('elsewhere'))).toEqual(productOf(at('whole')));
  });

  it('is cancelled as it is', async () => {
    const job = TrainingJob.train({ recipe: endless, out: at('given-up') });
    await whenEvent(job, isStep);
    await job.pause();
    await job.cancel();
    expect(job.state).toBe('cancelled');
    await expect(job.outcome).rejects.toMatchObject({
      code: 'INTERRUPTED',
      message: `training was interrupted; go on with --resume ${at('given-up')}`,
    });
    await job.resume();
    expect(job.state).toBe('cancelled');
  });

  it('is cancelled while it pauses, and gone on with while it pauses', async () => {
    const job = TrainingJob.train({ recipe: endless, out: at('hasty') });
    const states = statesOf(job);
    await whenEvent(job, isStep);
    void job.pause();
    await job.resume();
    await whenEvent(job, isStep);
    void job.pause();
    await job.cancel();
    expect(states).toEqual(['pausing', 'paused', 'running', 'pausing', 'cancelled']);
  });

  it('or gone on with when it is over stays over', async () => {
    const job = TrainingJob.resume({ runDirectory: at('whole') });
    expect(job.runDirectory).toBe(at('whole'));
    await job.outcome;
    await Promise.all([job.pause(), job.resume(), job.cancel()]);
    expect(job.state).toBe('finished');
  });
});

describe('the iteration over the events of a job', () => {
  it('has all events in order, for several readers', async () => {
    const job = TrainingJob.train({ recipe, out: at('read') });
    const heard: TrainingEvent[] = [];
    job.on('event', (event) => heard.push(event));
    const read = async () => {
      const events: TrainingEvent[] = [];
      for await (const event of job) events.push(event);
      return events;
    };
    const [first, second] = await Promise.all([read(), read()]);
    expect(heard.at(-1)!.type).toBe('done');
    const others = heard.filter((event) => !isStep(event));
    for (const events of [first, second]) {
      expect(events.filter((event) => !isStep(event))).toEqual(others);
      // In the order in which they came, whichever steps were passed over.
      expect(heard.filter((event) => events.includes(event))).toEqual(events);
    }
  });

  it('keeps for a reader that comes late all but the steps, of which the last of each row remains', async () => {
    const job = TrainingJob.train({ recipe, out: at('late') });
    const events = job.events();
    await job.outcome;
    const late: TrainingEvent[] = [];
    for await (const event of events) late.push(event);
    const layer = ['step', 'epoch', 'checkpoint', 'step', 'epoch', 'layer'];
    expect(late.map(({ type }) => type)).toEqual(['start', ...layer, ...layer, 'done']);
    expect(late.flatMap((event) => (event.type === 'step' ? [event.stepsDone] : []))).toEqual([4, 8, 12, 16]);
    // One that begins after the end has none.
    for await (const event of job) expect.fail(event.type);
  });

  it('ends with the error of the job', async () => {
    const job = TrainingJob.train({ recipe: smallRecipe({ training: { learningRate: 1e30 } }), out: at('diverged') });
    const types = new Set<string>();
    const read = async () => {
      for await (const { type } of job) types.add(type);
    };
    await expect(read()).rejects.toMatchObject({ name: 'TrainingJobError', code: 'LOSS_NOT_FINITE' });
    expect(types).toContain('start');
    expect(job.state).toBe('failed');
    await expect(read()).rejects.toMatchObject({ code: 'LOSS_NOT_FINITE' });
  });
});

describe('a signal', () => {
  it('that is aborted before leaves nothing', async () => {
    const reason = AbortSignal.abort();
    const job = TrainingJob.train({ recipe, out: at('never'), signal: reason });
    expect(job.state).toBe('cancelled');
    await expect(job.outcome).rejects.toMatchObject({
      code: 'INTERRUPTED',
      message: 'training was interrupted before anything was written: there is nothing to resume',
    });
    expect(existsSync(at('never'))).toBe(false);
  });

  it('cancels with a checkpoint, a paused job too, and is let go of when the job is over', async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const running = TrainingJob.train({ recipe: endless, out: at('aborted'), signal });
    const paused = TrainingJob.train({ recipe: endless, out: at('aborted-paused'), signal });
    const finished = TrainingJob.resume({ runDirectory: at('whole'), signal });
    await Promise.all([finished.outcome, paused.pause(), whenEvent(running, isStep)]);
    expect(getEventListeners(signal, 'abort')).toHaveLength(2);
    controller.abort();
    for (const job of [running, paused]) await expect(job.outcome).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect([running.state, paused.state, finished.state]).toEqual(['cancelled', 'cancelled', 'finished']);
    expect(existsSync(join(at('aborted'), 'checkpoint', 'state.json'))).toBe(true);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  it('must be one', () => {
    const signal = 5 as unknown as AbortSignal;
    expect(() => TrainingJob.train({ recipe, signal })).toThrow(
      'TrainingJob.train: signal: expected an AbortSignal, got 5',
    );
  });
});

/** How nice each thread of this process is, and the nanoseconds that it has computed, by its id. */
function threadsOfProcess(): Map<string, { niceness: number; busy: number }> {
  return new Map(
    readdirSync('/proc/self/task').map((thread) => {
      const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
      const [busy] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ');
      // Field 19 of proc(5), of which the name, field 2, may hold spaces.
      const niceness = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
      return [thread, { niceness, busy: Number(busy) }];
    }),
  );
}

it.runIf(process.platform === 'linux')(
  'the threads that a job computes on step back as far as it is said',
  async () => {
    const before = getPriority();
    const nicer = Math.min(before + 3, 19);
    /** Of the two threads that compute most while the job does some steps. */
    async function busiest(): Promise<number[]> {
      const start = threadsOfProcess();
      let steps = 0;
      for await (const event of job) if (isStep(event) && ++steps === 20) break;
      return [...threadsOfProcess()]
        .map(([thread, { niceness, busy }]) => ({ niceness, busy: busy - (start.get(thread)?.busy ?? 0) }))
        .sort((a, b) => b.busy - a.busy)
        .slice(0, 2)
        .map(({ niceness }) => niceness);
    }
    await using job = TrainingJob.train({
      recipe: smallRecipe({
        ...{ threads: 2, model: { width: 16 } },
        training: { epochs: 100_000, batchSize: 60 },
      }),
      niceness: 3,
      out: at('nice'),
    });
    await whenEvent(job, isStep);
    expect(await busiest()).toEqual([nicer, nicer]);
    expect(getPriority()).toBe(before);
    await job.pause();
    await job.resume();
    await whenEvent(job, isStep);
    expect(await busiest()).toEqual([nicer, nicer]);
  },
);

it.each([20, -1, 1.5, '5'])('a niceness of %s is refused', (niceness) => {
  expect(() => TrainingJob.train({ recipe, niceness: niceness as number })).toThrow(
    `TrainingJob.train: niceness: expected a whole number from 0 to 19, got ${JSON.stringify(niceness)}`,
  );
});

it('a job is cancelled where its block is left', async () => {
  let job: Job;
  {
    await using inBlock = TrainingJob.train({ recipe: endless, out: at('block') });
    job = inBlock;
    await whenEvent(job, isStep);
  }
  expect(job.state).toBe('cancelled');
  expect(readdirSync(at('block'))).not.toContain('run.lock');
});

it('a listener that throws is an uncaught exception, and the job goes on', async () => {
  const program = `import { TrainingJob } from ${JSON.stringify(SERVICE)};
    const caught = new Set();
    process.on('uncaughtException', ({ message }) => caught.add(message));
    const job = TrainingJob.train({ recipe: ${JSON.stringify(recipe)}, out: ${JSON.stringify(at('throws'))} });
    job.on('event', ({ type }) => { throw new Error('of ' + type); });
    job.on('state', (state) => { throw new Error('of ' + state); });
    const { result } = await job.outcome;
    let seen = 0;
    setImmediate(() => console.log([...caught].join(), result.layers.length));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code] = await once(child, 'close');
  expect([output, code]).toEqual(['of start,of step,of epoch,of checkpoint,of layer,of done,of finished 2\n', 0]);
});

describe('code of the user in the thread of a job', () => {
  const own = JSON.stringify(pathToFileURL(join(MODULES, 'own.mjs')).href);
  const moduleOf = (name: string, text: string): URL => {
    const file = at(name);
    writeFileSync(file, text);
    return pathToFileURL(file);
  };
  const ownRecipe = { ...recipe, preset: 'own', model: { name: 'own' as const, options: { width: 6 } } };
  const withNetwork = (network: URL, out: string) => TrainingJob.train({ recipe: ownRecipe, network, out });

  it('that leaves a timer behind does not keep the job from ending', async () => {
    const module = moduleOf('timer.mjs', `export { network } from ${own};\nsetInterval(() => {}, 1000);`);
    const job = withNetwork(module, at('timer'));
    expect((await job.outcome).runDirectory).toBe(at('timer'));
  });

  it('that fails with a code of the trainer fails the job', async () => {
    const text = `export const network = () => { throw Object.assign(new Error('mine'), { code: 'INTERRUPTED' }); };`;
    const job = withNetwork(moduleOf('code.mjs', text), at('code'));
    await expect(job.outcome).rejects.toThrow('mine');
    expect(job.state).toBe('failed');
  });

  it.each([
    ['leaves by process.exit', 'process.exit(7)', 'ended with code 7'],
    ['throws outside of every call', "setImmediate(() => { throw 'a text'; })", 'a text'],
  ])('that %s fails the job, and leaves nothing locked', async (name, statement, message) => {
    const out = at(name);
    const onceBegun = `const waiting = setInterval(() => {
      if (!existsSync(${JSON.stringify(join(out, 'config.json'))})) return;
      clearInterval(waiting);
      ${statement};
    });`;
    const module = moduleOf(
      `${name}.mjs`,
      `import { existsSync } from 'node:fs';\nexport { network } from ${own};\n${onceBegun}`,
    );
    const job = withNetwork(module, out);
    await expect(job.outcome).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      message: expect.stringContaining(message),
    });
    expect(job.state).toBe('failed');
    const network = pathToFileURL(join(MODULES, 'own.mjs'));
    await TrainingJob.resume({ runDirectory: out, network }).outcome;
  });
});
