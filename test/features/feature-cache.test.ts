// Features that are kept are those that would be computed again, wherever they are kept.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DeviceImages, loadDataset } from '../../lib/data/index.js';
import {
  assignTiers,
  type CacheBudget,
  type CachePlan,
  type CacheTier,
  planCache,
  resolveCacheBudget,
} from '../../lib/features/cache-plan.js';
import { CachedFeatures } from '../../lib/features/feature-cache.js';
import { type FeatureContext, RecomputedFeatures, type TrainingFeatures } from '../../lib/features/features.js';
import { TestFeatures } from '../../lib/features/test-features.js';
import { disposeNetwork, type Network } from '../../lib/models/index.js';
import type { Stage } from '../../lib/models/stage.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import type { Recipe } from '../../lib/recipe/index.js';
import type { Precision } from '../../lib/recipe/precision.js';
import { noGrad, scope } from '../../lib/tensor/index.js';
import { resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { availableMemory } from '../../scripts/support/limits.mjs';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();

const TRAIN = 60;
const TEST = 20;
const ROOM: CacheBudget = { device: 0, host: 2 ** 30, disk: 2 ** 30 };
const go = async (): Promise<void> => {};

interface Setting {
  readonly network: Network;
  readonly stages: readonly Stage[];
  readonly training: FeatureContext;
  readonly test: FeatureContext;
  readonly plan: (budget: CacheBudget) => CachePlan;
}

/** Four layers, of which the second and third have features of different sizes and the last of the same size. */
async function withSetting(
  recipe: Recipe,
  precision: Precision,
  body: (setting: Setting) => Promise<void>,
): Promise<void> {
  const dataset = await loadDataset({ name: 'shapes', trainLimit: TRAIN, testLimit: TEST });
  const network = buildNetwork(recipe, 10, 'cpu');
  const { trainTransforms, testTransforms } = buildTransforms(recipe, dataset.normalization);
  const images = {
    train: new DeviceImages(dataset.train as never, 'cpu'),
    test: new DeviceImages(dataset.test as never, 'cpu'),
  };
  const stages = buildStages(recipe, network);
  try {
    await body({
      network,
      stages,
      training: { recipe, precision, images: images.train, transforms: trainTransforms },
      test: { recipe, precision, images: images.test, transforms: testTransforms },
      plan: (budget) =>
        planCache({ recipe, network, stages, device: 'cpu', precision, trainCount: TRAIN, testCount: TEST, budget }),
    });
  } finally {
    for (const source of Object.values(images)) source.dispose();
    disposeNetwork(network);
  }
}

const withViews = (views: number | null, more: object = {}): Recipe =>
  smallRecipe({ model: { width: 4, layers: 4 }, augmentation: { views }, ...more });

/** The values of each batch of an epoch, its labels and its indices. */
async function readEpoch(features: TrainingFeatures, epoch: number, firstStep = 0) {
  const batches: { indices: number[]; labels: unknown; values: Float32Array; shape: readonly number[] }[] = [];
  for await (const batch of features.batches({ epoch, batchSize: 16, firstStep })) {
    scope(() => {
      const { features: read, labels } = batch.tensors(0, batch.indices.length);
      expect(read.requiresGrad).toBe(false);
      batches.push({
        indices: [...batch.indices],
        labels: labels.toArray(),
        values: read.toFloat32Array(),
        shape: read.shape,
      });
    });
  }
  return batches;
}

const cached = ({ training }: Setting, plan: CachePlan, onView?: (view: { tier: CacheTier }) => void) =>
  new CachedFeatures({
    ...training,
    device: 'cpu',
    views: plan.views!,
    directory: at('features'),
    ...(onView === undefined ? {} : { onView }),
  });

describe.each([
  ['memory', ROOM],
  ['a file', { ...ROOM, host: 0 }],
] as const)('features kept in %s', (where, budget) => {
  it.each([
    ['fp32', 1e-6],
    ['bf16', 0.01],
  ] as const)(
    'are those computed in every epoch, for every stage, view and batch, in %s',
    async (precision, tolerance) => {
      await withSetting(withViews(2), precision, async (setting) => {
        const kept = cached(setting, setting.plan(budget));
        const computed = new RecomputedFeatures(setting.training);
        for (const stage of setting.stages) {
          await kept.begin(stage, go);
          await computed.begin(stage);
          for (const epoch of [0, 1, 2]) {
            const expected = await readEpoch(computed, epoch);
            const got = await readEpoch(kept, epoch);
            expect(got.length).toBe(4);
            for (const [i, batch] of got.entries()) {
              const { values, ...rest } = expected[i]!;
              const { values: own, ...ownRest } = batch;
              expect(ownRest).toEqual(rest);
              const norm = Math.hypot(...values);
              expect(Math.hypot(...values.map((v, j) => v - own[j]!))).toBeLessThanOrEqual(tolerance * norm);
              expect(norm).toBeGreaterThan(0);
            }
          }
        }
        await kept.dispose();
        await computed.dispose();
      });
    },
  );

  it('are given in parts as they are given whole', async () => {
    await withSetting(withViews(2), 'fp32', async (setting) => {
      const kept = cached(setting, setting.plan(budget));
      const computed = new RecomputedFeatures(setting.training);
      const stage = setting.stages[2]!;
      await kept.begin(stage, go);
      await computed.begin(stage);
      for (const features of [kept, computed]) {
        for await (const { indices, tensors } of features.batches({ epoch: 1, batchSize: 16, firstStep: 2 })) {
          scope(() => {
            const whole = tensors(0, indices.length);
            const parts = [tensors(0, 5), tensors(5, indices.length - 5)];
            expect(parts.flatMap(({ labels }) => labels.toArray())).toEqual(whole.labels.toArray());
            const values = parts.flatMap((part) => [...part.features.toFloat32Array()]);
            const expected = whole.features.toFloat32Array();
            expect(values).toHaveLength(expected.length);
            expect(Math.hypot(...values.map((v, i) => v - expected[i]!))).toBeLessThan(1e-6 * Math.hypot(...expected));
          });
        }
      }
      await kept.dispose();
      await computed.dispose();
    });
  });

  it('do not depend on whether they were made layer by layer or at once', async () => {
    await withSetting(withViews(2), 'fp32', async (setting) => {
      const byLayer = cached(setting, setting.plan(budget));
      for (const stage of setting.stages) await byLayer.begin(stage, go);
      const expected = await readEpoch(byLayer, 1, 2);
      await byLayer.dispose();
      const atOnce = cached(setting, setting.plan(budget));
      await atOnce.begin(setting.stages.at(-1)!, go);
      expect(await readEpoch(atOnce, 1, 2)).toEqual(expected);
      expect(expected.length).toBe(2);
      await atOnce.dispose();
    });
  });

  it(`lie in ${where} and leave nothing behind`, async () => {
    await withSetting(withViews(2), 'fp32', async (setting) => {
      const tiers: CacheTier[] = [];
      const kept = cached(setting, setting.plan(budget), ({ tier }) => tiers.push(tier));
      await kept.begin(setting.stages[0]!, go);
      expect(tiers).toEqual([]);
      for (const stage of setting.stages.slice(1, 3)) await kept.begin(stage, go);
      expect(tiers).toEqual(Array(4).fill(where === 'memory' ? 'host' : 'disk'));
      if (where === 'a file') expect(readdirSync(at('features'))).toHaveLength(2);
      await kept.dispose();
      expect(existsSync(at('features'))).toBe(false);
    });
  });

  it('are let go when making them is interrupted', async () => {
    await withSetting(withViews(2), 'fp32', async (setting) => {
      const kept = cached(setting, setting.plan(budget));
      await kept.begin(setting.stages[1]!, go);
      let left = 3;
      const stop = async (): Promise<void> => {
        if (left-- === 0) throw new Error('stopped');
      };
      await expect(kept.begin(setting.stages[2]!, stop)).rejects.toThrow('stopped');
      await kept.dispose();
      expect(existsSync(at('features'))).toBe(false);
    });
  });
});

describe('features of the test images', () => {
  const read = async (features: TestFeatures): Promise<Float32Array[]> => {
    const batches: Float32Array[] = [];
    for await (const give of features.batches(8)) batches.push(scope(() => noGrad(() => give().toFloat32Array())));
    return batches;
  };

  it('are the same kept or computed, at every stage and in every epoch', async () => {
    await withSetting(withViews(null), 'fp32', async (setting) => {
      const kept = new TestFeatures(setting.test, 2 ** 30);
      const computed = new TestFeatures(setting.test, 0);
      for (const stage of setting.stages) {
        await kept.begin(stage, go);
        await computed.begin(stage, go);
        const expected = await read(computed);
        expect(expected.map((batch) => batch.length > 0)).toEqual([true, true, true]);
        for (let epoch = 0; epoch < 2; epoch++) expect(await read(kept)).toEqual(expected);
      }
      kept.dispose();
      computed.dispose();
    });
  });

  it('are not computed again once they are kept', async () => {
    await withSetting(withViews(null), 'fp32', async (setting) => {
      let asked = 0;
      const images = {
        ...setting.test.images,
        count: TEST,
        batches: (batchSize: number) => {
          asked++;
          return setting.test.images.batches(batchSize);
        },
      } as typeof setting.test.images;
      const kept = new TestFeatures({ ...setting.test, images }, 2 ** 30);
      for (const stage of setting.stages) {
        await kept.begin(stage, go);
        for (let epoch = 0; epoch < 3; epoch++) await read(kept);
      }
      // Three epochs of the first stage, which reads the images themselves, and once for all stages after it.
      expect(asked).toBe(4);
      kept.dispose();
    });
  });
});

describe('the plan of a cache', () => {
  it('goes from one tier to the next when the first is full, and over the old features where they are as large', () => {
    const budget = { device: 100, host: 100, disk: 1000 };
    expect(assignTiers([60, 60], 3, budget)).toEqual([
      ['device', 'host', 'disk'],
      ['device', 'host', 'disk'],
    ]);
    // The smaller ones of the second stage go in beside the old ones; the third stage finds the room these left.
    expect(assignTiers([60, 30, 60], 2, { device: 100, host: 100, disk: 0 })).toEqual([
      ['device', 'host'],
      ['device', 'device'],
      ['host', 'device'],
    ]);
    expect(assignTiers([60], 2, { device: 100, host: 0, disk: 0 })).toBeNull();
  });

  it('refuses more views than there is room for, with what is needed, what is allowed and what would fit', async () => {
    await withSetting(withViews(5), 'fp32', async ({ plan }) => {
      // Layer 2 reads 4 x 16 x 16 floats, pooled, of each of 60 images: 245,760 bytes a view.
      const host = 2.5 * 245_760;
      expect(() => plan({ device: 0, host, disk: 0 })).toThrowError(
        expect.objectContaining({ name: 'FeatureCacheError', code: 'CACHE_BUDGET' }),
      );
      expect(() => plan({ device: 0, host, disk: 0 })).toThrow(
        /that layer 2 reads need .* for each view of 60 images, .* for 5 views; allowed: .* host, .* disk\. .*--views 2.*--cache none/,
      );
      expect(
        [...plan({ device: 0, host: 6 * 245_760, disk: 0 }).views!.values()].map(({ tiers }) => tiers.length),
      ).toEqual([5, 5, 5]);
    });
  });

  it('refuses at once, however many views are asked for', async () => {
    await withSetting(withViews(100_000), 'fp32', async ({ plan }) => {
      expect(() => plan(ROOM)).toThrow(/--views \d+\)/);
    });
  });

  it('keeps nothing without views but the test features, and nothing at all where nothing may be kept', async () => {
    await withSetting(withViews(null), 'fp32', async ({ plan }) => {
      expect(plan(ROOM)).toEqual({ testBytes: ROOM.host, views: null });
    });
    await withSetting(withViews(4), 'fp32', async ({ plan }) => {
      expect(plan(resolveCacheBudget('none', 'cpu'))).toEqual({ testBytes: 0, views: null });
    });
  });

  it('takes 4 GiB of a GPU, a quarter of the memory that can be allocated, and no files by default', () => {
    const GIB = 2 ** 30;
    expect(resolveCacheBudget(undefined, 'cuda:0')).toMatchObject({ device: 4 * GIB, disk: 0 });
    expect(resolveCacheBudget({ host: 5, disk: 7 }, 'cuda:0')).toEqual({ device: 4 * GIB, host: 5, disk: 7 });
    const { host, ...others } = resolveCacheBudget(undefined, 'cpu');
    expect(others).toEqual({ device: 0, disk: 0 });
    // Other programs take and free memory meanwhile.
    const quarter = availableMemory() / 4;
    expect(host / quarter).toBeGreaterThan(0.6);
    expect(host / quarter).toBeLessThan(1.6);
  });

  it.each([
    [{ host: -1 }, /cache\.host: expected a number of bytes from 0, got -1/],
    [{ host: Number.NaN }, /cache\.host: .* got NaN/],
    [{ shelf: 1 }, /expected one of device, host, disk, got shelf/],
    [{ device: 1 }, /cache\.device: expected nothing for cpu/],
  ])('refuses %o', (budget, message) => {
    expect(() => resolveCacheBudget(budget as never, 'cpu')).toThrow(message);
  });
});

