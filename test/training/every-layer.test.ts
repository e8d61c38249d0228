// A network of the layers that the presets do not have, trained as any other: planned, stopped and resumed to the same bits, frozen.
import { expect, it } from 'vitest';
import type { InMemoryData } from '../../lib/data/index.js';
import { layeredNetwork, type NetworkBuilder } from '../../lib/models/index.js';
import * as nn from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { canRehearse, Generator } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

/** Images of 16 x 12 pixels and two channels: class 0 is dark, class 1 bright. */
function part(count: number): { images: Uint8Array; labels: number[] } {
  const labels = Array.from({ length: count }, (_, i) => i % 2);
  const images = new Uint8Array(count * 2 * 16 * 12).map(
    (_, i) => (labels[Math.floor(i / (2 * 16 * 12))] === 1 ? 170 : 60) + ((i * 7919) % 48),
  );
  return { images, labels };
}

const data: InMemoryData = { classes: ['dark', 'bright'], imageShape: [2, 16, 12], train: part(40), test: part(12) };

const network: NetworkBuilder = ({ classes, inputShape, seed }) => {
  using generator = Generator.create({ seed });
  const init = nn.defaultInit(generator);
  const head = (channels: number, activation: nn.Module): nn.Module =>
    new nn.Sequential([
      ['pool', new nn.AdaptiveAvgPool2d({ outputSize: [2, 1] })],
      ['flatten', new nn.Flatten()],
      ['linear', new nn.Linear({ inFeatures: 2 * channels, outFeatures: 8, init })],
      ['bn', new nn.BatchNorm1d({ features: 8 })],
      ['activation', activation],
      ['norm', new nn.LayerNorm({ normalizedShape: 8 })],
      ['out', new nn.Linear({ inFeatures: 8, outFeatures: classes, init })],
    ]);
  const blocks = [
    new nn.Sequential([
      ['stem', new nn.Conv2d({ inChannels: inputShape[0], outChannels: 8, kernelSize: [3, 5], padding: 'same', init })],
      ['norm', new nn.GroupNorm({ numGroups: 2, numChannels: 8 })],
      ['silu', new nn.SiLU()],
      ['pool', new nn.MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 })],
    ]),
    new nn.Sequential([
      ['drop', new nn.Dropout2d({ p: 0.1 })],
      [
        'depthwise',
        new nn.Conv2d({ inChannels: 8, outChannels: 8, kernelSize: 3, padding: 2, dilation: 2, groups: 8, init }),
      ],
      ['gelu', new nn.GELU()],
      ['pointwise', new nn.Conv2d({ inChannels: 8, outChannels: 12, kernelSize: 1, init })],
      ['leaky', new nn.LeakyReLU({ negativeSlope: 0.1 })],
      ['same', new nn.Identity()],
    ]),
    new nn.Sequential([
      ['up', new nn.Upsample({ scaleFactor: 1.5, mode: 'bilinear' })],
      ['conv', new nn.Conv2d({ inChannels: 12, outChannels: 12, kernelSize: 3, stride: [2, 1], padding: 1, init })],
      ['relu', new nn.ReLU({ inPlace: true })],
      ['pool', new nn.AvgPool2d({ kernelSize: [1, 2] })],
    ]),
  ];
  return layeredNetwork({
    classes,
    inputShape,
    blocks,
    heads: [head(8, new nn.Tanh()), head(12, new nn.GELU({ approximate: 'tanh' })), head(12, new nn.Sigmoid())],
  });
};

const recipeOf = (precision: string): Recipe =>
  overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
    training: {
      optimizer: 'adamw',
      epochs: 4,
      batchSize: 8,
      learningRate: 0.01,
      rateSchedule: 'cosine',
      warmupEpochs: 1,
    },
    augmentation: { cropPadding: 1, horizontalFlip: true },
    ...{ device: 'cpu', precision, threads: 1 },
  });

it.each(['fp32', 'bf16'])('is trained in %s, resumed to the same bits and planned', async (precision) => {
  const given = { recipe: recipeOf(precision), network, data };
  const { result } = await train({ ...given, out: at(`${precision}-whole`) });
  expect(result.layers.map(({ testTop1 }) => testTop1)).toEqual([100, 100, 100]);

  const stopped = at(`${precision}-stopped`);
  await startAndStop(
    { ...given, out: stopped },
    (event) => event.type === 'step' && event.layer === 1 && event.epoch === 2 && event.step === 3,
  );
  await resume(stopped, { network, data });
  expect(productOf(stopped)).toEqual(productOf(at(`${precision}-whole`)));

  if (!canRehearse()) return;
  const { plan } = await planRecipe({ ...given, measured: false });
  expect(plan.layers.map(({ outputShape }) => outputShape)).toEqual([
    [8, 8, 6],
    [12, 8, 6],
    [12, 6, 4],
  ]);
  // 3 x 5 x 2 x 8 + 8, and the norm's 16.
  expect(plan.layers[0]!.parameters.block).toBe(264);
});
