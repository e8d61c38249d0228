// CIFAR-10 with the last 5,000 training images in place of the test images, as a module of data: for choices, which must not see the test
// images.
//
//   npx layerwise train --preset cifar10-fast --data bench/cifar10-fast/held-out.mjs \
//     --data-options '{"folder": "DIR/cifar-10-batches-bin"}' --out runs/held-out
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @import { DataBuilder, InMemoryImages } from 'layerwise' */

const SIDE = 32;
const RECORD = 1 + 3 * SIDE * SIDE;
const HELD_OUT = 5_000;
const CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'];

/** @type {DataBuilder} */
export const data = ({ options: { folder } }) => {
  const records = Buffer.concat([1, 2, 3, 4, 5].map((n) => readFileSync(join(String(folder), `data_batch_${n}.bin`))));
  const first = records.length / RECORD - HELD_OUT;
  return {
    title: 'CIFAR-10, held out',
    classes: CLASSES,
    imageShape: [3, SIDE, SIDE],
    train: imagesOf(records.subarray(0, first * RECORD)),
    test: imagesOf(records.subarray(first * RECORD)),
    normalization: { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] },
  };
};

/** @param {Buffer} records @returns {InMemoryImages} */
function imagesOf(records) {
  const count = records.length / RECORD;
  const images = new Uint8Array(count * (RECORD - 1));
  const labels = Array.from({ length: count }, (_, i) => {
    images.set(records.subarray(i * RECORD + 1, (i + 1) * RECORD), i * (RECORD - 1));
    return records[i * RECORD] ?? 0;
  });
  return { images, labels };
}
