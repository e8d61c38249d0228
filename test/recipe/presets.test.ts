// The presets against the recipe table of the paper (Belilovsky et al. 2019, section 4 and appendix; the values are
// copied from there, not from the code).
import { describe, expect, it } from 'vitest';
import { presetNames, presetRecipe } from '../../lib/recipe/index.js';

const SGD = { momentum: 0.9, resetMomentumAtDrops: true };

describe.each(['vgg11-layerwise', 'vgg11-end-to-end'])('%s', (preset) => {
  const schedule = preset === 'vgg11-layerwise' ? 'layerwise' : 'end-to-end';
  // The end-to-end network has torchvision's classifier, dropout 0.5; the paper's last auxiliary head has none.
  const dropout = preset === 'vgg11-layerwise' ? 0 : 0.5;

  it.each([false, true])('has the recipe for CIFAR-10 (on CUDA: %s)', (onCuda) => {
    expect(presetRecipe(preset, { dataset: 'cifar10', onCuda })).toMatchObject({
      preset,
      model: { name: 'vgg11', width: 64, layers: 8, dropout },
      dataset: { name: 'cifar10', imageSize: 32, trainLimit: null, testLimit: null },
      augmentation: { cropPadding: 4, horizontalFlip: true, sharedDraws: false },
      training: {
        ...SGD,
        schedule,
        learningRate: 0.1,
        milestones: [15, 30, 45],
        decay: 0.2,
        epochs: 50,
        batchSize: 128,
        weightDecay: 5e-4,
      },
      evaluation: { ensemble: 'logits' },
    });
  });

  it.each([false, true])('has the recipe for ImageNet (on CUDA: %s)', (onCuda) => {
    expect(presetRecipe(preset, { dataset: 'imagenet', onCuda })).toMatchObject({
      model: { name: 'vgg11', width: 64, layers: 8, dropout },
      dataset: { name: 'imagenet', imageSize: 224 },
      augmentation: { horizontalFlip: true },
      training: {
        ...SGD,
        schedule,
        learningRate: 0.1,
        milestones: [20, 40],
        decay: 0.1,
        epochs: 45,
        batchSize: 256,
        weightDecay: 1e-4,
      },
      evaluation: { ensemble: 'probabilities' },
    });
  });

  it('trains on shapes unless told: VGG-11 itself on CUDA, narrower on the CPU', () => {
    expect(presetRecipe(preset, { onCuda: true })).toMatchObject({ dataset: { name: 'shapes' }, model: { width: 64 } });
    expect(presetRecipe(preset, { onCuda: false })).toMatchObject({ model: { width: 16 } });
  });
});

// J, M, M~ and where the input is downsampled: the table of SimCNN; where text and code of the paper differ, the code.
const SIMCNN_WIDE = [
  { layers: 4, width: 128, auxWidth: 128, downsampleAt: [2] },
  { layers: 8, width: 128, auxWidth: 256, downsampleAt: [0, 2, 4, 6] },
] as const;
const SIMCNN = [
  [1, { layers: 5, width: 256, downsampleAt: [2, 3] }, { layers: 8, width: 256, downsampleAt: [0, 2, 3, 4, 6] }],
  [2, ...SIMCNN_WIDE],
  [3, ...SIMCNN_WIDE],
] as const;

describe.each(SIMCNN)('simcnn-k%i', (k, cifar, imagenet) => {
  const preset = `simcnn-k${k}`;
  const LAYERWISE = { ...SGD, schedule: 'layerwise', learningRate: 0.1 };

  it('has the recipe for CIFAR-10, its data set unless told', () => {
    const recipe = presetRecipe(preset, { onCuda: false });
    expect(recipe).toMatchObject({
      model: { name: 'simcnn', k, downsampling: 'invertible', ...cifar },
      dataset: { name: 'cifar10', imageSize: 32 },
      augmentation: { cropPadding: 4, horizontalFlip: true },
      training: { ...LAYERWISE, milestones: [15, 30, 45], decay: 0.2, epochs: 50, batchSize: 128, weightDecay: 5e-4 },
      evaluation: { ensemble: 'logits' },
    });
    expect(presetRecipe(preset, { onCuda: true, dataset: 'cifar10' })).toEqual(recipe);
  });

  it('has the recipe for ImageNet', () => {
    expect(presetRecipe(preset, { onCuda: true, dataset: 'imagenet' })).toMatchObject({
      model: { name: 'simcnn', k, downsampling: 'invertible', ...imagenet },
      dataset: { name: 'imagenet', imageSize: 224 },
      training: { ...LAYERWISE, milestones: [20, 40], decay: 0.1, epochs: 45, batchSize: 256, weightDecay: 1e-4 },
      evaluation: { ensemble: 'probabilities' },
    });
  });
});

