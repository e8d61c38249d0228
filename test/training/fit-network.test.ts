// What a network takes from the training images before its first step: which images, once, and what later runs find of it.
import { describe, expect, it } from 'vitest';
import type { BatchRange, ImageSource } from '../../lib/data/index.js';
import { TrainedRun } from '../../lib/finished/index.js';
import { layeredNetwork, type Network, type NetworkBuilder } from '../../lib/models/index.js';
import { Flatten, Identity, Linear, Sequential } from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { ones, scope, type Tensor } from '../../lib/tensor/index.js';
import { fitNetwork } from '../../lib/training/fit-network.js';
import { resume, TrainingInterrupted, train } from '../../lib/training/index.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const recipe: Recipe = overrideRecipe(presetRecipe('cifar10-fast-layerwise', { dataset: 'shapes', onCuda: false }), {
  model: { width: 2 },
  dataset: { trainLimit: 60, testLimit: 20 },
  training: { blocks: [1, 2], epochs: 2, batchSize: 16, rateSchedule: 'multi-step', learningRate: 0.05 },
  ...{ device: 'cpu', precision: 'fp32', threads: 1 },
});

const FILTERS = 'blocks.0.whitening.weight';

async function filtersOf(directory: string): Promise<number[]> {
  using run = await TrainedRun.open(directory);
  return [...run.network.stateDict().get(FILTERS)!.toFloat32Array()];
}

describe('the filters of whitened patches', () => {
  it('follow from the training images alone, and stay while it trains', async () => {
    await train({ recipe, out: at('one') });
    const filters = await filtersOf(at('one'));
    await train({ recipe: overrideRecipe(recipe, { seed: 2, training: { epochs: 1 } }), out: at('seed-2') });
    expect(await filtersOf(at('seed-2'))).toEqual(filters);
    await train({ recipe: overrideRecipe(recipe, { dataset: { trainLimit: 59 } }), out: at('fewer') });
    expect(await filtersOf(at('fewer'))).not.toEqual(filters);
    // Each filter's negative.
    expect(filters.slice(filters.length / 2)).toEqual(filters.slice(0, filters.length / 2).map((x) => -x));
  });

  it('are there after a stop before the first checkpoint, and after it', async () => {
    await startAndStop({ recipe, out: at('start') });
    await resume(at('start'));
    expect(productOf(at('start'))).toEqual(productOf(at('one')));
    await startAndStop({ recipe, out: at('layer') }, ({ type }) => type === 'layer');
    await resume(at('layer'));
    expect(productOf(at('layer'))).toEqual(productOf(at('one')));
  });

  it('are those of the run that a run starts from', async () => {
    const other = overrideRecipe(recipe, { dataset: { trainLimit: 40 } });
    await train({ recipe: other, startFrom: { runDirectory: at('one'), layers: 1 }, out: at('from') });
    expect(await filtersOf(at('from'))).toEqual(await filtersOf(at('one')));
  });
});

/** Records which images a network is fitted to. */
function recording(count: number): { images: ImageSource; ranges: BatchRange[] } {
  const ranges: BatchRange[] = [];
  const images = {
    count,
    async *batches(batchSize: number, range: BatchRange) {
      ranges.push(range);
      const indices = Int32Array.from({ length: Math.min(batchSize, count - range.start * batchSize) });
      yield { indices, tensors: () => ({ images: ones([indices.length, 1]) }) };
    },
  } as unknown as ImageSource;
  return { images, ranges };
}

