import { mkdir, mkdtemp, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadDataset } from '../../lib/data/dataset.js';
import { readImage } from '../../lib/data/folder.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-folder-'));
});
afterEach(() => rm(dir, { recursive: true }));

interface Picture {
  width?: number;
  height?: number;
  colour: { r: number; g: number; b: number };
}

const plain = ({ width = 40, height = 40, colour }: Picture) =>
  sharp({ create: { width, height, channels: 3, background: colour } });

async function save(path: string, image: Sharp): Promise<string> {
  const file = join(dir, path);
  await mkdir(dirname(file), { recursive: true });
  await image.toFile(file);
  return file;
}

const RED = { r: 200, g: 10, b: 30 };
const BLUE = { r: 5, g: 60, b: 220 };

/** train/{apple,pear} with two and one images, test/ with one each. */
async function saveSet(test = 'test'): Promise<void> {
  await save('train/pear/1.png', plain({ colour: BLUE }));
  await save('train/apple/1.png', plain({ colour: RED }));
  await save('train/apple/2.PNG', plain({ colour: BLUE }));
  await save(`${test}/pear/x.png`, plain({ colour: RED }));
  await save(`${test}/apple/x.png`, plain({ colour: BLUE }));
}

const load = (options: { imageSize?: number; trainLimit?: number; signal?: AbortSignal } = {}) =>
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

  it('refuses files of another kind by name', async () => {
    await saveSet();
    await writeFile(join(dir, 'train/apple/notes.txt'), 'x');
    await expect(load()).rejects.toMatchObject({
      code: 'DATA_UNSUPPORTED',
      message: expect.stringMatching(/notes\.txt is not read: expected \.jpg, \.jpeg, \.png/),
    });
  });

  it('refuses a file among the class folders', async () => {
    await saveSet();
    await writeFile(join(dir, 'train/labels.csv'), 'x');
    await expect(load()).rejects.toThrow(/labels\.csv is no folder/);
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

  it('refuses image sizes out of range', async () => {
    await expect(load({ imageSize: 0 })).rejects.toMatchObject({ code: 'DATA_ARGUMENT' });
  });
});

describe('readImage', () => {
  it('scales the shorter side and cuts out the centre', async () => {
    // Thirds of red, green and blue across 90 x 30: the centre is green.
    const third = (colour: Picture['colour']) => plain({ width: 30, height: 30, colour }).png().toBuffer();
    const file = await save(
      'thirds.png',
      plain({ width: 90, height: 30, colour: { r: 0, g: 255, b: 0 } }).composite([
        { input: await third({ r: 255, g: 0, b: 0 }), left: 0, top: 0 },
        { input: await third({ r: 0, g: 0, b: 255 }), left: 60, top: 0 },
      ]),
    );
    const pixels = await readImage(file, 10);
    expect(pixels).toHaveLength(300);
    const at = (channel: number, x: number) => pixels[channel * 100 + 50 + x];
    expect([at(0, 5), at(1, 5), at(2, 5)]).toEqual([0, 255, 0]);
    expect([at(0, 2), at(1, 2), at(2, 7)]).toEqual([0, 255, 0]);
  });

  it.each([
    ['greyscale PNG', 'g.png', (image: Sharp) => image.toColourspace('b-w')],
    ['greyscale JPEG', 'g.jpg', (image: Sharp) => image.toColourspace('b-w')],
    ['RGBA PNG', 'a.png', (image: Sharp) => image.ensureAlpha(0.5)],
    ['greyscale PNG with alpha', 'ga.png', (image: Sharp) => image.toColourspace('b-w').ensureAlpha(0.5)],
    ['16-bit PNG', 'deep.png', (image: Sharp) => image.toColourspace('rgb16')],
    ['palette PNG', 'p.png', (image: Sharp) => image.png({ palette: true })],
    ['CMYK JPEG', 'c.jpg', (image: Sharp) => image.toColourspace('cmyk')],
  ])('makes RGB of a %s', async (_kind, name, convert) => {
    const grey = { r: 128, g: 128, b: 128 };
    const file = await save(name, convert(plain({ colour: grey })));
    const pixels = await readImage(file, 8);
    expect(pixels).toHaveLength(192);
    // Inks have no exact inverse: CMYK comes back a little lighter.
    for (const value of pixels) expect(Math.abs(value - 128)).toBeLessThanOrEqual(name === 'c.jpg' ? 16 : 6);
  });

  it('refuses a file that is not there', async () => {
    await expect(readImage(join(dir, 'none.png'), 8)).rejects.toMatchObject({ code: 'DATA_NOT_FOUND' });
  });
});
