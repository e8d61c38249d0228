// Runs of several processes, each with a share of every batch, against the same runs of one.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildInfo } from '../../lib/tensor/index.js';
import { layerwise } from '../cli/cli.js';
import { inFolder } from './ranks.js';
import {
  bitsOf,
  distance,
  run,
  runAll,
  SIMCNN,
  SMALL,
  start,
  TWO_LAYERS,
  toldBy,
  valuesIn,
  weightDistance,
} from './runs.js';

const EQUAL: readonly { name: string; preset: string; changes: object }[] = [
  { name: 'SimCNN k = 1, without batch norm', preset: 'simcnn-k1', changes: SIMCNN },
  { name: 'SimCNN k = 3', preset: 'simcnn-k3', changes: SIMCNN },
  {
    name: 'VGG-11',
    preset: 'vgg11-layerwise',
    changes: { ...SMALL, model: { width: 4, layers: 2 }, evaluation: { batchSize: 100 } },
  },
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
  {
    ...{ name: 'Muon', preset: 'simcnn-k3' },
    changes: {
      ...SIMCNN,
      training: { ...SMALL.training, optimizer: 'muon', learningRate: 1e-3, sgdLearningRate: 1e-3 },
    },
  },
];

describe.runIf(buildInfo().glooReason === '')('a run of several processes', { timeout: 120_000 }, () => {
  // Of three, two have 5 images of a batch of 16, and one has 6.
  it.each([2, 3])('has the losses, weights and statistics of one: %i processes', (world) =>
    inFolder(async (folder) => {
      const runs = world === 2 ? EQUAL : EQUAL.slice(1, 3);
      const named = (count: number) => runs.map((one, i) => ({ ...one, out: join(folder, `${count}-${i}`) }));
      const alone = await runAll(folder, 1, named(1));
      const together = await runAll(folder, world, named(world));
      for (const [i, { name }] of runs.entries()) {
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

  it('averages statistics of a layer that is in two places once, and has one set of other buffers', () =>
    inFolder(async (folder) => {
      // Weights that stay: then running means of two halves have the mean of those of the whole.
      const training = { ...SMALL.training, syncBatchNorm: 'off', learningRate: 1e-12, weightDecay: 0 };
      const own = { preset: 'own', network: 'tied-network.mjs', changes: { ...SMALL, training } };
      const out = (name: string): string => join(folder, name);
      const [alone] = await run(folder, 1, { ...own, out: out('one') });
      const together = await run(folder, 2, { ...own, out: out('two') });
      expect([alone!.failed, together[0]!.failed]).toEqual([undefined, undefined]);
      const [one, two] = [await valuesIn(out('one')), await valuesIn(out('two'))];
      const means = [...one.keys()].filter((name) => name.endsWith('running_mean'));
      expect(means.length).toBeGreaterThan(0);
      for (const name of means) expect(distance(one.get(name)!, two.get(name)!), name).toBeLessThan(1e-5);
      // Each process has tested some of the batches, by its own buffers: those of the file.
      const network = join(import.meta.dirname, 'programs', own.network);
      const evaluated = await layerwise(['evaluate', '--run', out('two'), '--network', network, '--json']);
      expect(evaluated.code, evaluated.stderr).toBe(0);
      const { loss } = JSON.parse(evaluated.stdout) as { loss: number };
      expect(Math.abs(loss - together[0]!.done![0]!.testLoss)).toBeLessThan(1e-5);
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

  it('records the threads of another number of processes, on which it goes on', () =>
    inFolder(async (folder) => {
      const out = join(folder, 'run');
      const recorded = (): object => {
        const { processes = 1, threads } = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
        return { processes, threads };
      };
      const stopping = { abortAfter: 1, abortRank: 0 };
      const changes = { ...SIMCNN, threads: null };
      await run(folder, 2, { changes, out, ...stopping });
      expect(recorded()).toEqual({ processes: 2, threads: 1 });
      // As on another machine, where each process of two had more.
      const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
      writeFileSync(join(out, 'config.json'), JSON.stringify({ ...config, threads: 3 }));
      for (const world of [3, 3]) {
        await run(folder, world, { resume: out, ...stopping });
        expect(recorded()).toEqual({ processes: 3, threads: 1 });
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
