// Runs whose layers train at once in processes of their own, against one process.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildInfo } from '../../lib/tensor/index.js';
import { balanced } from '../../lib/training/layer-pipeline.js';
import { inFolder } from './ranks.js';
import { bitsOf, run, runAll, SMALL } from './runs.js';

const atOnce = { ...SMALL.training, schedule: 'simultaneous' };
const NETWORKS: readonly { name: string; preset: string; changes: object }[] = [
  {
    ...{ name: 'SimCNN k = 3', preset: 'simcnn-k3' },
    changes: { ...SMALL, model: { width: 8, auxWidth: 8, layers: 4, downsampleAt: [2] }, training: atOnce },
  },
  {
    ...{ name: 'VGG-11, in blocks', preset: 'vgg11-layerwise' },
    changes: { ...SMALL, model: { width: 4 }, training: { ...atOnce, blocks: 4 } },
  },
  {
    ...{ name: 'bf16, AdamW, micro-batches', preset: 'simcnn-k1' },
    changes: {
      ...{ ...SMALL, precision: 'bf16', model: { width: 8, auxWidth: 8, layers: 3, downsampleAt: [1] } },
      training: { ...atOnce, optimizer: 'adamw', learningRate: 1e-3, microBatchSize: 6 },
    },
  },
  {
    ...{ name: 'Muon', preset: 'simcnn-k1' },
    changes: {
      ...{ ...SMALL, model: { width: 8, auxWidth: 8, layers: 3, downsampleAt: [1] } },
      training: { ...atOnce, optimizer: 'muon', nesterov: true },
    },
  },
];
const [SIMCNN] = NETWORKS;
const group = { parallel: 'layers' };

describe.runIf(buildInfo().glooReason === '')('layers in processes of their own', { timeout: 120_000 }, () => {
  it.each([2, 3])('have the bits of one process: %i processes', (world) =>
    inFolder(async (folder) => {
      const networks = world === 2 ? NETWORKS : NETWORKS.slice(0, 1);
      const named = (count: number) => networks.map((one, i) => ({ ...one, out: join(folder, `${count}-${i}`) }));
      const alone = await runAll(folder, 1, named(1));
      const together = await runAll(
        folder,
        world,
        named(world).map((one) => ({ ...one, group })),
      );
      for (const [i, { name }] of networks.entries()) {
        const layers = (done: readonly object[] | undefined) => done?.map((layer) => ({ ...layer, seconds: null }));
        for (const { done, failed } of together[i]!) {
          expect(failed, name).toBeUndefined();
          expect(layers(done), name).toEqual(layers(alone[i]![0]!.done));
        }
        expect(bitsOf(named(world)[i]!.out), name).toEqual(bitsOf(named(1)[i]!.out));
      }
    }),
  );

  it.each([NETWORKS[0]!, NETWORKS[2]!])('stop after the same batch, and go on to the same bits: $name', (network) =>
    inFolder(async (folder) => {
      const out = (name: string | number): string => join(folder, `${name}`);
      const stopping = [1, 2].map((world) => ({ ...network, out: out(world), abortAfter: 7, abortRank: 0, group }));
      const [whole, ...stopped] = await runAll(folder, 2, [{ ...network, out: out('whole'), group }, ...stopping]);
      expect(whole![0]!.failed).toBeUndefined();
      for (const [i, ranks] of stopped.entries()) {
        for (const { failed, losses } of ranks) {
          expect(failed?.code).toBe('INTERRUPTED');
          expect(losses.length).toBe(ranks[0]!.losses.length);
        }
        expect(ranks[0]!.losses.length).toBeLessThan(20);
        // In one process, too.
        const [rest] = await run(folder, i + 1, { resume: out(i + 1), ...(i === 0 ? {} : { group }) });
        expect(rest!.failed).toBeUndefined();
        expect(bitsOf(out(i + 1))).toEqual(bitsOf(out('whole')));
      }
    }),
  );

  it('end together where one finds a loss that is not finite, and all hear of it', () =>
    inFolder(async (folder) => {
      const { preset, changes } = NETWORKS[0]!;
      const tooFast = { ...changes, training: { ...atOnce, learningRate: 1e30 } };
      const ranks = await run(folder, 2, { preset, changes: tooFast, out: join(folder, 'run'), group });
      const codes = ranks.map(({ failed }) => failed?.code);
      expect(codes).toContain('LOSS_NOT_FINITE');
      for (const { failed } of ranks) {
        if (failed?.code === 'LOSS_NOT_FINITE') continue;
        expect(failed?.message).toMatch(/rank \d gave up in training: .*loss/);
      }
    }));

  it('learn again from the last batches while none has come, and use each once', () =>
    inFolder(async (folder) => {
      const ranks = await run(folder, 2, { ...SIMCNN!, out: join(folder, 'run'), group: { ...group, replay: 2 } });
      for (const { failed, losses, notes } of ranks) {
        expect(failed).toBeUndefined();
        // 10 batches an epoch.
        expect(losses.length).toBe(20);
        expect(notes[0]).toMatch(/again on the last 2 batches: another run gives other results/);
      }
      // What was replayed is no step of the first process, which waits for nobody.
      const alone = await run(folder, 1, { ...SIMCNN!, out: join(folder, 'one') });
      expect(ranks[0]!.done![0]!.testLoss).toBe(alone[0]!.done![0]!.testLoss);
    }));

  it('are refused where they cannot be', () =>
    inFolder(async (folder) => {
      const out = join(folder, 'run');
      const [layerwise, few, graph, fp16, dropout] = await runAll(folder, 2, [
        { out, group },
        {
          ...{ preset: 'simcnn-k3', out, group },
          changes: { ...SMALL, model: { width: 8, auxWidth: 8, layers: 1, downsampleAt: [] }, training: atOnce },
        },
        { ...SIMCNN!, out, group: { ...group, replay: -1 } },
        { ...SIMCNN!, changes: { ...SIMCNN!.changes, precision: 'fp16' }, out, group },
        {
          ...{ preset: 'vgg11-layerwise', out, group },
          changes: { ...SMALL, model: { width: 4, dropout: 0.5 }, training: atOnce },
        },
      ]);
      expect(fp16![0]!.failed?.message).toContain('fp16 has one loss scale for all layers');
      expect(dropout![0]!.failed?.message).toContain('expected a network without dropout');
      expect(layerwise![0]!.failed?.message).toContain('training.schedule: expected simultaneous');
      expect(few![1]!.failed?.message).toContain('expected at most 1 processes, one a layer or block');
      expect(graph![0]!.failed?.code).toBe('INVALID_RECIPE');
    }));
});

