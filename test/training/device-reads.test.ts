// Nothing inside an epoch waits for the device: features and training steps run on meta, where there are no values and every
// read throws; and on the CPU no tensor is read.
import { describe, expect, it, vi } from 'vitest';
import { DeviceImages, type Normalization, noDraws } from '../../lib/data/index.js';
import { CachedFeatures } from '../../lib/features/feature-cache.js';
import { RecomputedFeatures, type TrainingFeatures } from '../../lib/features/features.js';
import { FrozenPrefix } from '../../lib/features/frozen-prefix.js';
import {
  blockCount,
  disposeNetwork,
  type Network,
  type Stage,
  VGG_NAMES,
  vggLayerCount,
} from '../../lib/models/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import { overrideRecipe, presetNames, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import type { Precision } from '../../lib/recipe/precision.js';
import { type Device, onDevice, scope, Tensor, zeros } from '../../lib/tensor/index.js';
import { AuxiliaryProblem } from '../../lib/training/auxiliary-problem.js';
import { libtorchAtLeast } from '../support/fixtures.js';

const CLASSES = 10;
/** One whole batch and a part of one. */
const [COUNT, BATCH] = [6, 4];
const normalization: Normalization = { mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.2] };
const inMemory = (imageSize: number) => ({
  images: new Uint8Array(COUNT * 3 * imageSize ** 2).map((_, i) => (i * 31) % 256),
  labels: Uint8Array.from({ length: COUNT }, (_, i) => i % CLASSES),
  ...{ count: COUNT, channels: 3, height: imageSize, width: imageSize },
});

function recipeOf(preset: string, overrides: unknown = {}): Recipe {
  const recipe = presetRecipe(preset, { dataset: 'shapes', onCuda: false });
  const narrow = recipe.model.name === 'simcnn' ? { width: 4, auxWidth: 4 } : { width: 4 };
  return overrideRecipe(
    overrideRecipe(recipe, { model: narrow, dataset: { trainCount: COUNT }, training: { batchSize: BATCH } }),
    overrides,
  );
}

const RECIPES: Record<string, Recipe> = {
  // But for networks of one's own, of which there is none here.
  ...Object.fromEntries(presetNames.filter((name) => name !== 'own').map((preset) => [preset, recipeOf(preset)])),
  ...Object.fromEntries(
    ['stride', 'average', 'max'].map((downsampling) => [
      `simcnn-k2, ${downsampling}`,
      recipeOf('simcnn-k2', { model: { downsampling } }),
    ]),
  ),
  'simcnn-k2, drawn batch norm': recipeOf('simcnn-k2', { model: { batchNormInit: 'uniform' } }),
  'simcnn-k1, one bias': recipeOf('simcnn-k1', { model: { bias: 'first' } }),
  'vgg11-layerwise, shared views': recipeOf('vgg11-layerwise', { augmentation: { sharedDraws: true } }),
};

interface Hardware {
  readonly device: Device;
  readonly precision: Precision;
}

/** Calls `use` with the network's stages, one after another, and their features of `COUNT` images. */
async function withStages(
  recipe: Recipe,
  { device, precision }: Hardware,
  use: (stage: Stage, features: TrainingFeatures) => Promise<void>,
): Promise<void> {
  const network: Network = onDevice(device, () => buildNetwork(recipe, CLASSES, device));
  const images = new DeviceImages(inMemory(recipe.dataset.imageSize as number), device);
  const { trainTransforms: transforms } = buildTransforms(recipe, normalization);
  const context = { recipe, precision, images, transforms };
  const stages = buildStages(recipe, network);
  const { views } = recipe.augmentation;
  const dtype = precision === 'bf16' ? ('bfloat16' as const) : ('float32' as const);
  const rowsAt = (stage: Stage) => {
    const shape = scope(() => {
      const prefix = new FrozenPrefix(stage, { precision, transforms: [] });
      const input = zeros([1, ...network.inputShape], { device });
      const features = prefix.forward(input, noDraws);
      prefix.dispose();
      return features.shape.slice(1) as [number, number, number];
    });
    return { format: { shape, dtype }, tiers: Array.from({ length: views! }, () => 'device' as const) };
  };
  const features: TrainingFeatures =
    views === null
      ? new RecomputedFeatures(context)
      : new CachedFeatures({
          ...context,
          device,
          directory: '/nowhere',
          views: new Map(
            stages.filter(({ frozen }) => frozen.length > 0).map((stage) => [stage.frozen.length, rowsAt(stage)]),
          ),
        });
  try {
    for (const stage of stages) {
      await features.begin(stage, async () => {});
      await use(stage, features);
    }
  } finally {
    await features.dispose();
    images.dispose();
    disposeNetwork(network);
  }
}

/** An epoch of a stage. */
async function train(recipe: Recipe, hardware: Hardware, stage: Stage, features: TrainingFeatures): Promise<number[]> {
  const problem = new AuxiliaryProblem(stage, { recipe, ...hardware });
  const images: number[] = [];
  try {
    problem.beginEpoch(0, { inItsMiddle: false });
    for await (const batch of features.batches({ epoch: 0, batchSize: BATCH, firstStep: 0 })) {
      scope(() => {
        const { loss, correct } = problem.step(batch.indices.length, batch.tensors);
        const shape = stage.local === undefined ? [] : [stage.local.length];
        expect([loss.shape, correct.shape]).toEqual([shape, shape]);
      });
      images.push(batch.indices.length);
    }
    problem.endEpoch();
  } finally {
    problem.dispose();
  }
  return images;
}

