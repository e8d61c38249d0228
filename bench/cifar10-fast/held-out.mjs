// CIFAR-10 with the last 5,000 training images in place of the test images, as a module of data: for choices, which must not see the test
// images.
//
//   npx layerwise train --preset cifar10-fast --data bench/cifar10-fast/held-out.mjs --data-options '{"dataDir": "DIR"}' --out runs/held-out
import { loadDataset } from 'layerwise';

/** @import { DataBuilder } from 'layerwise' */

const HELD_OUT = 5_000;

/** @type {DataBuilder} */
export const data = async ({ options: { dataDir } }) => {
  const { train, classes, normalization } = await loadDataset({ name: 'cifar10', dataDir: String(dataDir) });
  const { channels, height, width } = train;
  const first = train.count - HELD_OUT;
  const at = first * channels * height * width;
  return {
    title: 'CIFAR-10, held out',
    classes,
    imageShape: [channels, height, width],
    train: { images: train.images.subarray(0, at), labels: train.labels.subarray(0, first) },
    test: { images: train.images.subarray(at), labels: train.labels.subarray(first) },
    normalization,
  };
};
