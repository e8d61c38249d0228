// A network and images of the caller's own, given in code.
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { InMemoryData } from '../../lib/data/index.js';
import { inMemoryDataset } from '../../lib/data/index.js';
import { TrainedRun } from '../../lib/finished/index.js';
import { disposeNetwork, layeredNetwork, type NetworkBuilder, requireTrainable } from '../../lib/models/index.js';
import {
  AdaptiveAvgPool2d,
  Conv2d,
  defaultInit,
  Flatten,
  Linear,
  Module,
  ReLU,
  Sequential,
} from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { canRehearse, Generator, scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

/** Grey images of 12 x 20 pixels: class 0 is dark, class 1 bright, class 2 bright on the left. */
function part(count: number): { images: Uint8Array; labels: number[] } {
  const [height, width] = [12, 20];
  const images = new Uint8Array(count * height * width);
  const labels = Array.from({ length: count }, (_, i) => i % 3);
  for (let i = 0; i < images.length; i++) {
    const label = labels[Math.floor(i / (height * width))]!;
    const isBright = label === 1 || (label === 2 && i % width < width / 2);
    images[i] = (isBright ? 180 : 40) + ((i * 7919) % 32);
  }
  return { images, labels };
}

const data: InMemoryData = {
  classes: ['dark', 'bright', 'left'],
  imageShape: [1, 12, 20],
  train: part(48),
  test: part(12),
};

/** x + conv(x), rectified: a module whose forward is its own. */
class ResidualBlock extends Module {
  readonly #body: Module;

  constructor(inChannels: number, channels: number, generator: Generator) {
    super();
    const init = defaultInit(generator);
    const conv = (from: number) =>
      new Conv2d({ inChannels: from, outChannels: channels, kernelSize: 3, padding: 1, init });
    this.#body = this.child(
      'body',
      new Sequential([
        ['enter', conv(inChannels)],
        ['relu', new ReLU()],
        ['conv', conv(channels)],
      ]),
    );
  }

  forward(input: Tensor): Tensor {
    return this.#body
      .forward(input)
      .add(input.mean({ dims: [1], keepDim: true }))
      .relu();
  }
}

/** The mean of a batch, which is not one of each image. */
class Mixed extends Module {
  forward(input: Tensor): Tensor {
    return input.mean({ dims: [0], keepDim: true });
  }
}

const network: NetworkBuilder = ({ classes, inputShape, seed }) => {
  const channels = [4, 6];
  const blocks: Module[] = [];
  const heads: Module[] = [];
  for (const [layer, wide] of channels.entries()) {
    using generator = Generator.create({ seed: 100 * seed + layer });
    blocks.push(new ResidualBlock(channels[layer - 1] ?? inputShape[0], wide, generator));
    heads.push(
      new Sequential([
        ['pool', new AdaptiveAvgPool2d({ outputSize: 2 })],
        ['flatten', new Flatten()],
        ['linear', new Linear({ inFeatures: 4 * wide, outFeatures: classes, init: defaultInit(generator) })],
      ]),
    );
  }
  return layeredNetwork({ name: 'two residual layers', classes, inputShape, blocks, heads });
};

const recipeOf = (changes: object = {}): Recipe =>
  overrideRecipe(
    overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
      training: { epochs: 4, batchSize: 8, milestones: [3], learningRate: 0.05 },
      augmentation: { cropPadding: 1, horizontalFlip: false },
      ...{ device: 'cpu', precision: 'fp32', threads: 1 },
    }),
    changes,
  );

