import { expect, it } from 'vitest';
import { DeviceImages } from '../../lib/data/batches.js';
import { Draws, type ImageBatch } from '../../lib/data/index.js';
import { memoryStats, scope } from '../../lib/tensor/index.js';

const source = (labels: Uint8Array | Int32Array) => ({
  images: Uint8Array.from({ length: labels.length * 12 }, (_, i) => i),
  labels,
  count: labels.length,
  channels: 3,
  height: 2,
  width: 2,
});
const image = (i: number): number[] => Array.from({ length: 12 }, (_, p) => 12 * i + p);

it('gives the images and labels of the indices asked for, in their order', () => {
  const images = new DeviceImages(source(Int32Array.of(7, 300, 2, 9)), 'cpu');
  scope(() => {
    const batch = images.batch(Int32Array.of(3, 1, 1));
    expect(batch.images.dtype).toBe('uint8');
    expect(batch.images.shape).toEqual([3, 3, 2, 2]);
    expect([...batch.images.toTypedArray()]).toEqual([...image(3), ...image(1), ...image(1)]);
    expect(batch.labels.dtype).toBe('int64');
    expect([...batch.labels.toTypedArray()]).toEqual([9n, 300n, 300n]);
  });
  images.dispose();
});

it('gives slices in order, the last one shorter', () => {
  const images = new DeviceImages(source(Uint8Array.of(4, 5, 6)), 'cpu');
  scope(() => {
    const last = images.slice(2, 5);
    expect([...last.images.toTypedArray()]).toEqual(image(2));
    expect([...last.labels.toTypedArray()]).toEqual([6n]);
  });
  images.dispose();
});

it('does not share memory with what it was made of, and lives until it is disposed', () => {
  const before = memoryStats();
  const given = source(Uint8Array.of(1, 2));
  const images = scope(() => new DeviceImages(given, 'cpu'));
  given.images.fill(0);
  scope(() => expect([...images.slice(1, 1).images.toTypedArray()]).toEqual(image(1)));
  images.dispose();
  expect(memoryStats()).toEqual(before);
});

it('refuses a index that is not there', () => {
  const images = new DeviceImages(source(Uint8Array.of(1, 2)), 'cpu');
  expect(() => scope(() => images.batch(Int32Array.of(2)))).toThrow(expect.objectContaining({ name: 'TensorError' }));
  images.dispose();
});

it('gives the batches of a pass from a step on, and all images in order', async () => {
  const images = new DeviceImages(source(Uint8Array.of(4, 5, 6, 7, 8)), 'cpu');
  const draws = new Draws({ seed: 0 });
  const order = Int32Array.of(4, 2, 0, 1, 3);
  const seen: { indices: number[]; labels: number[] }[] = [];
  const note = (batch: ImageBatch): void =>
    scope(() => {
      const { images: pixels, labels } = batch.tensors();
      expect([...pixels.toTypedArray()]).toEqual([...batch.indices].flatMap(image));
      seen.push({ indices: [...batch.indices], labels: Array.from(labels.toTypedArray(), Number) });
    });
  for await (const batch of images.trainingBatches({ epoch: 0, order, batchSize: 2, firstStep: 1, draws })) note(batch);
  expect(seen.splice(0)).toEqual([
    { indices: [0, 1], labels: [4, 5] },
    { indices: [3], labels: [7] },
  ]);
  for await (const batch of images.batches(3)) note(batch);
  expect(seen).toEqual([
    { indices: [0, 1, 2], labels: [4, 5, 6] },
    { indices: [3, 4], labels: [7, 8] },
  ]);
  images.dispose();
});
