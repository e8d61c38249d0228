import { describe, expect, it } from 'vitest';
import { loadDataset, take } from '../../lib/data/dataset.js';
import type { DatasetName } from '../../lib/data/index.js';
import { generateShapes } from '../../lib/data/shapes.js';

describe('loadDataset', () => {
  it('makes shapes of the sizes asked for', async () => {
    const dataset = await loadDataset({ name: 'shapes', trainLimit: 30, testLimit: 20 });
    expect(dataset).toMatchObject({ name: 'shapes', title: 'shapes', train: { count: 30 }, test: { count: 20 } });
    expect(dataset.classes).toContain('striped disc');
    expect(dataset.train.images).toEqual((await generateShapes({ split: 'train', count: 30 })).images);
  });

  it.each([
    [
      'mnist',
      { code: 'DATA_ARGUMENT', message: "unknown data set 'mnist': expected shapes, cifar10, folder, imagenet" },
    ],
    ['imagenet', { code: 'DATA_ARGUMENT', message: expect.stringContaining('--data-dir') }],
    ['cifar10', { code: 'DATA_ARGUMENT', message: expect.stringContaining('--data-dir') }],
    ['folder', { code: 'DATA_ARGUMENT', message: expect.stringContaining('--data-dir') }],
  ])('refuses %s in words', async (name, expected) => {
    await expect(loadDataset({ name: name as DatasetName })).rejects.toMatchObject(expected);
  });

  it('refuses limits below 1, other image sizes and an aborted signal', async () => {
    await expect(loadDataset({ name: 'shapes', trainLimit: 0 })).rejects.toThrow('trainLimit');
    await expect(loadDataset({ name: 'shapes', testLimit: 1.5 })).rejects.toThrow('testLimit');
    await expect(loadDataset({ name: 'shapes', imageSize: 64 })).rejects.toThrow('32 x 32');
    for (const name of ['shapes', 'cifar10'] as const) {
      await expect(loadDataset({ name, testResize: 36 })).rejects.toThrow(
        `${name} has images of 32 x 32 only: expected no testResize, got 36`,
      );
    }
    await expect(loadDataset({ name: 'shapes', trainLimit: 1e12 })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: expect.stringMatching(/^1000000000000 training and 2000 test images .* of memory/),
    });
    await expect(loadDataset({ name: 'folder', dataDir: 'x', onBadImage: 'ignore' as 'skip' })).rejects.toThrow(
      "onBadImage must be 'fail' or 'skip', got 'ignore'",
    );
    const cancelled = loadDataset({ name: 'shapes', signal: AbortSignal.abort() });
    await expect(cancelled).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
  });
});

describe('take', async () => {
  const images = await generateShapes({ split: 'train', count: 5 });

  it('gives the first n without copying', () => {
    const two = take(images, 2);
    expect(two).toMatchObject({ count: 2, channels: 3, height: 32, width: 32 });
    expect(two.images).toEqual(images.images.subarray(0, 2 * 3072));
    expect(two.images.buffer).toBe(images.images.buffer);
    expect(Array.from(two.labels)).toEqual([0, 1]);
  });

  it('gives all where there are no more', () => {
    expect(take(images, 6)).toEqual(images);
  });

  it.each([0, -1, 0.5])('refuses n = %s', (n) => {
    expect(() => take(images, n)).toThrow('n must be an integer from 1');
  });
});

describe('options that a data set does not have', () => {
  it.each([
    [
      'shapes',
      { dataDir: '/data\x1b' },
      'shapes is drawn by the program and takes no directory: expected no dataDir (--data-dir), got /data\\x1b',
    ],
    ['shapes', { maxPixels: 5 }, 'shapes has no image files: expected no maxPixels (--max-pixels), got 5'],
    [
      'cifar10',
      { dataDir: 'x', maxPixels: 5 },
      'cifar10 has no image files: expected no maxPixels (--max-pixels), got 5',
    ],
    [
      'cifar10',
      { dataDir: 'x', onBadImage: 'skip' },
      "cifar10 has no image files: expected onBadImage 'fail' or none, got 'skip'",
    ],
    [
      'shapes',
      { channels: 1 },
      'shapes has no image files, which could be made grey: expected channels 3 (--channels) or none, got 1',
    ],
    ['shapes', { imageSize: [32, 48] }, 'shapes has images of 32 x 32 only, got imageSize 32 x 48'],
    [
      'cifar10',
      { dataDir: 'x', normalization: { mean: [0], std: [1] } },
      'cifar10 has a normalisation of its own: expected no normalization, got {"mean":[0],"std":[1]}',
    ],
    ['cifar10', { dataDir: 'x', seed: 1 }, 'cifar10 is read from files: expected no seed, got 1'],
    ['folder', { dataDir: 'x', seed: 0 }, 'folder is read from files: expected no seed, got 0'],
  ] as const)('are refused, not passed over: %s %j', async (name, options, message) => {
    await expect(loadDataset({ name, ...options })).rejects.toMatchObject({ code: 'DATA_ARGUMENT', message });
  });

  it('do not keep a data set from values that every recipe has', async () => {
    const dataset = await loadDataset({
      name: 'shapes',
      testLimit: 3,
      trainLimit: 3,
      imageSize: [32, 32],
      channels: 3,
      onBadImage: 'fail',
    });
    expect(dataset.test.count).toBe(3);
  });
});
