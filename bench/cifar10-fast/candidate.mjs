// A network for the preset that is looked for, and its data, as a module (of the images below):
//
//   npx layerwise train --preset own --network bench/cifar10-fast/candidate.mjs --data bench/cifar10-fast/candidate.mjs \
//     --data-options '{"folder": "DIR/cifar-10-batches-bin"}' --config bench/cifar10-fast/candidate.json --out runs/cifar10-fast
//
// The data option `part` says what is tested: "held", the default, the last 5,000 training images, by a network that the other 45,000
// trained; "test" the test batch, by one that all training images trained.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as lw from 'layerwise';
import { makeIdentity, Scale, sequence } from './network.mjs';

const SIDE = 32;
const RECORD = 1 + 3 * SIDE * SIDE;
const HELD_OUT = 5_000;
const CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'];
/** [12, 3, 2, 2]; `write-filters.mjs` makes them. @type {number[]} */
const FILTERS = JSON.parse(readFileSync(new URL('whitening-filters.json', import.meta.url), 'utf8'));

/** The whitening filters and their negatives: a convolution of 2x2 that stays. */
class Whitening extends lw.Module {
  constructor() {
    super();
    const filters = Float32Array.from([...FILTERS, ...FILTERS.map((value) => -value)]);
    this.weight = this.buffer('weight', lw.tensor(filters, { shape: [24, 3, 2, 2] }));
  }

  /** @param {lw.Tensor} input */
  forward(input) {
    return input.conv2d(this.weight, null);
  }
}

/** The identity for as many filters as there are inputs, PyTorch's default for the others. @param {lw.Generator} generator @returns {lw.Initializer} */
const identityInit = (generator) => (layer) => {
  lw.defaultInit(generator)(layer);
  makeIdentity(layer.weight);
};

/** @typedef {{ widths: number[], stages: number[], headConvolutions: number, headWidths: number[], headPool: number, scale: number }} Options */

/** @type {Options} */
const DEFAULTS = {
  widths: [64, 256, 256],
  stages: [2, 1],
  headConvolutions: 2,
  headWidths: [256],
  headPool: 3,
  scale: 1 / 8,
};

/**
 * Blocks of two convolutions, the first with a pooling, of `widths` channels; each stage has so many of them as `stages` says. The
 * head of a stage but the last has `headConvolutions` of `headWidths` channels, the first with a pooling.
 *
 * @type {lw.NetworkBuilder}
 */
export const network = ({ classes, inputShape, seed, options }) => {
  const { widths, stages, headConvolutions, headWidths, headPool, scale } = {
    ...DEFAULTS,
    .../** @type {Partial<Options>} */ (options),
  };
  let channels = 24;
  let side = SIDE - 1;
  let block = 0;
  const blocks = [];
  const heads = [];
  for (const [s, count] of stages.entries()) {
    const generator = lw.Generator.create({ seed: 1000 * seed + s });
    const init = identityInit(generator);
    /** @param {number} inChannels @param {number} outChannels */
    const conv = (inChannels, outChannels) =>
      new lw.Conv2d({ inChannels, outChannels, kernelSize: 3, padding: 1, bias: false, init });
    /** @param {number} features */
    const norm = (features) => [new lw.BatchNorm2d({ features }), new lw.ReLU({ inPlace: true })];
    const pool = () => new lw.MaxPool2d({ kernelSize: 2 });
    /** @type {lw.Module[]} */
    const modules = s === 0 ? [new Whitening(), new lw.ReLU({ inPlace: true })] : [];
    for (const width of widths.slice(block, block + count)) {
      modules.push(conv(channels, width), pool(), ...norm(width), conv(width, width), ...norm(width));
      channels = width;
      side = Math.floor(side / 2);
    }
    block += count;
    blocks.push(sequence(modules));
    /** @param {number} inFeatures */
    const linear = (inFeatures) => [
      new lw.Flatten(),
      new lw.Linear({ inFeatures, outFeatures: classes, init: lw.defaultInit(generator) }),
      new Scale(scale),
    ];
    if (s === stages.length - 1) heads.push(sequence([new lw.MaxPool2d({ kernelSize: side }), ...linear(channels)]));
    else {
      const width = headWidths[s] ?? channels;
      const opening = Array.from({ length: headConvolutions }, (_, i) =>
        i === 0 ? [conv(channels, width), pool(), ...norm(width)] : [conv(width, width), ...norm(width)],
      );
      const read = headConvolutions === 0 ? channels : width;
      const average = [new lw.AdaptiveAvgPool2d({ outputSize: headPool }), new lw.BatchNorm2d({ features: read })];
      heads.push(sequence([...opening.flat(), ...average, ...linear(headPool ** 2 * read)]));
    }
    generator.dispose();
  }
  return lw.layeredNetwork({ name: 'cifar10-fast', classes, inputShape, blocks, heads });
};

/** @type {lw.DataBuilder} */
export const data = ({ options: { folder, part = 'held' } }) => {
  /** @param {string} name */
  const read = (name) => readFileSync(join(String(folder), name));
  const training = Buffer.concat([1, 2, 3, 4, 5].map((n) => read(`data_batch_${n}.bin`)));
  const count = training.length / RECORD;
  const [train, test] =
    part === 'held'
      ? [imagesOf(training, 0, count - HELD_OUT), imagesOf(training, count - HELD_OUT, count)]
      : [imagesOf(training, 0, count), imagesOf(read('test_batch.bin'), 0, 10_000)];
  const normalization = { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] };
  return { title: `CIFAR-10, ${part}`, classes: CLASSES, imageShape: [3, SIDE, SIDE], train, test, normalization };
};

/** @param {Buffer} records @param {number} first @param {number} end @returns {lw.InMemoryImages} */
function imagesOf(records, first, end) {
  const length = RECORD - 1;
  const images = new Uint8Array((end - first) * length);
  const labels = Array.from({ length: end - first }, (_, i) => {
    const at = (first + i) * RECORD;
    images.set(records.subarray(at + 1, at + RECORD), i * length);
    return records[at] ?? 0;
  });
  return { images, labels };
}
