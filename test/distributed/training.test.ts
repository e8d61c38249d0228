// Runs of several processes, against the same runs of one.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../lib/nn/index.js';
import { buildInfo, scope, type Tensor } from '../../lib/tensor/index.js';
import { type Ended, inFolder, type RunningRanks, startRanks } from './ranks.js';

const SMALL = {
  dataset: { trainLimit: 160, testLimit: 50 },
  training: { epochs: 2, batchSize: 16, milestones: [], learningRate: 0.01, syncBatchNorm: 'on' },
  evaluation: { batchSize: 20 },
  ...{ device: 'cpu', precision: 'fp32', threads: 1 },
};
const SIMCNN = { ...SMALL, model: { width: 8, auxWidth: 8, layers: 1, downsampleAt: [] } };
const TWO_LAYERS = { ...SMALL, model: { width: 8, auxWidth: 8, layers: 2, downsampleAt: [1] } };

interface Asked {
  readonly preset?: string;
  readonly changes?: object;
  readonly out?: string;
  readonly resume?: string;
  readonly abortAfter?: number;
  readonly abortRank?: number;
  readonly orResume?: boolean;
  readonly changesOf?: Readonly<Record<number, object>>;
}

let store = 0;

/** Processes that make runs, one after another. */
function start(folder: string, world: number, asked: readonly Asked[], timeoutMs = 60_000): RunningRanks {
  const file = join(folder, `store-${++store}`);
  const options = Array.from({ length: world }, (_, rank) => ({ rank, worldSize: world, timeoutMs, store: { file } }));
  const TRAIN = JSON.stringify(asked.map((one) => ({ preset: 'simcnn-k3', changes: SIMCNN, ...one })));
  return startRanks('train.mjs', options, { TRAIN });
}

interface Told {
  readonly losses: readonly number[];
  readonly notes: readonly string[];
  readonly failed?: { code: string; message: string; missing?: readonly number[] };
  readonly done?: readonly { testLoss: number; testTop1: number; ensembleTop1: number }[];
}

/** What a process told of its runs. */
function toldBy({ code, lines, stderr }: Ended): Told[] {
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const runs: Record<string, unknown>[] = [];
  for (const line of lines as Record<string, unknown>[]) {
    if ('run' in line) runs.push({ losses: [], notes: [] });
    else if ('loss' in line) (runs.at(-1)!.losses as unknown[]).push(line.loss);
    else Object.assign(runs.at(-1)!, line);
  }
  return runs as unknown as Told[];
}

/** By run, what each process told. */
async function runAll(folder: string, world: number, asked: readonly Asked[]): Promise<Told[][]> {
  const byRank = (await start(folder, world, asked).ended).map(toldBy);
  return asked.map((_, i) => byRank.map((runs) => runs[i]!));
}

const run = async (folder: string, world: number, asked: Asked): Promise<Told[]> =>
  (await runAll(folder, world, [asked]))[0]!;

