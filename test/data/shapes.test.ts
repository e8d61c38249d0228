import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { DataError } from '../../lib/data/errors.js';
import { generateShapes, SHAPES_CLASSES } from '../../lib/data/shapes.js';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const digestOf = async (options: Parameters<typeof generateShapes>[0]) =>
  sha256((await generateShapes(options)).images);

describe('shapes', () => {
  // The code's own output when the set was designed: it shows that nothing has changed, not that it was right. A change of
  // these bits is a change of the data set, and of every figure measured on it.
  it('has the bits it was designed with', async () => {
    expect(await digestOf({ split: 'train', count: 100 })).toBe(
      '0e651c63f934573e08cc245921c5417ba4c1bf937426e67cee18c19a69988715',
    );
    expect(await digestOf({ split: 'test', count: 100 })).toBe(
      'f04577e7cd38c380c7c0744ab298ad36aa2094f4b19320469b033d47c326c0a7',
    );
  });

  it('draws each image from (seed, split, index) alone', async () => {
    const many = await generateShapes({ split: 'train', count: 50, seed: 7 });
    const few = await digestOf({ split: 'train', count: 20, seed: 7 });
    expect(few).toBe(sha256(many.images.subarray(0, 20 * 3 * 32 * 32)));
    for (const [split, seed] of [
      ['test', 7],
      ['train', 8],
      ['train', 7 + 2 ** 32],
    ] as const) {
      expect(await digestOf({ split, count: 20, seed })).not.toBe(few);
    }
  });

  it('has ten balanced classes of images [count, 3, 32, 32]', async () => {
    const { images, labels, ...rest } = await generateShapes({ split: 'test', count: 200 });
    expect(rest).toEqual({ count: 200, channels: 3, height: 32, width: 32 });
    expect(images).toHaveLength(200 * 3 * 32 * 32);
    expect(new Set(SHAPES_CLASSES).size).toBe(10);
    for (let label = 0; label < 10; label++) expect(labels.filter((l) => l === label)).toHaveLength(20);
  });

  it('tells no class by its colours', async () => {
    const { images, labels, count } = await generateShapes({ split: 'train', count: 2000 });
    const plane = 32 * 32;
    const sums = Array.from({ length: 10 }, () => [0, 0, 0]);
    for (let i = 0; i < count; i++) {
      for (let channel = 0; channel < 3; channel++) {
        const start = (i * 3 + channel) * plane;
        const pixels = images.subarray(start, start + plane);
        sums[labels[i]!]![channel]! += pixels.reduce((sum, pixel) => sum + pixel, 0) / plane;
      }
    }
    // 200 images a class, each mean of an image with a deviation below 60: four standard errors are 17.
    for (const sum of sums.flat()) expect(Math.abs(sum / 200 - 127.5)).toBeLessThan(17);
  });

  it.each([0, -1, 1.5, Number.NaN])('refuses %s images', async (count) => {
    await expect(generateShapes({ split: 'train', count })).rejects.toBeInstanceOf(DataError);
  });
});