describe('a network and images of ones own', () => {
  it('are trained, resumed to the same bits, opened, evaluated and planned', async () => {
    const given = { recipe: recipeOf(), network, data };
    const { result } = await train({ ...given, out: at('whole') });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(60);

    await startAndStop({ ...given, out: at('stopped') }, ({ type }) => type === 'epoch');
    await resume(at('stopped'), { network, data });
    expect(productOf(at('stopped'))).toEqual(productOf(at('whole')));

    using run = await TrainedRun.open(at('whole'), { network });
    expect(run.recipe.dataset).toMatchObject({
      inputShape: [1, 12, 20],
      imageSize: [12, 20],
      channels: null,
      trainCount: 48,
      testCount: 12,
    });
    const { top1 } = await run.evaluate(inMemoryDataset(data).test, 1);
    expect(top1).toBe(result.layers.at(-1)!.testTop1);
    scope(() => {
      const image = tensor(data.test.images.slice(0, 240), { shape: [1, 1, 12, 20] });
      expect(run.logits(image).shape).toEqual([1, 3]);
    });

    if (!canRehearse()) return;
    const { plan } = await planRecipe({ ...given, measured: true });
    // 3 x 3 x 1 x 4 + 4 and 3 x 3 x 4 x 4 + 4; 4 x 4 x 3 + 3.
    expect(plan.layers[0]!.parameters).toEqual({ block: 40 + 148, head: 51 });
    expect(plan.imageBytes).toBe(60 * 240);
  });

  it('are trained in bf16 as in fp32, frozen layers too', async () => {
    const bf16 = { recipe: recipeOf({ precision: 'bf16' }), network, data };
    const { result } = await train({ ...bf16, out: at('bf16') });
    expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(60);
    await startAndStop({ ...bf16, out: at('bf16-stopped') }, ({ type }) => type === 'layer');
    await resume(at('bf16-stopped'), { network, data });
    expect(productOf(at('bf16-stopped'))).toEqual(productOf(at('bf16')));
    const views = overrideRecipe(bf16.recipe, { augmentation: { views: 2 } });
    expect((await train({ ...bf16, recipe: views, out: at('views') })).result.layers.length).toBe(2);
  });

  it('go with data sets and networks of the program', async () => {
    const limits = { trainLimit: 16, testLimit: 8 };
    const changes = { dataset: limits, training: { epochs: 1, milestones: [] } };
    const onShapes = overrideRecipe(presetRecipe('own', { onCuda: false }), {
      ...changes,
      precision: 'fp32',
      threads: 1,
    });
    const { result } = await train({ recipe: onShapes, network, out: at('on-shapes') });
    expect(result.layers.length).toBe(2);

    const images = new Uint8Array(16 * 3 * 32 * 32).map((_, i) => (i * 31) % 256);
    const colours = { images, labels: Array.from({ length: 16 }, (_, i) => i % 2) };
    const own = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'own', onCuda: false }), {
      model: { width: 2, layers: 2 },
      training: { epochs: 1, batchSize: 8, milestones: [] },
      ...{ precision: 'fp32', threads: 1 },
    });
    const given: InMemoryData = { classes: ['a', 'b'], imageShape: [3, 32, 32], train: colours, test: colours };
    await train({ recipe: own, data: given, out: at('vgg') });
    using run = await TrainedRun.open(at('vgg'));
    expect(run.network.name).toBe('vgg11');
    await expect(run.loadDataset()).rejects.toMatchObject({
      name: 'RunDirectoryError',
      message: expect.stringContaining('its images were given in code: open it with them (data)'),
    });
    using withData = await TrainedRun.open(at('vgg'), { data: given });
    const { test } = await withData.loadDataset({ testLimit: 4 });
    expect(test.count).toBe(4);
    expect((await withData.evaluate(test, 1)).loss).toBeGreaterThan(0);
    // However often: more than ten listeners of one event are a warning.
    const listeners = process.listenerCount('exit');
    for (let i = 0; i < 12; i++) await withData.loadDataset({ testLimit: 4 });
    expect(process.listenerCount('exit')).toBe(listeners);
  });

  it('are grey and wide with the networks of the program', async () => {
    const models = {
      'vgg11-layerwise': { width: 4, layers: 2 },
      'simcnn-k2': { layers: 3, width: 4, auxWidth: 4 },
    };
    for (const [preset, model] of Object.entries(models)) {
      const recipe = overrideRecipe(presetRecipe(preset, { dataset: 'own', onCuda: false }), {
        model,
        training: { epochs: 3, batchSize: 8, milestones: [], learningRate: 0.05 },
        augmentation: { cropPadding: 1, horizontalFlip: false, views: 2 },
        ...{ device: 'cpu', precision: 'fp32', threads: 1 },
      });
      const { result } = await train({ recipe, data, out: at(preset) });
      expect(result.layers).toHaveLength(model.layers);
      expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(60);
      using run = await TrainedRun.open(at(preset));
      expect(run.network.inputShape).toEqual([1, 12, 20]);
      expect((await run.evaluate(inMemoryDataset(data).test, run.layers - 1)).top1).toBe(
        result.layers.at(-1)!.testTop1,
      );
      if (canRehearse()) expect((await planRecipe({ recipe, data, measured: false })).plan.imageBytes).toBe(60 * 240);
    }
    const deep = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'own', onCuda: false }), {
      augmentation: { cropPadding: 1 },
    });
    await expect(train({ recipe: deep, data, out: at('deep') })).rejects.toMatchObject({
      name: 'ModelError',
      message: 'vgg11: expected an even size at the pooling of layer 5 for imageSize, got 12 x 20, 3 x 5 there',
    });
  });

  it('leave no shape behind in a recipe that goes on to other images', async () => {
    const dataset = { trainLimit: 16, testLimit: 8, inputShape: [1, 12, 20], imageSize: 32 };
    const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { onCuda: false }), {
      ...{ dataset, precision: 'fp32', threads: 1 },
      model: { width: 2, layers: 1 },
      training: { epochs: 1, batchSize: 8, milestones: [] },
    });
    await train({ recipe, out: at('other-images') });
    using run = await TrainedRun.open(at('other-images'));
    expect(run.recipe.dataset.inputShape).toBeUndefined();
    expect(run.network.inputShape).toEqual([3, 32, 32]);
  });

  it('have their features kept where the first block has no weights', async () => {
    const pooled: NetworkBuilder = (request) => {
      const { blocks, heads } = network(request);
      const { inputShape, classes } = request;
      const linear = new Linear({ inFeatures: 4, outFeatures: classes });
      const first = new Sequential([
        ['pool', new AdaptiveAvgPool2d({ outputSize: 2 })],
        ['flatten', new Flatten()],
        ['linear', linear],
      ]);
      return layeredNetwork({ classes, inputShape, blocks: [new ReLU(), ...blocks], heads: [first, ...heads] });
    };
    const recipe = recipeOf({ augmentation: { views: 2 }, training: { epochs: 2, milestones: [] } });
    const { result } = await train({ recipe, network: pooled, data, out: at('no-weights') });
    expect(result.layers.length).toBe(3);
  });

  it('are normalised by the training images, channel by channel', () => {
    const images = Uint8Array.of(0, 255, 51, 51, 255, 0, 51, 51);
    const two = { images, labels: [0, 1] };
    const { normalization } = inMemoryDataset({ classes: ['a', 'b'], imageShape: [2, 1, 2], train: two, test: two });
    // Channel 0 has 0, 255, 255, 0; channel 1 is 51 everywhere.
    expect(normalization.mean).toEqual([0.5, 0.2]);
    expect(normalization.std).toEqual([0.5, 1]);
  });
});

