import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Sharp } from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeRegion, readImage } from '../../lib/data/image-file.js';
import { gradient, type Picture, plain, save, turned } from './images.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-image-'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('readImage', () => {
  it('scales the shorter side and cuts out the centre', async () => {
    // Thirds of red, green and blue across 90 x 30: the centre is green.
    const third = (colour: Picture['colour']) => plain({ width: 30, height: 30, colour }).png().toBuffer();
    const file = await save(
      dir,
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
    const file = await save(dir, name, convert(plain({ colour: grey })));
    const pixels = await readImage(file, 8);
    expect(pixels).toHaveLength(192);
    // Inks have no exact inverse: CMYK comes back a little lighter.
    for (const value of pixels) expect(Math.abs(value - 128)).toBeLessThanOrEqual(name === 'c.jpg' ? 16 : 6);
  });

  it('does not apply an embedded colour profile', async () => {
    const file = await save(dir, 'p3.png', plain({ colour: { r: 200, g: 10, b: 30 } }).withIccProfile('p3'));
    const pixels = await readImage(file, 1);
    // What the file holds: the colour in Display P3's primaries, by its matrix from linear sRGB.
    for (const [channel, value] of [183, 41, 41].entries())
      expect(Math.abs(pixels[channel]! - value)).toBeLessThanOrEqual(3);
  });

  it('refuses a file that is not there', async () => {
    await expect(readImage(join(dir, 'none.png'), 8)).rejects.toMatchObject({ code: 'DATA_NOT_FOUND' });
  });

  it('scales the shorter side to `resize` where told, before the centre is cut out', async () => {
    const file = await save(dir, 'wide.png', gradient(400, 200));
    const pixels = await readImage(file, 60, { resize: 100 });
    // A pixel is two of the file; the centre is 200, 100.
    for (const at of [0, 30, 59]) {
      expect(Math.abs(pixels[30 * 60 + at]! - 0.5 * (200 + 2 * (at + 0.5 - 30)))).toBeLessThan(1.5);
      expect(Math.abs(pixels[3600 + at * 60 + 30]! - 0.5 * (100 + 2 * (at + 0.5 - 30)))).toBeLessThan(1.5);
    }
    expect(await readImage(file, 60, { resize: 60 })).toEqual(await readImage(file, 60));
    await expect(readImage(file, 60, { resize: 59 })).rejects.toThrow(
      'resize must be at least the image size, 60 pixels, got 59',
    );
    await expect(readImage(file, 60, { resize: 60.5 })).rejects.toMatchObject({ code: 'DATA_ARGUMENT' });
  });
});

describe('a region of an image', () => {
  it.each([1, 3, 6, 8] as const)('is that of the upright image, EXIF orientation %s', async (orientation) => {
    const file = await save(dir, 'turned.jpg', await turned(gradient(400, 300), orientation));
    const seen: number[][] = [];
    const pixels = await decodeRegion(file, 32, (width, height) => {
      seen.push([width, height]);
      return { left: 100, top: 30, width: 160, height: 96 };
    });
    expect(seen).toEqual([[400, 300]]);
    expect(pixels).toHaveLength(32 * 32 * 3);
    for (const row of [0, 13, 31]) {
      for (const column of [0, 20, 31]) {
        const [red, green] = pixels.subarray(3 * (row * 32 + column));
        expect(Math.abs(red! - 0.5 * (99.5 + 5 * (column + 0.5)))).toBeLessThan(2);
        expect(Math.abs(green! - 0.5 * (29.5 + 3 * (row + 0.5)))).toBeLessThan(2);
      }
    }
  });

  it.each([
    ['greyscale', (image: Sharp) => image.toColourspace('b-w')],
    ['CMYK', (image: Sharp) => image.toColourspace('cmyk')],
  ])('is RGB of a %s JPEG', async (_kind, convert) => {
    const file = await save(dir, 'x.jpg', convert(plain({ colour: { r: 128, g: 128, b: 128 } })));
    const pixels = await decodeRegion(file, 8, () => ({ left: 3, top: 5, width: 20, height: 9 }));
    expect(pixels).toHaveLength(192);
    for (const value of pixels) expect(Math.abs(value - 128)).toBeLessThanOrEqual(16);
  });

  it('may be larger or smaller than what it is made into, down to one pixel', async () => {
    const file = await save(dir, 'small.png', gradient(68, 121, { step: 1 }));
    const pixels = await decodeRegion(file, 16, () => ({ left: 9, top: 77, width: 1, height: 1 }));
    expect(pixels).toEqual(Buffer.from(Array.from({ length: 256 }, () => [9, 77, 0]).flat()));
  });
});
