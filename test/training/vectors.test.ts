// Networks of linear layers on vectors, which are no images.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type InMemoryVectorData, inMemoryDataset } from '../../lib/data/index.js';
import { probeLayer, TrainedRun } from '../../lib/finished/index.js';
import { layeredNetwork, type NetworkBuilder } from '../../lib/models/index.js';
import { Dropout, defaultInit, Linear, type Module, ReLU, Residual, Sequential } from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { recipeOfRun } from '../../lib/run/index.js';
import { canRehearse, Generator, scope, tensor } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { scatter } from '../support/fixtures.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

/** Classes by a circle in the plane of the first two values, in units that differ by 10^6; the third is noise. */
function part(count: number, salt: number): InMemoryVectorData['train'] {
  const values = scatter(3 * count, salt);
  const vectors = new Float32Array(3 * count);
  const labels = Array.from({ length: count }, (_, i) => {
    const [x, y, noise] = [0, 1, 2].map((at) => values[3 * i + at]!) as [number, number, number];
    vectors.set([1000 * x + 5000, y / 1000, noise], 3 * i);
    return Math.hypot(x, y) < 0.8 ? 0 : 1;
  });
  return { vectors, labels };
}

const data: InMemoryVectorData = {
  classes: ['inside', 'outside'],
  vectorLength: 3,
  train: part(300, 1),
  test: part(60, 2),
};

const sequential = (...modules: Module[]): Sequential =>
  new Sequential(modules.map((module, i) => [String(i), module] as const));

const network: NetworkBuilder = ({ classes, inputShape, seed }) => {
  const blocks: Module[] = [];
  const heads: Module[] = [];
  for (let layer = 0; layer < 3; layer++) {
    using generator = Generator.create({ seed: 100 * seed + layer });
    const init = defaultInit(generator);
    const linear = (inFeatures: number, outFeatures: number) => new Linear({ inFeatures, outFeatures, init });
    blocks.push(
      layer === 2
        ? new Residual({ body: sequential(linear(16, 16), new ReLU({ inPlace: true }), linear(16, 16)) })
        : sequential(
            linear(layer === 0 ? inputShape[0]! : 16, 16),
            new ReLU({ inPlace: true }),
            new Dropout({ p: 0.05 }),
          ),
    );
    heads.push(linear(16, classes));
  }
  return layeredNetwork({ name: 'three layers', classes, inputShape, blocks, heads });
};

const recipeOf = (changes: object = {}): Recipe =>
  overrideRecipe(
    overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
      training: { epochs: 6, batchSize: 16, milestones: [5], learningRate: 0.1 },
      augmentation: { cropPadding: 0, horizontalFlip: false },
      ...{ device: 'cpu', precision: 'fp32', threads: 1 },
    }),
    changes,
  );

