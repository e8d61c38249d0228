// A signal that comes while a data set is being made, read or identified stops that, whatever it is at.
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkDataset } from '../../lib/data/check.js';
import { readCifar10 } from '../../lib/data/cifar10.js';
import { loadDataset } from '../../lib/data/dataset.js';
import { identifyDataset } from '../../lib/data/identity.js';
import type { Dataset } from '../../lib/data/labelled-images.js';
import { BATCHES, writeBinary, writePython } from './cifar10-files.js';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-cancelling-'));
  await writeBinary(join(dir, 'binary'), 3);
  await writePython(join(dir, 'python'), 3);
});
afterAll(() => rm(dir, { recursive: true }));

/** Aborted as soon as whoever is working leaves the thread to the event loop. */
function abortedSoon(): AbortSignal {
  const controller = new AbortController();
  setImmediate(() => controller.abort());
  return controller.signal;
}

/** A data set whose parts are the same; `count` images of 32 x 32 pixels, all of one class. */
function dataset(part: Dataset['train']): Dataset {
  return { name: 'x', title: 'x', classes: ['a'], train: part, test: part, normalization: { mean: [], std: [] } };
}

const COUNT = 20_000;
const inMemory = (): Dataset =>
  dataset({
    ...{ images: new Uint8Array(COUNT * 3072), labels: new Uint8Array(COUNT), count: COUNT },
    ...{ channels: 3, height: 32, width: 32 },
  });
const onDisk = (): Dataset =>
  dataset({
    ...{ root: dir, folders: ['.'], names: Array(COUNT).fill('none.png'), labels: new Uint8Array(COUNT) },
    ...{ count: COUNT, channels: 3 as const, height: 32, width: 32, testResize: 32 },
  });

it.each<[string, (signal: AbortSignal) => Promise<unknown>]>([
  ['drawing shapes', (signal) => loadDataset({ name: 'shapes', trainLimit: 1000, testLimit: 1000, signal })],
  ['reading CIFAR-10', (signal) => readCifar10({ dataDir: join(dir, 'binary'), recordsPerBatch: 3, signal })],
  ['reading its pickles', (signal) => readCifar10({ dataDir: join(dir, 'python'), recordsPerBatch: 3, signal })],
  ['identifying images in memory', (signal) => identifyDataset(inMemory(), { signal })],
  ['identifying image files', (signal) => identifyDataset(onDisk(), { signal })],
])('%s', async (_, work) => {
  await expect(work(abortedSoon())).rejects.toMatchObject({ name: 'DataError', code: 'DATA_CANCELLED' });
});

it('checking CIFAR-10', async () => {
  // Of the official size, but with holes in place of images, which are as many black airplanes.
  const dataDir = join(dir, 'whole');
  await mkdir(dataDir);
  for (const name of BATCHES) {
    await writeFile(join(dataDir, `${name}.bin`), '');
    await truncate(join(dataDir, `${name}.bin`), 10_000 * 3073);
  }
  await expect(checkDataset({ name: 'cifar10', dataDir, signal: abortedSoon() })).rejects.toMatchObject({
    code: 'DATA_CANCELLED',
    message: 'checking the data set was cancelled',
  });
});
