// Passes over prepared photographs, or loose ones, in a process of its own, which bench/shards.mjs starts: `shards-run.mjs LOCATION`, as
// of --data-dir. A message is an epoch, its answer how fast a pass over some of its images was.
import { readFileSync } from 'node:fs';
import { Draws } from '../dist/data/draws.js';
import { listImageNet } from '../dist/data/imagenet.js';
import { openImages } from '../dist/data/index.js';
import { scope } from '../dist/tensor/index.js';

/**
 * Images a second, and bytes from the disk for an image.
 * @typedef {{ rate: number, diskBytes: number }} Passed
 */

const BATCH = 64;
/** Images of a pass: others in each epoch, of all. */
const READ = 30 * BATCH;

/** Bytes that this process had the disk give. */
function bytesFromDisk() {
  const [, bytes] = /read_bytes: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8')) ?? [];
  return Number(bytes);
}

const { train } = await listImageNet({ dataDir: process.argv[2] ?? '' });

/**
 * As a run reads them: random resized crops, in an order that is drawn for each epoch.
 * @param {number} epoch
 * @returns {Promise<Passed>}
 */
async function pass(epoch) {
  const draws = new Draws({ seed: 1, layer: 0 });
  const order = draws.permutation(epoch, train.count).subarray(0, READ);
  const images = openImages(train, { device: 'cpu', randomResizedCrop: true });
  try {
    const before = bytesFromDisk();
    const start = performance.now();
    for await (const batch of images.trainingBatches({ epoch, order, batchSize: BATCH, firstStep: 0, draws })) {
      scope(() => void batch.tensors());
    }
    const seconds = (performance.now() - start) / 1000;
    return { rate: order.length / seconds, diskBytes: (bytesFromDisk() - before) / order.length };
  } finally {
    images.dispose();
  }
}

process.on('message', async (/** @type {number} */ epoch) => process.send?.(await pass(epoch)));
process.on('disconnect', () => process.exit());
process.send?.('ready');
