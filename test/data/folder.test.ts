import { mkdir, mkdtemp, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type LoadDatasetOptions, loadDataset } from '../../lib/data/dataset.js';
import { readImage } from '../../lib/data/image-file.js';
import { availableMemory } from '../../scripts/support/limits.mjs';
import { gradient, plain, save } from './images.js';

vi.mock(import('../../scripts/support/limits.mjs'), async (original) => {
  const limits = await original();
  return { ...limits, availableMemory: vi.fn(limits.availableMemory) };
});

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-folder-'));
});
afterEach(() => rm(dir, { recursive: true }));

const RED = { r: 200, g: 10, b: 30 };
const BLUE = { r: 5, g: 60, b: 220 };

/** train/{apple,pear} with two and one images, test/ with one each. */
async function saveSet(test = 'test'): Promise<void> {
  await save(dir, 'train/pear/1.png', plain({ colour: BLUE }));
  await save(dir, 'train/apple/1.png', plain({ colour: RED }));
  await save(dir, 'train/apple/2.PNG', plain({ colour: BLUE }));
  await save(dir, `${test}/pear/x.png`, plain({ colour: RED }));
  await save(dir, `${test}/apple/x.png`, plain({ colour: BLUE }));
}

const load = (options: Omit<LoadDatasetOptions, 'name' | 'dataDir'> = {}) =>
  loadDataset({ name: 'folder', dataDir: dir, ...options });