describe('is refused before anything is written', () => {
  const broken =
    (change: (parts: { blocks: Module[]; heads: Module[] }) => void): NetworkBuilder =>
    (request) => {
      const { blocks, heads, ...others } = network(request);
      const parts = { blocks: [...blocks], heads: [...heads] };
      const all = [...blocks, ...heads];
      change(parts);
      for (const module of all) if (![...parts.blocks, ...parts.heads].includes(module)) module.dispose();
      return { ...others, ...parts };
    };

  it.each<[string, NetworkBuilder, string]>([
    [
      'heads that are missing',
      broken(({ heads }) => heads.pop()),
      'expected as many heads as blocks, and at least one, got 2 blocks and 1 heads',
    ],
    [
      'blocks in another order',
      broken(({ blocks }) => blocks.reverse()),
      'layer 1: its block does not take [2, 1, 12, 20]: ',
    ],
    [
      'heads in another order',
      broken(({ heads }) => heads.reverse()),
      'layer 1: its head does not take [2, 4, 12, 20]: ',
    ],
    [
      'a head of other classes',
      (request) => ({ ...network({ ...request, classes: 5 }), classes: 3 }),
      'layer 1: expected [2, 3] from its head, got [2, 5]',
    ],
    ['no network', () => null as never, 'network: expected a function that gives a Network, got null'],
    ['a promise', (async () => network) as never, 'expected a function that gives a Network, got a promise'],
    [
      'others than modules',
      () => ({ blocks: [1], heads: [] }) as never,
      'a list of modules for blocks, got other values in it',
    ],
    [
      'no state dicts',
      () => ({ blocks: [], heads: [] }) as never,
      'expected a Network with stateDict(), as layeredNetwork gives one, got undefined',
    ],
    [
      'something else to fit it',
      ({ classes, inputShape }) => ({
        ...layeredNetwork({ classes, inputShape, blocks: [], heads: [] }),
        fitToImages: true as never,
      }),
      'expected a Network with a function for fitToImages, or none, got boolean',
    ],
    [
      'other images',
      (request) => network({ ...request, inputShape: [3, 12, 20] }),
      'expected images of 1 x 12 x 20, got images of 3 x 12 x 20',
    ],
    [
      'a block that mixes the images',
      broken(({ blocks }) => {
        blocks[0] = new Mixed();
      }),
      'layer 1: expected [2, ...] from its block of 2 images, got [1, 1, 12, 20]',
    ],
    [
      'a layer with nothing to learn',
      broken(({ blocks, heads }) => {
        blocks.unshift(new ReLU());
        heads.unshift(new Sequential([['flatten', new Flatten()]]));
      }),
      'layer 1: expected weights in its block or its head, got none',
    ],
    [
      'a block in two layers',
      broken(({ blocks, heads }) => {
        blocks.push(blocks[1]!);
        heads.push(heads[1]!);
      }),
      'layer 3: expected weights of its own, which no other layer has, got body.enter.weight of layer 2',
    ],
    [
      'one head for two layers',
      broken(({ heads }) => heads.splice(1, 1, heads[0]!)),
      'layer 2: expected weights of its own, which no other layer has, got linear.weight of layer 1',
    ],
  ])('a network with %s', async (_, build, message) => {
    const run = train({ recipe: recipeOf(), network: build, data, out: at('refused') });
    await expect(run).rejects.toMatchObject({ name: 'ModelError', message: expect.stringContaining(message) });
  });

  it.each<[string, object, string]>([
    [
      'one class',
      { classes: ['a'] },
      'data.classes: expected the names of at least two classes, of at most 255 letters, got ["a"]',
    ],
    ['a class twice', { classes: ['a', 'a', 'b'] }, 'data.classes: expected each name once, got "a"'],
    [
      'half an image',
      { train: { images: new Uint8Array(100), labels: [] } },
      'data.train.images: expected a multiple of 240 values',
    ],
    [
      'images of floats',
      { train: { images: new Float32Array(240), labels: [0] } },
      'data.train.images: expected a Uint8Array or a Buffer',
    ],
    [
      'labels that are missing',
      { test: { ...data.test, labels: [0] } },
      'data.test.labels: expected 12 labels, one an image, got 1',
    ],
    [
      'a label beyond the classes',
      { test: { images: new Uint8Array(240), labels: [3] } },
      'data.test.labels[0]: expected a label from 0 to 2 or the name of a class, got 3',
    ],
    ['a shape of two sizes', { imageShape: [12, 20] }, 'data.imageShape: expected [channels, height, width]'],
    [
      'a normalisation of three channels',
      { normalization: { mean: [0, 0, 0], std: [1, 1, 1] } },
      'data.normalization.mean: expected 1 numbers',
    ],
  ])('data with %s', async (_, change, message) => {
    const run = train({ recipe: recipeOf(), network, data: { ...data, ...change }, out: at('refused') });
    await expect(run).rejects.toMatchObject({ code: 'DATA_ARGUMENT', message: expect.stringContaining(message) });
  });

  it.each<[string, object, readonly [number, number, number], string]>([
    [
      'smaller than the padding that is cropped',
      { augmentation: { cropPadding: 4 } },
      [1, 4, 4],
      'augmentation.cropPadding: expected less than dataset.imageSize, got 4',
    ],
    ['of longer sides than any', {}, [1, 1, 5_000], 'dataset.inputShape.2: expected at most 4096, got 5000'],
    [
      'of which random parts are to be cut out',
      { augmentation: { randomResizedCrop: true } },
      [1, 12, 20],
      'augmentation.randomResizedCrop: expected false',
    ],
  ])('images %s', async (_, changes, imageShape, message) => {
    const length = imageShape.reduce((product, size) => product * size);
    const part = { images: new Uint8Array(8 * length), labels: Array.from({ length: 8 }, (_, i) => i % 3) };
    const given = { ...data, imageShape, train: part, test: part };
    const out = at('refused-images');
    await expect(train({ recipe: recipeOf(changes), network, data: given, out })).rejects.toMatchObject({
      message: expect.stringContaining(message),
    });
    expect(existsSync(out)).toBe(false);
  });

  it('what is not given, or does not go with the recipe', async () => {
    const onShapes = presetRecipe('own', { onCuda: false });
    const vgg = presetRecipe('vgg11-layerwise', { onCuda: false });
    const message = (text: string) => ({ message: expect.stringContaining(text) });
    await expect(train({ recipe: onShapes })).rejects.toMatchObject(message('the function that builds the network'));
    await expect(train({ recipe: recipeOf(), network })).rejects.toMatchObject(message('expected the images'));
    await expect(train({ recipe: vgg, network })).rejects.toMatchObject(message('model.name: expected own'));
    await expect(train({ recipe: vgg, data })).rejects.toMatchObject(message('dataset.name: expected own'));
    await expect(train({ recipe: onShapes, network: 5 as never })).rejects.toMatchObject(
      message('network: expected a function'),
    );
  });

  it('another network where a run goes on, and other images', async () => {
    await startAndStop({ recipe: recipeOf(), network, data, out: at('goes-on') }, ({ type }) => type === 'epoch');
    await expect(resume(at('goes-on'), { data })).rejects.toMatchObject({ message: expect.stringContaining('own') });
    const other = { ...data, train: { ...data.train, images: data.train.images.map((value) => value + 1) } };
    await expect(resume(at('goes-on'), { network, data: other })).rejects.toMatchObject({ name: 'RunDirectoryError' });
  });
});

it('looking whether a network can be trained leaves each module in its mode', () => {
  const request = { classes: 3, inputShape: [1, 12, 20], seed: 1, options: {} } as const;
  const built = network(request);
  const inner = built.blocks[0]!.children.get('body')!;
  inner.eval();
  requireTrainable(built, { ...request, schedule: 'layerwise' });
  expect([built.blocks[0]!.training, inner.training]).toEqual([true, false]);
  disposeNetwork(built);
});
