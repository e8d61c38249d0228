// Networks whose blocks give maps, then rows [n, features], and one that has nothing to learn.
import { describe, expect, it } from 'vitest';
import { type InMemoryData, inMemoryDataset } from '../../lib/data/index.js';
import { probeLayer, TrainedRun } from '../../lib/finished/index.js';
import { layeredNetwork, type NetworkBuilder } from '../../lib/models/index.js';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  defaultInit,
  Flatten,
  Linear,
  type Module,
  ReLU,
  Residual,
  Sequential,
} from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { canRehearse, Generator, scope, tensor } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const CLASSES = 3;
const [HEIGHT, WIDTH] = [6, 8];

/** Grey images: class 0 is dark, class 1 bright, class 2 bright on the left. */
function part(count: number): InMemoryData['train'] {
  const images = new Uint8Array(count * HEIGHT * WIDTH);
  const labels = Array.from({ length: count }, (_, i) => i % CLASSES);
  for (let i = 0; i < images.length; i++) {
    const label = labels[Math.floor(i / (HEIGHT * WIDTH))]!;
    const isBright = label === 1 || (label === 2 && i % WIDTH < WIDTH / 2);
    images[i] = (isBright ? 180 : 40) + ((i * 7919) % 32);
  }
  return { images, labels };
}

const data: InMemoryData = {
  classes: ['dark', 'bright', 'left'],
  imageShape: [1, HEIGHT, WIDTH],
  train: part(44),
  test: part(12),
};

const sequential = (...modules: Module[]): Sequential =>
  new Sequential(modules.map((module, i) => [String(i), module] as const));

/** Maps of 2 channels, rows of 5, rows of 5 by a residual block, the same through dropout alone, rows of 4. */
const network: NetworkBuilder = ({ classes, inputShape, seed }) => {
  const layers: ((linear: (from: number, to: number) => Linear, init: ReturnType<typeof defaultInit>) => Module[])[] = [
    (linear, init) => [
      sequential(
        new Conv2d({ inChannels: 1, outChannels: 2, kernelSize: 3, padding: 1, init }),
        new BatchNorm2d({ features: 2 }),
        new ReLU({ inPlace: true }),
      ),
      sequential(new AdaptiveAvgPool2d({ outputSize: 2 }), new Flatten(), linear(8, classes)),
    ],
    (linear) => [
      sequential(new Flatten(), linear(2 * HEIGHT * WIDTH, 5), new ReLU({ inPlace: true })),
      linear(5, classes),
    ],
    (linear) => [
      new Residual({ body: sequential(linear(5, 6), new ReLU({ inPlace: true }), linear(6, 5)) }),
      linear(5, classes),
    ],
    (linear) => [new Dropout({ p: 0.1 }), linear(5, classes)],
    (linear) => [sequential(linear(5, 4), new ReLU()), linear(4, classes)],
  ];
  const made = layers.map((make, layer) => {
    using generator = Generator.create({ seed: 100 * seed + layer });
    const init = defaultInit(generator);
    return make((inFeatures, outFeatures) => new Linear({ inFeatures, outFeatures, init }), init);
  });
  return layeredNetwork({
    ...{ classes, inputShape },
    blocks: made.map(([block]) => block!),
    heads: made.map(([, head]) => head!),
  });
};

const recipeOf = (precision: Recipe['precision'], views: number | null): Recipe =>
  overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
    training: { epochs: 3, batchSize: 8, milestones: [2], learningRate: 0.05 },
    augmentation: { cropPadding: 1, horizontalFlip: false, views },
    ...{ device: 'cpu', precision, threads: 1 },
  });

const MIB = 2 ** 20;

describe.each<[Recipe['precision'], number | null, 'host' | 'disk']>([
  ['fp32', null, 'host'],
  ['fp32', 2, 'host'],
  ['fp32', 2, 'disk'],
  ['bf16', null, 'host'],
  ['bf16', 2, 'host'],
  ['bf16', 2, 'disk'],
])('rows in %s, %s views kept on the %s', (precision, views, tier) => {
  const name = `${precision}-${views}-${tier}`;
  const cache = { host: tier === 'host' ? MIB : 0, disk: tier === 'disk' ? MIB : 0 };
  const given = { recipe: recipeOf(precision, views), network, data, cache };

  it('are trained, resumed to the same bits, opened, evaluated and given', async () => {
    const kept: number[] = [];
    const { result } = await train({
      ...given,
      out: at(name),
      onEvent: (event) => {
        if (event.type === 'view') kept.push(event.bytes);
      },
    });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1, 2, 3, 4]);
    expect(result.layers.at(-1)!.testTop1).toBeGreaterThan(60);
    // What layers 2 to 5 read of 44 images: maps, flat already, then rows of 5; each view.
    const bytes = 44 * (precision === 'bf16' ? 2 : 4);
    const each = [2 * HEIGHT * WIDTH, 5, 5, 5].map((values) => values * bytes);
    expect(kept).toEqual(views === null ? [] : each.flatMap((one) => [one, one]));

    for (const layer of [1, 3]) {
      const out = at(`${name}-stopped-${layer}`);
      await startAndStop({ ...given, out }, (event) => event.type === 'epoch' && event.layer === layer);
      await resume(out, { network, data, cache });
      expect(productOf(out)).toEqual(productOf(at(name)));
    }

    using run = await TrainedRun.open(at(name), { network });
    const dataset = inMemoryDataset(data);
    for (const layer of [0, 1, 2, 3, 4]) {
      const { top1 } = await run.evaluate(dataset.test, layer);
      expect(top1).toBeCloseTo(result.layers[layer]!.testTop1!, 9);
    }
    scope(() => {
      const images = tensor(data.test.images.slice(0, 2 * HEIGHT * WIDTH), { shape: [2, 1, HEIGHT, WIDTH] });
      const features = [0, 1, 2, 3, 4].map((layer) => run.features(images, layer));
      expect(features.map(({ shape }) => shape)).toEqual([
        [2, 8],
        [2, 5],
        [2, 5],
        [2, 5],
        [2, 4],
      ]);
      // A layer of dropout gives what it reads.
      expect(features[3]!.toFloat32Array()).toEqual(features[2]!.toFloat32Array());
      expect(Math.min(...features[1]!.toFloat32Array())).toBeGreaterThanOrEqual(0);
    });
    expect((await probeLayer(run, dataset, 1)).test.top1).toBeGreaterThan(60);
  }, 60_000);
});

it.runIf(canRehearse())('rows are planned', async () => {
  const { plan } = await planRecipe({ recipe: recipeOf('fp32', 2), network, data, measured: true });
  expect(plan.layers.map(({ outputShape }) => outputShape)).toEqual([[2, HEIGHT, WIDTH], [5], [5], [5], [4]]);
  expect(plan.layers.map(({ features }) => features?.bytes ?? null)).toEqual(
    [null, 2 * HEIGHT * WIDTH, 5, 5, 5].map((values) => (values === null ? null : 2 * 44 * 4 * values)),
  );
  expect(plan.layers.map(({ parameters }) => parameters.block)).toEqual([20 + 4, 96 * 5 + 5, 36 + 35, 0, 24]);
  expect(plan.layers.map(({ multiplyAdds }) => multiplyAdds.block)).toEqual([2 * 9 * 48, 96 * 5, 60, 0, 20]);
});