describe('a folder of images', () => {
  it('gives the classes by name and the images turn by turn over them', async () => {
    await saveSet();
    const { classes, train, test } = await load({ imageSize: 16 });
    expect(classes).toEqual(['apple', 'pear']);
    expect(train).toMatchObject({ count: 3, channels: 3, height: 16, width: 16 });
    expect(Array.from(train.labels)).toEqual([0, 1, 0]);
    expect(Array.from(test.labels)).toEqual([0, 1]);
    const plane = 16 * 16;
    const colours = [0, 1, 2].map((i) => [0, 1, 2].map((channel) => train.images[(3 * i + channel) * plane]));
    expect(colours).toEqual([Object.values(RED), Object.values(BLUE), Object.values(BLUE)]);
  });

  it('is 32 pixels a side by default, and limited to the first images', async () => {
    await saveSet();
    const { train, test } = await load({ trainLimit: 2 });
    expect(train).toMatchObject({ count: 2, height: 32, width: 32 });
    expect(Array.from(train.labels)).toEqual([0, 1]);
    expect(test.count).toBe(2);
  });

  it('takes val/ where there is no test/', async () => {
    await saveSet('val');
    expect((await load()).test.count).toBe(2);
  });

  it('passes over hidden files', async () => {
    await saveSet();
    await writeFile(join(dir, 'train/apple/.DS_Store'), 'x');
    await writeFile(join(dir, 'train/.hidden'), 'x');
    expect((await load()).train.count).toBe(3);
  });

  it('refuses a damaged image by its path', async () => {
    await saveSet();
    const file = await save(
      dir,
      'train/pear/2.jpg',
      sharp({
        create: {
          width: 99,
          height: 99,
          channels: 3,
          background: RED,
          noise: { type: 'gaussian', mean: 128, sigma: 60 },
        },
      }),
    );
    await truncate(file, 3000);
    await expect(load()).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringContaining(file) });
    await writeFile(file, 'no image at all');
    await expect(load()).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringContaining(file) });
  });

  it('gives images of unequal sides, the test images scaled to cover more where told', async () => {
    for (const part of ['train', 'test']) {
      await save(dir, `${part}/apple/1.png`, gradient(90, 70, { step: 2 }));
      await save(dir, `${part}/pear/1.png`, gradient(50, 80, { step: 3, blue: 99 }));
    }
    const { train, test } = await load({ imageSize: [12, 20], testResize: 15 });
    expect([train, test]).toMatchObject(Array(2).fill({ count: 2, channels: 3, height: 12, width: 20 }));
    const [apple, pear] = [join(dir, 'train/apple/1.png'), join(dir, 'train/pear/1.png')];
    expect([...train.images]).toEqual([...(await readImage(apple, [12, 20])), ...(await readImage(pear, [12, 20]))]);
    const options = { resize: 15 };
    expect([...test.images]).toEqual([
      ...(await readImage(apple, [12, 20], options)),
      ...(await readImage(pear, [12, 20], options)),
    ]);
  });

  describe('in grey', () => {
    const grey = (value: number) => plain({ colour: { r: value, g: value, b: value } }).toColourspace('b-w');
    beforeEach(async () => {
      await save(dir, 'train/apple/1.png', grey(51));
      await save(dir, 'train/apple/2.png', grey(102));
      await save(dir, 'train/pear/1.png', grey(204));
      for (const name of ['apple', 'pear']) await save(dir, `test/${name}/1.png`, grey(255));
    });
    /** Of 0.2, 0.4 and 0.8: 7/15, and the root of 0.28 - 49/225. */
    const MEAN = 7 / 15;
    const STD = Math.sqrt(0.84 / 3 - MEAN ** 2);

    it.each(['folder', 'imagenet'] as const)(
      'is normalised with mean and deviation of the training images: %s',
      async (name) => {
        const asked = { name, dataDir: dir, channels: 1, imageSize: [6, 9] } as const;
        const { train, test, normalization } = await loadDataset(asked);
        expect([train, test]).toMatchObject(Array(2).fill({ channels: 1, height: 6, width: 9 }));
        expect(normalization.mean).toEqual([expect.closeTo(MEAN, 12)]);
        expect(normalization.std).toEqual([expect.closeTo(STD, 12)]);
      },
    );

    it('has a byte a pixel', async () => {
      const { train } = await load({ channels: 1, imageSize: [6, 9] });
      expect([...train.images]).toEqual([51, 204, 102].flatMap((value) => Array(54).fill(value)));
    });

    it('takes a normalisation that is given, and needs it where the training images are not read', async () => {
      const normalization = { mean: [0.5], std: [0.25] };
      const { train, test, ...others } = await load({ channels: 1, testOnly: true, normalization });
      expect([train.count, test.count, others.normalization]).toEqual([0, 2, normalization]);
      await expect(load({ channels: 1, testOnly: true })).rejects.toMatchObject({
        code: 'DATA_ARGUMENT',
        message:
          'normalization: expected a mean and std for grey images whose training images are not read, got nothing',
      });
      await expect(load({ normalization })).rejects.toThrow(
        'normalization.mean: expected 3 numbers, one a channel, got [0.5]',
      );
    });

    it('takes a third of the memory', async () => {
      // 2 * 5 * 64^2 bytes are 0.0391 MiB in grey.
      vi.mocked(availableMemory).mockReturnValueOnce(2 ** 16);
      expect((await load({ channels: 1, imageSize: 64 })).train.count).toBe(3);
      vi.mocked(availableMemory).mockReturnValueOnce(2 ** 16);
      await expect(load({ imageSize: 64 })).rejects.toThrow('3 training and 2 test images of 64 x 64 pixels take');
    });
  });

  it('refuses files of another kind by name', async () => {
    await saveSet();
    await writeFile(join(dir, 'train/apple/notes.txt'), 'x');
    await expect(load()).rejects.toMatchObject({
      code: 'DATA_UNSUPPORTED',
      message: expect.stringMatching(/notes\.txt is not read: expected \.jpg, \.jpeg, .*\.png or no extension/),
    });
  });

  it('refuses a file among the class folders', async () => {
    await saveSet();
    await writeFile(join(dir, 'train/labels.csv'), 'x');
    await expect(load()).rejects.toThrow(/labels\.csv is no folder/);
  });

  it('refuses what memory cannot hold before it is read, with the streamed way', async () => {
    for (let i = 0; i < 50; i++) {
      for (const part of ['train', 'test']) await mkdir(join(dir, part, 'a'), { recursive: true });
      // Empty: reading them would fail with another error.
      for (const part of ['train', 'test']) await writeFile(join(dir, part, 'a', `${i}.jpg`), '');
    }
    vi.mocked(availableMemory).mockReturnValueOnce(2 ** 20);
    // 2 * 100 * 3 * 64^2 bytes are 2.34 MiB.
    await expect(load({ imageSize: 64 })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: expect.stringMatching(
        /^50 training and 50 test images of 64 x 64 pixels take 0\.00229 GiB of memory .* may use 0\.000977 GiB: take --dataset imagenet/,
      ),
    });
    vi.mocked(availableMemory).mockReturnValueOnce(2 ** 20);
    await expect(load({ imageSize: 32 })).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  });

  it('refuses a class that one of the splits lacks', async () => {
    await saveSet();
    await rename(join(dir, 'test/pear'), join(dir, 'test/plum'));
    await expect(load()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/lacks.*'pear'/),
    });
    await mkdir(join(dir, 'test/pear'));
    await expect(load()).rejects.toThrow(/'plum', which .*train lacks/);
  });

  it('refuses missing and empty folders', async () => {
    await expect(load()).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringContaining('test/ (or val/)'),
    });
    await mkdir(join(dir, 'test'));
    await expect(load()).rejects.toThrow(/there is no folder .*train/);
    await mkdir(join(dir, 'train'));
    await expect(load()).rejects.toThrow(/train has no folders/);
    await mkdir(join(dir, 'train/apple'));
    await mkdir(join(dir, 'test/apple'));
    await expect(load()).rejects.toThrow(/apple holds no images/);
  });

  it('scales the shorter side of test images to testResize before their centre is cut out', async () => {
    await saveSet();
    // Of 40 pixels the outer 10 on each side are white: at 20 the cut of 8 shows none of them, at 8 it does.
    const framed = plain({ width: 20, height: 20, colour: RED }).extend({
      ...{ top: 10, bottom: 10, left: 10, right: 10 },
      background: { r: 255, g: 255, b: 255 },
    });
    for (const part of ['train', 'test']) await save(dir, `${part}/apple/0.png`, framed.clone());
    const { train, test } = await load({ imageSize: 8, testResize: 20 });
    expect([train.images[0], test.images[0]]).toEqual([255, RED.r]);
    expect(test).toMatchObject({ height: 8, width: 8 });
  });

  it('refuses image sizes out of range', async () => {
    await expect(load({ imageSize: 0 })).rejects.toMatchObject({ code: 'DATA_ARGUMENT' });
    await expect(load({ imageSize: 32, testResize: 31 })).rejects.toThrow(
      'testResize must be at least the image size, 32 pixels, got 31',
    );
  });
});
