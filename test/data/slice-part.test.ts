import { expect, it } from 'vitest';
import { slicePart } from '../../lib/data/index.js';

const labels = Int32Array.of(0, 1, 0, 1);

it('images and vectors from one index to before another share the memory of the part', () => {
  const images = Uint8Array.from({ length: 4 * 6 }, (_, i) => i);
  const pixels = { images, labels, count: 4, channels: 1, height: 2, width: 3 };
  const two = slicePart(pixels, 1, 3)!;
  expect(two).toEqual({ ...pixels, images: images.slice(6, 18), labels: Int32Array.of(1, 0), count: 2 });
  expect((two as typeof pixels).images.buffer).toBe(images.buffer);
  const vectors = { vectors: Float32Array.from({ length: 12 }, (_, i) => i), labels, count: 4, vectorLength: 3 };
  expect(slicePart(vectors, 3)).toEqual({
    ...vectors,
    vectors: Float32Array.of(9, 10, 11),
    labels: Int32Array.of(1),
    count: 1,
  });
  expect(slicePart(vectors, 4)).toMatchObject({ count: 0 });
});

it('files keep their folders', () => {
  const files = {
    root: '/r',
    folders: ['a', 'b'],
    names: ['1', '2', '3', '4'],
    labels,
    count: 4,
    channels: 3,
    height: 8,
    width: 8,
    testResize: 8,
  } as const;
  expect(slicePart(files, 2, 9)).toEqual({ ...files, names: ['3', '4'], labels: Int32Array.of(0, 1), count: 2 });
});

it('a file of pixels cannot be taken apart', () => {
  const stored = { file: '/r/train.pixels', labels, count: 4, channels: 3, height: 8, width: 8 };
  expect(slicePart(stored, 0, 2)).toBe(null);
});
