import { beforeAll, expect, it } from 'vitest';
import type { Dataset, LabelledImages } from '../../lib/data/index.js';
import { probeLayer, TrainedRun } from '../../lib/finished/index.js';
import { noGrad, scope, tensor } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';

const folder = temporaryFolder();
const run = folder('run');
beforeAll(() =>
  train({
    recipe: smallRecipe({ model: { width: 4, auxWidth: 3, downsampleAt: [1] } }, 'simcnn-k2'),
    out: run,
  }),
);

it("gives a layer's features averaged to 2x2, channel by channel", async () => {
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  const { test } = await trained.loadDataset();
  const images = test as LabelledImages;
  scope(() =>
    noGrad(() => {
      const pixels = tensor(images.images.subarray(0, 3 * 3072), { shape: [3, 3, 32, 32] });
      const features = trained.features(pixels, 1);
      expect(features.shape).toEqual([3, 4 * 8]);
      expect(features.dtype).toBe('float32');
      // Head 0 reads layer 0; here the whole of layer 1 is averaged by hand.
      const whole = trained.network.blocks
        .reduce(
          (x, block) => block.forward(x),
          trained.transforms.reduce((x, t) => t.apply(x, undefined as never), pixels),
        )
        .toFloat32Array();
      const mean = (image: number, channel: number, top: number, left: number): number => {
        let sum = 0;
        for (let y = 0; y < 8; y++) {
          for (let x = 0; x < 8; x++) sum += whole[((image * 8 + channel) * 16 + top + y) * 16 + left + x]!;
        }
        return sum / 64;
      };
      const got = features.toFloat32Array();
      for (const [image, channel] of [
        [0, 0],
        [1, 5],
        [2, 7],
      ] as const) {
        const expected = [
          mean(image, channel, 0, 0),
          mean(image, channel, 0, 8),
          mean(image, channel, 8, 0),
          mean(image, channel, 8, 8),
        ];
        for (const [i, value] of expected.entries()) {
          expect(got[image * 32 + channel * 4 + i]).toBeCloseTo(value, 5);
        }
      }
    }),
  );
});

/** Two classes that every network tells apart: black and white. */
function blackAndWhite(): Dataset {
  const part = (count: number): LabelledImages => ({
    images: Uint8Array.from({ length: count * 3072 }, (_, i) => (Math.floor(i / 3072) % 2) * 255 - 0),
    labels: Uint8Array.from({ length: count }, (_, i) => i % 2),
    count,
    channels: 3,
    height: 32,
    width: 32,
  });
  return {
    name: 'black-and-white',
    title: 'black and white',
    classes: ['black', 'white'],
    train: part(20),
    test: part(6),
    normalization: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  };
}

it('fits a linear classifier to other classes than those of the run', async () => {
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  for (const layer of [0, 1]) {
    const { train, test, fit } = await probeLayer(trained, blackAndWhite(), layer);
    expect(fit.converged).toBe(true);
    expect([train.top1, test.top1]).toEqual([100, 100]);
  }
});

it('fits to the classes of the run, and is the same twice', async () => {
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  const dataset = await trained.loadDataset({ trainLimit: 300, testLimit: 100 });
  const first = await probeLayer(trained, dataset, 1);
  expect(first.fit.converged).toBe(true);
  // Ten classes: far above chance on the images it was fitted to, even from two hardly trained layers.
  expect(first.train.top1).toBeGreaterThan(20);
  expect(await probeLayer(trained, dataset, 1)).toEqual(first);
});

it.each([-1, 2, 0.5])('refuses layer %j', async (layer) => {
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  await expect(probeLayer(trained, blackAndWhite(), layer)).rejects.toThrow(/expected a layer from 1 to 2/);
});