describe('a network that is fitted', () => {
  const fitting = (take: (batch: Tensor) => void) =>
    ({
      fitToImages: async (batches: AsyncIterable<Tensor>) => {
        for await (const batch of batches) take(batch);
      },
    }) as unknown as Network;
  const options = { transforms: [], signal: undefined, pause: async () => {} };

  it('gets all of few images, and of many 50 batches at even distances', async () => {
    const sizes: number[] = [];
    const few = recording(250);
    await fitNetwork(
      fitting(({ shape }) => void sizes.push(shape[0]!)),
      { ...options, images: few.images },
    );
    expect(sizes).toEqual([100, 100, 50]);
    const many = recording(50_000);
    await fitNetwork(
      fitting(() => {}),
      { ...options, images: many.images },
    );
    expect(many.ranges.map(({ start }) => start)).toEqual(Array.from({ length: 50 }, (_, i) => 10 * i));
  });

  it('gets nothing where it has nothing to fit', async () => {
    const { images, ranges } = recording(100);
    await fitNetwork({} as Network, { ...options, images });
    expect(ranges).toEqual([]);
  });

  it("is one's own, too: it gets normalised images, and its failure is the run's", async () => {
    const fitted: { shape: readonly number[]; largest: number }[] = [];
    const builder =
      (fails: boolean): NetworkBuilder =>
      ({ classes, inputShape }) => {
        const head = new Sequential([
          ['flatten', new Flatten()],
          ['linear', new Linear({ inFeatures: 3 * 32 * 32, outFeatures: classes })],
        ]);
        const fitToImages = async (batches: AsyncIterable<Tensor>) => {
          for await (const batch of batches) {
            scope(() => fitted.push({ shape: batch.shape, largest: batch.abs().amax().item() }));
          }
          if (fails) throw new RangeError('no such image');
        };
        return layeredNetwork({ classes, inputShape, blocks: [new Identity()], heads: [head], fitToImages });
      };
    const own = overrideRecipe(presetRecipe('own', { dataset: 'shapes', onCuda: false }), {
      dataset: { trainLimit: 60, testLimit: 20 },
      training: { epochs: 1, milestones: [] },
      ...{ device: 'cpu', precision: 'fp32', threads: 1 },
    });
    await train({ recipe: own, network: builder(false), out: at('own') });
    expect(fitted.map(({ shape }) => shape)).toEqual([[60, 3, 32, 32]]);
    // Not values of 0 to 255.
    expect(fitted[0]!.largest).toBeLessThan(10);
    await expect(train({ recipe: own, network: builder(true), out: at('fails') })).rejects.toThrow('no such image');
  });

  it('is stopped between two batches, before the run has started', async () => {
    const controller = new AbortController();
    let taken = 0;
    const builder: NetworkBuilder = ({ classes, inputShape }) => {
      const head = new Sequential([
        ['flatten', new Flatten()],
        ['linear', new Linear({ inFeatures: 3 * 32 * 32, outFeatures: classes })],
      ]);
      const fitToImages = async (batches: AsyncIterable<Tensor>) => {
        controller.abort();
        for await (const _ of batches) taken++;
      };
      return layeredNetwork({ classes, inputShape, blocks: [new Identity()], heads: [head], fitToImages });
    };
    const own = overrideRecipe(presetRecipe('own', { dataset: 'shapes', onCuda: false }), {
      dataset: { trainLimit: 300, testLimit: 20 },
      ...{ device: 'cpu', precision: 'fp32', threads: 1 },
    });
    const types: string[] = [];
    const stopped = train({
      ...{ recipe: own, network: builder, out: at('stopped'), signal: controller.signal },
      onEvent: ({ type }) => types.push(type),
    });
    await expect(stopped).rejects.toThrow(TrainingInterrupted);
    expect({ taken, types }).toEqual({ taken: 1, types: [] });
  });

  it('gives up a source that is silent, where the run is to stop', async () => {
    const controller = new AbortController();
    const images = {
      count: 100,
      async *batches() {
        controller.abort();
        yield await new Promise<never>(() => {});
      },
    } as unknown as ImageSource;
    const pause = async () => controller.signal.throwIfAborted();
    const fit = fitNetwork(
      fitting(() => {}),
      { ...options, images, signal: controller.signal, pause },
    );
    await expect(fit).rejects.toThrow('aborted');
  });
});
