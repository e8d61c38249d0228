// Photographs decoded in a process of their own, which bench/images.mjs starts: `images-run.mjs FOLDER`, a folder for each class. A
// message is a request, its answer images a second.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Draws } from '../dist/data/draws.js';
import { batchDraws, openImages, randomHorizontalFlip } from '../dist/data/index.js';
import { resolvePrecision } from '../dist/recipe/precision.js';
import { scope, setDecodingThreads, zeros } from '../dist/tensor/index.js';
import { stagedNetwork } from './ours.mjs';

/** @import { ImageBatch, ImageSource } from '../dist/data/index.js' */
/** @import { ImageFiles } from '../dist/data/labelled-images.js' */

/**
 * `decode`: so many passes over the photographs, mirrored by the decoder, or batch by batch afterwards, or not. `step`: so many training steps of a layer of VGG-11 of width 8, on photographs as they
 * are decoded, or on one batch of them.
 * @typedef {{ measure: 'decode', kind: 'train' | 'evaluate', threads: number, passes: number, flip?: 'decoder' | 'after' }} DecodeRequest
 * @typedef {{ measure: 'step', layer: number, steps: number, isDecoding: boolean }} StepRequest
 */
/** @typedef {{ rate: number, peakMegabytes: number }} Decoded images a second, and the most resident memory so far */

const BATCH = 64;
const SIZE = 224;

/**
 * @param {string} root
 * @returns {ImageFiles}
 */
function photographsIn(root) {
  const folders = readdirSync(root).sort();
  const found = folders.flatMap((folder, label) => readdirSync(join(root, folder)).map((name) => ({ label, name })));
  return {
    ...{ root, folders, count: found.length, channels: 3, height: SIZE, width: SIZE, testResize: 256 },
    names: found.map(({ name }) => name),
    labels: Int32Array.from(found, ({ label }) => label),
  };
}

/**
 * Batches of the photographs, again and again.
 * @param {ImageFiles} files
 * @param {{ images: ImageSource, count: number }} options
 */
function batchesOf(files, { images, count }) {
  const order = Int32Array.from({ length: count }, (_, i) => i % files.count);
  return images.trainingBatches({ epoch: 0, order, batchSize: BATCH, firstStep: 0, draws });
}

const draws = new Draws({ seed: 1, layer: 0 });
const flip = randomHorizontalFlip();

/**
 * @param {ImageFiles} files
 * @param {DecodeRequest} request
 */
async function decode(files, { kind, threads, passes, flip: flipped }) {
  setDecodingThreads(threads);
  const horizontalFlip = flipped === 'decoder';
  const images = openImages(files, { device: 'cpu', randomResizedCrop: kind === 'train', horizontalFlip });
  /** @param {ImageBatch} batch */
  const take = (batch) => {
    const { images } = batch.tensors();
    if (flipped === 'after') flip.apply(images, batchDraws(draws, 0, batch.indices));
  };
  try {
    const count = files.count * passes;
    const start = performance.now();
    for await (const batch of batchesOf(files, { images, count })) scope(() => take(batch));
    return (1000 * count) / (performance.now() - start);
  } finally {
    images.dispose();
  }
}

/**
 * @param {ImageFiles} files
 * @param {StepRequest} request
 */
async function step(files, { layer, steps, isDecoding }) {
  const device = 'cpu';
  const precision = resolvePrecision('auto', device);
  const staged = stagedNetwork({ network: 'vgg11', size: SIZE, batch: BATCH, precision, device, width: 8, layer });
  const started = staged.start();
  const images = openImages(files, { device, randomResizedCrop: true });
  try {
    let done = 0;
    let start = 0;
    /** @param {ImageBatch} batch */
    const stepOn = (batch) => {
      // The first steps make what the others use again.
      if (done === WARM_STEPS) start = performance.now();
      const give = () => ({ images: batch.tensors().images, labels: zeros([BATCH], { dtype: 'int64' }) });
      started.step(give, batch.indices);
      done++;
    };
    for await (const batch of batchesOf(files, { images, count: BATCH * (isDecoding ? steps + WARM_STEPS : 1) })) {
      const times = isDecoding ? 1 : steps + WARM_STEPS;
      for (let i = 0; i < times; i++) stepOn(batch);
    }
    return (1000 * BATCH * steps) / (performance.now() - start);
  } finally {
    images.dispose();
    started.dispose();
    staged.dispose();
  }
}

const WARM_STEPS = 3;

if (process.send !== undefined) {
  const files = photographsIn(process.argv[2]);
  process.on('message', async (/** @type {DecodeRequest | StepRequest} */ request) => {
    const rate = await (request.measure === 'decode' ? decode(files, request) : step(files, request));
    const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    process.send?.({ rate, peakMegabytes: Number(kilobytes) / 1024 });
  });
  process.send('ready');
}