// Layers before the classifier: Simonyan and Zisserman 2015, table 1.
describe.each([
  ['vgg13', 10],
  ['vgg16', 13],
  ['vgg19', 16],
] as const)('the presets of %s', (model, layers) => {
  it.each(['layerwise', 'simultaneous', 'end-to-end'] as const)(
    'differ from those of vgg11 in the network only: %s',
    (schedule) => {
      for (const dataset of ['shapes', 'cifar10', 'imagenet'] as const) {
        const preset = `${model}-${schedule}`;
        const { model: network, ...protocol } = presetRecipe(`vgg11-${schedule}`, { dataset, onCuda: true });
        const expected = { ...protocol, preset, model: { ...network, name: model, layers } };
        expect(presetRecipe(preset, { dataset, onCuda: true })).toEqual(expected);
        // By the preset of another VGG, as --model asks for it.
        expect(presetRecipe(`vgg11-${schedule}`, { dataset, model, onCuda: true })).toEqual(expected);
      }
    },
  );
});

describe('another schedule', () => {
  it('than that of a VGG preset is the other preset, with its dropout', () => {
    for (const onCuda of [false, true]) {
      const [layerwise, endToEnd] = ['vgg16-layerwise', 'vgg16-end-to-end'].map((name) =>
        presetRecipe(name, { onCuda }),
      );
      expect(presetRecipe('vgg16-layerwise', { schedule: 'end-to-end', onCuda })).toEqual(endToEnd);
      expect(presetRecipe('vgg16-end-to-end', { schedule: 'layerwise', onCuda })).toEqual(layerwise);
      expect(presetRecipe('vgg11-end-to-end', { model: 'vgg16', schedule: 'layerwise', onCuda })).toEqual(layerwise);
    }
  });

  it('of a SimCNN trains its blocks and its last head as one network, all else as before', () => {
    const { training, ...rest } = presetRecipe('simcnn-k3', { onCuda: false });
    expect(presetRecipe('simcnn-k3', { schedule: 'end-to-end', model: 'simcnn', onCuda: false })).toEqual({
      ...rest,
      training: { ...training, schedule: 'end-to-end' },
    });
  });
});

it.each([
  [
    'vgg11-layerwise',
    { schedule: 'sideways' },
    'training.schedule: expected one of layerwise, simultaneous, end-to-end, got "sideways"',
  ],
  ['simcnn-k2', { schedule: null }, 'training.schedule: expected one of layerwise, simultaneous, end-to-end, got null'],
  ['simcnn-k2', { model: 'vgg16' }, 'model.name: expected simcnn for the preset simcnn-k2, got "vgg16"'],
  [
    'vgg16-end-to-end',
    { model: 'simcnn' },
    'model.name: expected one of vgg11, vgg13, vgg16, vgg19 for the preset vgg16-end-to-end, got "simcnn"',
  ],
  [
    'vgg11-layerwise',
    { model: 'vgg12' },
    'model.name: expected one of vgg11, vgg13, vgg16, vgg19 for the preset vgg11-layerwise, got "vgg12"',
  ],
])('refuses for %s what does not go with it: %o', (preset, options, message) => {
  expect(() => presetRecipe(preset, { onCuda: false, ...(options as object) })).toThrow(
    expect.objectContaining({ code: 'INVALID_RECIPE', message }),
  );
});

it('gives each caller a recipe of its own', () => {
  const recipe = presetRecipe('cifar10-fast', { onCuda: false });
  (recipe.training.blocks as number[]).push(9);
  expect(presetRecipe('cifar10-fast', { onCuda: false }).training.blocks).toEqual([2, 1]);
});

it('refuses a preset that there is not, with the names of those that there are', () => {
  const names = [
    ...['vgg11', 'vgg13', 'vgg16', 'vgg19'].flatMap((model) => [
      `${model}-layerwise`,
      `${model}-simultaneous`,
      `${model}-end-to-end`,
    ]),
    ...['simcnn-k1', 'simcnn-k2', 'simcnn-k3'],
    ...['cifar10-fast-layerwise', 'cifar10-fast', 'cifar10-fast-end-to-end', 'own'],
  ];
  expect(presetNames).toEqual(names);
  for (const name of ['vgg16', '', 'toString', '__proto__', 'constructor']) {
    expect(() => presetRecipe(name, { onCuda: false })).toThrow(
      expect.objectContaining({
        code: 'INVALID_RECIPE',
        message: `preset: expected one of ${names.join(', ')}, got "${name}"`,
      }),
    );
  }
});

it('refuses a data set that there is not', () => {
  expect(() => presetRecipe('vgg11-layerwise', { dataset: 'mnist' as 'shapes', onCuda: false })).toThrow(
    expect.objectContaining({
      code: 'INVALID_RECIPE',
      message: 'dataset.name: expected one of shapes, cifar10, folder, imagenet, own, got "mnist"',
    }),
  );
});