describe('a run with views', () => {
  const recipe = withViews(2, { training: { epochs: 3 } });

  it('trains the same network from kept features as from computed ones, in memory, in files, and resumed', async () => {
    await train({ recipe, out: at('computed'), cache: 'none' });
    const expected = productOf(at('computed'));
    for (const [name, cache] of Object.entries({ host: ROOM, disk: { ...ROOM, host: 0 } })) {
      const tiers = new Set<string>();
      await train({
        ...{ recipe, out: at(name), cache },
        onEvent: (event) => void (event.type === 'view' && tiers.add(event.tier)),
      });
      expect(productOf(at(name))).toEqual(expected);
      expect([...tiers]).toEqual([name]);
      expect(existsSync(join(at(name), 'features'))).toBe(false);
    }
    // Stopped while the features of the third layer are made, and in the middle of that layer's second epoch.
    const moments: Record<string, (event: TrainingEvent) => boolean> = {
      making: (event) => event.type === 'view' && event.layer === 2,
      training: (event) => event.type === 'step' && event.layer === 2 && event.epoch === 1 && event.step === 2,
    };
    for (const [name, when] of Object.entries(moments)) {
      await startAndStop({ recipe, out: at(name), cache: ROOM }, when);
      expect(existsSync(join(at(name), 'features'))).toBe(false);
      await resume(at(name), { cache: ROOM });
      expect(productOf(at(name))).toEqual(expected);
    }
  });

  it('says in its notes that it is not the recipe of the paper', async () => {
    const { result } = await train({ recipe: withViews(1, { training: { epochs: 1 } }), out: at('notes') });
    expect(result.notes).toContainEqual(
      expect.stringMatching(/^1 augmented view of each image, the same for all layers/),
    );
  });

  it('is refused before its directory is made where the features have no room', async () => {
    await expect(train({ recipe, out: at('refused'), cache: { host: 1000 } })).rejects.toThrow('--cache');
    expect(existsSync(at('refused'))).toBe(false);
  });
});