describe('layers are shared among processes', () => {
  const sumsOf = (costs: readonly number[], processes: number): number[] =>
    balanced(costs, processes).map(({ start, length }) => costs.slice(start, start + length).reduce((a, b) => a + b));

  it.each<[number[], number, number[]]>([
    [[1, 1, 1, 1], 2, [2, 2]],
    [[1, 1, 1, 1], 4, [1, 1, 1, 1]],
    [[5, 1, 1, 1], 2, [5, 3]],
    [[1, 1, 1, 5], 3, [2, 1, 5]],
    [[3, 3, 2, 2, 2], 2, [6, 6]],
    [[7], 1, [7]],
  ])('%j among %i', (costs, processes, expected) => {
    expect(Math.max(...sumsOf(costs, processes))).toBe(Math.max(...expected));
    const shares = balanced(costs, processes);
    expect(shares.map(({ length }) => length).reduce((a, b) => a + b)).toBe(costs.length);
    for (const { length } of shares) expect(length).toBeGreaterThan(0);
  });

  it('so that no other division is better', () => {
    const costs = [3, 9, 2, 7, 5, 1, 8];
    const best = (from: number, processes: number): number => {
      if (processes === 1) return costs.slice(from).reduce((a, b) => a + b, 0);
      let least = Number.POSITIVE_INFINITY;
      for (let end = from + 1; end <= costs.length - processes + 1; end++) {
        const first = costs.slice(from, end).reduce((a, b) => a + b, 0);
        least = Math.min(least, Math.max(first, best(end, processes - 1)));
      }
      return least;
    };
    for (const processes of [1, 2, 3, 4, 5, 6, 7]) {
      expect(Math.max(...sumsOf(costs, processes))).toBe(best(0, processes));
    }
  });
});