describe.skipIf(!libtorchAtLeast('2.4'))('on meta, where every read throws,', () => {
  for (const [name, recipe] of Object.entries(RECIPES)) {
    it(`features and steps of every stage run: ${name}`, async () => {
      const layers: number[] = [];
      await withStages(recipe, { device: 'meta', precision: 'fp32' }, async (stage, features) => {
        expect(await train(recipe, { device: 'meta', precision: 'fp32' }, stage, features)).toEqual([4, 2]);
        layers.push(stage.layer);
      });
      const { blocks } = recipe.training;
      const all = 'layers' in recipe.model ? recipe.model.layers : 0;
      const whole = blocks === null ? all : blockCount(blocks);
      expect(layers.length).toBe(recipe.training.schedule === 'layerwise' ? whole : 1);
    });
  }

  for (const [what, overrides] of Object.entries({
    'micro-batches': { training: { microBatchSize: 2 } },
    'kept features': { augmentation: { views: 2 } },
  })) {
    it.each(['fp32', 'bf16'] as const)(`with ${what}, in %s`, async (precision) => {
      const recipe = recipeOf('simcnn-k2', overrides);
      await withStages(recipe, { device: 'meta', precision }, async (stage, features) => {
        expect(await train(recipe, { device: 'meta', precision }, stage, features)).toEqual([4, 2]);
      });
    });
  }

  it('a read is an error, so the above would fail of one', () => {
    scope(() => {
      const value = zeros([], { device: 'meta' });
      expect(() => value.item()).toThrow(/meta/i);
      expect(() => value.toTypedArray()).toThrow(/meta/i);
      expect(() => value.to({ device: 'cpu' })).toThrow(/meta/i);
    });
  });
});

describe('on the CPU', () => {
  it.each(['simcnn-k3', 'vgg11-layerwise', 'vgg11-simultaneous', 'vgg11-end-to-end'])(
    'neither features nor steps read a tensor: %s',
    async (preset) => {
      const recipe = recipeOf(preset, { training: { microBatchSize: 3, batchSize: BATCH }, model: { layers: 3 } });
      const reads = [vi.spyOn(Tensor.prototype, 'item'), vi.spyOn(Tensor.prototype, 'toTypedArray')];
      try {
        await withStages(recipe, { device: 'cpu', precision: 'fp32' }, async (stage, features) => {
          expect(await train(recipe, { device: 'cpu', precision: 'fp32' }, stage, features)).toEqual([4, 2]);
        });
        expect(reads.map((read) => read.mock.calls.length)).toEqual([0, 0]);
        scope(() => zeros([]).item());
        expect(reads[0]!.mock.calls.length).toBe(1);
      } finally {
        for (const read of reads) read.mockRestore();
      }
    },
  );
});

/** Height of each layer's output, from the paper and the definitions: VGG halves at each group of convolutions but the first. */
const GROUPS: Record<string, number[]> = {
  vgg11: [1, 1, 2, 2, 2],
  vgg13: [2, 2, 2, 2, 2],
  vgg16: [2, 2, 3, 3, 3],
  vgg19: [2, 2, 4, 4, 4],
};

describe.skipIf(!libtorchAtLeast('2.4'))('the shapes of all layers, at full width, without computing', () => {
  const chainOf = (recipe: Recipe): { outputs: (readonly number[])[]; logits: (readonly number[])[] } => {
    const network = onDevice('meta', () => buildNetwork(recipe, CLASSES, 'meta'));
    try {
      return scope(() => {
        let x = zeros([2, ...network.inputShape], { device: 'meta' });
        const outputs: (readonly number[])[] = [];
        const logits = network.blocks.map((block, j) => {
          x = block.eval().forward(x);
          outputs.push(x.shape);
          return network.heads[j]!.eval().forward(x).shape;
        });
        return { outputs, logits };
      });
    } finally {
      disposeNetwork(network);
    }
  };

  it.each(VGG_NAMES.flatMap((name) => [32, 224].map((size) => [name, size] as const)))(
    '%s at %i',
    (name, imageSize) => {
      const recipe = overrideRecipe(presetRecipe(`${name}-layerwise`, { dataset: 'imagenet', onCuda: true }), {
        dataset: { imageSize },
      });
      const { outputs, logits } = chainOf(recipe);
      const expected = GROUPS[name]!.flatMap((convolutions, i) =>
        Array.from({ length: convolutions }, () => [
          2,
          [64, 128, 256, 512, 512][i],
          imageSize / 2 ** i,
          imageSize / 2 ** i,
        ]),
      );
      expect(outputs).toEqual(expected);
      expect(logits).toEqual(Array.from({ length: vggLayerCount(name) }, () => [2, CLASSES]));
    },
  );

  it.each([1, 2, 3].flatMap((k) => [32, 224].map((size) => [k, size] as const)))('simcnn-k%i at %i', (k, imageSize) => {
    const dataset = imageSize === 32 ? 'cifar10' : 'imagenet';
    const recipe = presetRecipe(`simcnn-k${k}`, { dataset, onCuda: true });
    const { outputs, logits } = chainOf(recipe);
    const { downsampleAt, width } = recipe.model as Extract<Recipe['model'], { name: 'simcnn' }>;
    let [size, channels] = [imageSize, width];
    for (const [j, output] of outputs.entries()) {
      if (downsampleAt.includes(j)) size /= 2;
      if (downsampleAt.includes(j) && j > 0) channels *= 2;
      expect(output).toEqual([2, channels, size, size]);
    }
    expect(logits).toEqual(outputs.map(() => [2, CLASSES]));
  });
});
