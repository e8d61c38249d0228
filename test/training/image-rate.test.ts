// The rate at which image files are read, as a plan finds it.
import { writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadDataset } from '../../lib/data/index.js';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { decodingThreads, findTurboJpeg } from '../../lib/tensor/index.js';
import { measureImageRate } from '../../lib/training/image-rate.js';
import { gradient, save } from '../data/images.js';
import { temporaryFolder } from './runs.js';

const at = temporaryFolder();
const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'imagenet', onCuda: false }), {
  dataset: { imageSize: 32 },
});

const load = (folder: string) => loadDataset({ name: 'imagenet', dataDir: at(folder), imageSize: 32 });

beforeAll(async () => {
  for (const folder of ['set', 'damaged']) {
    for (let i = 0; i < 10; i++) {
      const image = gradient(300, 200, { step: 0.5, blue: 20 * i }).jpeg();
      await save(at('.'), `${folder}/train/${i % 2 === 0 ? 'a' : 'b'}/${i}.jpg`, image);
    }
    for (const name of ['a', 'b']) await save(at('.'), `${folder}/val/${name}/1.jpg`, gradient(40, 50).jpeg());
  }
});

describe('the rate of images', () => {
  it('is that of training images from files, for some seconds', async () => {
    const { train } = await load('set');
    const start = performance.now();
    const rate = await measureImageRate(train, recipe);
    const seconds = (performance.now() - start) / 1000;
    const { imagesPerSecond, imagesTimed, arePacked, threads } = rate!;
    const timed = imagesTimed / imagesPerSecond;
    expect(timed).toBeGreaterThan(3);
    expect(timed).toBeLessThan(seconds);
    // Of few images some are read several times.
    expect(imagesTimed).toBeGreaterThan(10);
    expect([arePacked, threads]).toEqual([false, findTurboJpeg() === null ? null : decodingThreads()]);
  });

  it('fails as the training would', async () => {
    await writeFile(at('damaged/train/a/0.jpg'), 'no image');
    const { train } = await load('damaged');
    await expect(measureImageRate(train, recipe)).rejects.toMatchObject({
      name: 'DataError',
      path: at('damaged/train/a/0.jpg'),
    });
  });

  it('is none of images in memory', async () => {
    const { train } = await loadDataset({ name: 'shapes', trainLimit: 4, testLimit: 4 });
    expect(await measureImageRate(train, recipe)).toBe(null);
  });
});