describe('a network on vectors', () => {
  it('is trained, resumed to the same bits, opened, evaluated and probed', async () => {
    const given = { recipe: recipeOf(), network, data };
    const { result } = await train({ ...given, out: at('whole') });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
    expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(85);

    await startAndStop({ ...given, out: at('stopped') }, (event) => event.type === 'epoch' && event.layer === 1);
    await resume(at('stopped'), { network, data });
    expect(productOf(at('stopped'))).toEqual(productOf(at('whole')));

    using run = await TrainedRun.open(at('whole'), { network, data });
    const dataset = inMemoryDataset(data);
    const loaded = await run.loadDataset({ testLimit: 10 });
    expect([loaded.train.count, loaded.test.count]).toEqual([300, 10]);
    expect(run.recipe.dataset).toMatchObject({ inputShape: [3], imageSize: null, trainCount: 300, testCount: 60 });
    expect(run.recipe.dataset.title).toBe("vectors of one's own");
    expect(run.normalization).toEqual(dataset.normalization);
    for (const layer of [0, 1, 2]) {
      expect((await run.evaluate(dataset.test, layer)).top1).toBeCloseTo(result.layers[layer]!.testTop1!, 9);
    }
    expect((await run.evaluate(dataset.test, 'ensemble')).top1).toBeGreaterThan(80);
    scope(() => {
      const vectors = tensor(data.test.vectors.slice(0, 6), { shape: [2, 3] });
      expect(run.logits(vectors).shape).toEqual([2, 2]);
      expect(run.features(vectors, 1).shape).toEqual([2, 16]);
    });
    expect((await probeLayer(run, dataset, 1)).test.top1).toBeGreaterThan(80);
    expect(existsSync(join(at('whole'), 'report.html'))).toBe(true);
    // The recipe of a run on vectors can be trained again.
    expect((await recipeOfRun(at('whole'))).dataset.inputShape).toEqual([3]);
  });

  it.each([
    ['fp32', 'host'],
    ['fp32', 'disk'],
    ['bf16', 'host'],
  ] as const)('keeps its features, %s on the %s, and goes on to the same bits', async (precision, tier) => {
    const name = `${precision}-${tier}`;
    const recipe = recipeOf({ precision, augmentation: { views: 1 }, training: { epochs: 3, milestones: [] } });
    const cache = { host: tier === 'host' ? 2 ** 20 : 0, disk: tier === 'disk' ? 2 ** 20 : 0 };
    const given = { recipe, network, data, cache };
    const { result } = await train({ ...given, out: at(name) });
    expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(75);
    await startAndStop(
      { ...given, out: at(`${name}-stopped`) },
      (event) => event.type === 'epoch' && event.layer === 2,
    );
    await resume(at(`${name}-stopped`), { network, data, cache });
    expect(productOf(at(`${name}-stopped`))).toEqual(productOf(at(name)));
  });

  it('is trained as one network, and a new head on its layers', async () => {
    const recipe = recipeOf({ training: { schedule: 'end-to-end', epochs: 10, milestones: [] } });
    const { result } = await train({ recipe, network, data, out: at('end-to-end') });
    expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(80);
    await train({ recipe: recipeOf({ training: { epochs: 1, milestones: [] } }), network, data, out: at('first') });
    const { result: second } = await train({
      ...{ recipe: recipeOf({ training: { epochs: 1, milestones: [] } }), network, data, out: at('second') },
      startFrom: { runDirectory: at('first'), layers: 2 },
    });
    expect(second.layers).toHaveLength(3);
  });

  it('takes the first of the vectors', async () => {
    const dataset = { trainLimit: 40, testLimit: 10 };
    const recipe = recipeOf({ dataset, training: { epochs: 1, milestones: [] } });
    await train({ recipe, network, data, out: at('limited') });
    using run = await TrainedRun.open(at('limited'), { network });
    expect(run.recipe.dataset).toMatchObject({ trainCount: 40, testCount: 10 });
  });

  it.runIf(canRehearse())('is planned', async () => {
    const { plan, times } = await planRecipe({ recipe: recipeOf(), network, data, measured: true });
    expect(plan.imageBytes).toBe(360 * 3 * 4);
    expect(plan.layers.map(({ outputShape }) => outputShape)).toEqual([[16], [16], [16]]);
    expect(plan.layers[0]!.parameters).toEqual({ block: 3 * 16 + 16, head: 16 * 2 + 2 });
    expect(plan.layers[0]!.multiplyAdds).toEqual({ frozen: 0, block: 48, head: 32 });
    expect(times).toHaveLength(3);
  });
});

describe('vectors are refused before anything is written', () => {
  const message = (text: string) => ({ message: expect.stringContaining(text) });

  it.each<[string, object, string]>([
    ['crops', { cropPadding: 4 }, 'augmentation.cropPadding: expected 0 for vectors, got 4'],
    ['flips', { horizontalFlip: true }, 'augmentation.horizontalFlip: expected false for vectors, got true'],
    ['resized crops', { randomResizedCrop: true }, 'augmentation.randomResizedCrop: expected false'],
  ])('with %s', async (_, augmentation, text) => {
    const run = train({ recipe: recipeOf({ augmentation }), network, data, out: at('refused') });
    await expect(run).rejects.toMatchObject(message(text));
    expect(existsSync(at('refused'))).toBe(false);
  });

  it('by networks for images, and for vectors of another length', async () => {
    const vgg = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'own', onCuda: false }), {
      augmentation: { cropPadding: 0, horizontalFlip: false },
    });
    await expect(train({ recipe: vgg, data, out: at('refused') })).rejects.toMatchObject(
      message('vgg11: expected images, got vectors of 3 values'),
    );
    const others: NetworkBuilder = (request) => ({ ...network(request), inputShape: [4] });
    await expect(train({ recipe: recipeOf(), network: others, data, out: at('refused') })).rejects.toMatchObject(
      message('expected vectors of 3 values, got vectors of 4 values'),
    );
  });

  it('where a run goes on with others', async () => {
    await startAndStop({ recipe: recipeOf(), network, data, out: at('goes-on') }, ({ type }) => type === 'epoch');
    const vectors = data.train.vectors.slice();
    vectors[0]! += 1;
    await expect(
      resume(at('goes-on'), { network, data: { ...data, train: { ...data.train, vectors } } }),
    ).rejects.toThrow(/train: images replaced in place: class (in|out)side/);
  });

  it('in recipes of images, whose size is needed', async () => {
    const recipe = recipeOf();
    expect(() => overrideRecipe(recipe, { dataset: { imageSize: null } })).toThrow(
      'dataset.imageSize: expected pixels a side of images, got null',
    );
    expect(() => overrideRecipe(recipe, { dataset: { inputShape: [2, 3] } })).toThrow(
      'dataset.inputShape: expected [channels, height, width] or [length], got [2,3]',
    );
    const record = JSON.parse(readFileSync(join(at('whole'), 'config.json'), 'utf8'));
    const { inputShape, ...dataset } = record.recipe.dataset;
    expect(() => overrideRecipe(recipe, { dataset })).toThrow('dataset.imageSize: expected pixels a side');
    expect(inputShape).toEqual([3]);
  });
});