/** The largest difference of two lists. */
function distance(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

const FILES = ['model.safetensors', 'auxiliary-heads.safetensors'];
const filesOf = (directory: string): string[] =>
  FILES.map((file) => join(directory, file)).filter((file) => existsSync(file));

const listed = (x: Tensor): number[] => scope(() => [...(x.to({ dtype: 'float64' }).toTypedArray() as Float64Array)]);

/** The largest difference of the weights and statistics of two runs. */
async function weightDistance(a: string, b: string): Promise<number> {
  let most = 0;
  for (const [i, file] of filesOf(a).entries()) {
    const [ours, theirs] = [await readSafetensors(file), await readSafetensors(filesOf(b)[i]!)];
    for (const [name, tensor] of ours.tensors) {
      most = Math.max(most, distance(listed(tensor), listed(theirs.tensors.get(name)!)));
    }
    for (const tensor of [...ours.tensors.values(), ...theirs.tensors.values()]) tensor.dispose();
  }
  return most;
}

const bitsOf = (directory: string): string[] =>
  filesOf(directory).map((file) => createHash('sha256').update(readFileSync(file)).digest('hex'));

const EQUAL: readonly { name: string; preset: string; changes: object }[] = [
  { name: 'SimCNN k = 1, without batch norm', preset: 'simcnn-k1', changes: SIMCNN },
  { name: 'SimCNN k = 3', preset: 'simcnn-k3', changes: SIMCNN },
  { name: 'VGG-11', preset: 'vgg11-layerwise', changes: { ...SMALL, model: { width: 4, layers: 2 } } },
  {
    ...{ name: 'all layers at once', preset: 'simcnn-k3' },
    changes: { ...TWO_LAYERS, training: { ...SMALL.training, schedule: 'simultaneous', learningRate: 1e-4 } },
  },
  {
    ...{ name: 'views that are kept', preset: 'simcnn-k1' },
    changes: { ...TWO_LAYERS, augmentation: { views: 1 } },
  },
  {
    ...{ name: 'AdamW', preset: 'simcnn-k3' },
    changes: { ...SIMCNN, training: { ...SMALL.training, optimizer: 'adamw', learningRate: 1e-4 } },
  },
];

describe.runIf(buildInfo().glooReason === '')('a run of several processes', { timeout: 120_000 }, () => {
  // Of three, two have 5 images of a batch of 16, and one has 6.
  it.each([2, 3])('has the losses, weights and statistics of one: %i processes', (world) =>
    inFolder(async (folder) => {
      const named = (count: number) => EQUAL.map((one, i) => ({ ...one, out: join(folder, `${count}-${i}`) }));
      const alone = await runAll(folder, 1, named(1));
      const together = await runAll(folder, world, named(world));
      for (const [i, { name }] of EQUAL.entries()) {
        const one = alone[i]![0]!;
        expect(one.losses.length, name).toBeGreaterThanOrEqual(20);
        for (const { losses, done } of together[i]!) {
          expect(distance(losses, one.losses), name).toBeLessThan(1e-5);
          expect(losses).toEqual(together[i]![0]!.losses);
          for (const [layer, { testLoss, ...rest }] of done!.entries()) {
            const expected = one.done![layer]!;
            expect(Math.abs(testLoss - expected.testLoss), name).toBeLessThan(1e-5);
            expect([rest.testTop1, rest.ensembleTop1]).toEqual([expected.testTop1, expected.ensembleTop1]);
          }
        }
        expect(await weightDistance(named(1)[i]!.out, named(world)[i]!.out), name).toBeLessThan(1e-5);
      }
    }),
  );

  it('with statistics of its own in each process has the gradients of parts of the batch', () =>
    inFolder(async (folder) => {
      const training = { ...SMALL.training, syncBatchNorm: 'off' };
      const parts = { ...SIMCNN, training: { ...training, microBatchSize: 8 } };
      const [alone] = await run(folder, 1, { changes: parts, out: join(folder, 'one') });
      const together = await run(folder, 2, { changes: { ...SIMCNN, training }, out: join(folder, 'two') });
      // The running statistics, which tests use, move once a step and not twice.
      expect(distance(together[0]!.losses, alone!.losses)).toBeLessThan(1e-5);
      expect(together[0]!.notes[0]).toMatch(/^2 processes .* 8 images of every batch of 16; .* each process's images/);
    }));

  it('goes on to the same bits, and with other processes to the same losses', () =>
    inFolder(async (folder) => {
      const out = (name: string | number): string => join(folder, `${name}`);
      // Rank 1 alone is told to stop: all stop after the same step.
      const stopping = [1, 2, 3].map((world) => ({ out: out(world), abortAfter: 13, abortRank: 1 }));
      const [whole, ...stopped] = await runAll(folder, 2, [{ out: out('whole') }, ...stopping]);
      for (const world of [1, 2, 3]) {
        const before = stopped[world - 1]!;
        for (const { failed, losses } of before) {
          expect(failed?.code).toBe('INTERRUPTED');
          expect(losses.length).toBe(before[0]!.losses.length);
        }
        const [rest] = await run(folder, world, { resume: out(world) });
        expect(distance([...before[0]!.losses, ...rest!.losses], whole![0]!.losses)).toBeLessThan(1e-5);
        if (world === 2) expect(bitsOf(out(world))).toEqual(bitsOf(out('whole')));
        else expect(rest!.notes.join()).toContain(`the number of its processes has changed, from 2 to ${world}`);
      }
    }));

  it('ends where a process dies, names it, and goes on from its checkpoint', () =>
    inFolder(async (folder) => {
      const out = join(folder, 'run');
      const ranks = start(folder, 3, [{ out }]);
      while (!existsSync(join(out, 'checkpoint', 'state.json'))) await ranks.printed(2);
      ranks.processes[1]!.kill('SIGKILL');
      const ended = await ranks.ended;
      for (const rank of [0, 2]) {
        const { failed } = toldBy(ended[rank]!)[0]!;
        expect(failed?.code).toBe('CONNECTION_LOST');
        expect(failed?.message).toMatch(/--resume .*missing: rank 1$/);
      }
      // Killed with a checkpoint of each step behind it, and metrics that may be beyond.
      const [rest] = await run(folder, 2, { resume: out });
      await run(folder, 1, { out: join(folder, 'whole') });
      expect(rest!.failed).toBeUndefined();
      expect(await weightDistance(out, join(folder, 'whole'))).toBeLessThan(1e-5);
    }));

  it('ends where a process hangs', () =>
    inFolder(async (folder) => {
      const ranks = start(folder, 2, [{ out: join(folder, 'run') }], 2_000);
      await ranks.printed(1);
      ranks.processes[1]!.kill('SIGSTOP');
      while (ranks.processes[0]!.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
      ranks.processes[1]!.kill('SIGKILL');
      const { failed } = toldBy((await ranks.ended)[0]!)[0]!;
      expect(failed?.code).toBe('TIMEOUT');
      expect(failed?.missing).toEqual([1]);
    }));

  it('is refused where it cannot be, and tells all why one failed', () =>
    inFolder(async (folder) => {
      const out = join(folder, 'run');
      const [other, lost, few] = await runAll(folder, 2, [
        { out, changesOf: { 1: { training: { learningRate: 0.02 } } } },
        { out, changesOf: { 1: { dataset: { name: 'folder', dataDir: '/nowhere' } } } },
        { out, changes: { ...SIMCNN, dataset: { trainLimit: 33, testLimit: 10 } } },
      ]);
      for (const { failed } of other!) {
        expect(failed?.code).toBe('MISMATCH');
        expect(failed?.message).toContain("the processes differ in the recipe's training: rank 0 has ");
      }
      expect(lost![0]!.failed?.code).toBe('RANK_FAILED');
      expect(lost![0]!.failed?.message).toMatch(/rank 1 failed: .*\/nowhere/);
      expect(lost![1]!.failed?.message).toContain('/nowhere');
      for (const { failed } of few!) {
        expect(failed?.code).toBe('INVALID_RECIPE');
        expect(failed?.message).toContain('33 training images in batches of 16 leave a batch of 1');
      }
      expect(existsSync(out)).toBe(false);
    }));

  it('that is started again goes on with what it began, and with no other recipe', () =>
    inFolder(async (folder) => {
      const out = join(folder, 'run');
      const runs = await runAll(folder, 2, [
        { out, abortAfter: 5 },
        { out, orResume: true },
        { out: join(folder, 'whole') },
        { out, changes: { ...SIMCNN, seed: 5 }, orResume: true },
      ]);
      expect(runs[0]![0]!.failed?.code).toBe('INTERRUPTED');
      expect(runs[1]![0]!.failed).toBeUndefined();
      expect(bitsOf(out)).toEqual(bitsOf(join(folder, 'whole')));
      for (const { failed } of runs[3]!) {
        expect(failed?.message).toContain('holds a run with another recipe, which differs in seed');
      }
    }));
});
