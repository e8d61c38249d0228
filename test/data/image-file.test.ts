import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeImage, decodeRegion, readImage } from '../../lib/data/image-file.js';
import type { FileShape } from '../../lib/data/image-size.js';
import { unprivileged } from '../support/unprivileged.js';
import { gradient, type Picture, plain, save, turned } from './images.js';
import { type PngKind, png, pngOf } from './png.js';

const square = (side: number): FileShape => ({ channels: 3, height: side, width: side });

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

describe('an image of unequal sides', () => {
  /** Red and green of a pixel say where it comes from: half of the column and of the row. */
  const placeAt = (pixels: Uint8Array, row: number, column: number): [row: number, column: number] => [
    2 * pixels[30 * 60 + row * 60 + column]!,
    2 * pixels[row * 60 + column]!,
  ];
  const expectPlaces = (pixels: Uint8Array, expected: (row: number, column: number) => [number, number]): void => {
    expect(pixels).toHaveLength(3 * 30 * 60);
    for (const [row, column] of [
      [0, 0],
      [0, 59],
      [15, 30],
      [29, 0],
      [29, 59],
    ] as const) {
      const [gotRow, gotColumn] = placeAt(pixels, row, column);
      const [wantedRow, wantedColumn] = expected(row, column);
      expect(Math.abs(gotRow - wantedRow), `row ${row}`).toBeLessThan(3);
      expect(Math.abs(gotColumn - wantedColumn), `column ${column}`).toBeLessThan(3);
    }
  };

  it.each([
    // Width and height of the file; how many of its pixels one becomes; the first row and column that are seen, by hand.
    { width: 400, height: 200, resize: undefined, step: 400 / 60, top: 0, left: 0 },
    // As tall as 50 x 100 scaled: the 30 x 60 in its middle are 120 x 240 of the file.
    { width: 400, height: 200, resize: 50, step: 4, top: 40, left: 80 },
    // Higher than the size asks: 100 x 150 covers 50 x 100.
    { width: 200, height: 300, resize: 50, step: 2, top: 120, left: 40 },
    // Wider: 166.67 x 50 covers it.
    { width: 500, height: 150, resize: 50, step: 3, top: 30, left: 160 },
  ])('covers what it is cut out of: $width x $height, resize $resize', async ({ resize, step, top, left, ...file }) => {
    const path = await save(dir, 'x.png', gradient(file.width, file.height));
    const pixels = await readImage(path, [30, 60], { resize });
    expectPlaces(pixels, (row, column) => [top + step * (row + 0.5) - 0.5, left + step * (column + 0.5) - 0.5]);
  });

  it('is scaled to height and width each by itself where a region is asked for', async () => {
    const file = await save(dir, 'x.png', gradient(400, 300));
    const region = { left: 100, top: 30, width: 240, height: 60 };
    const pixels = await decodeRegion(file, { channels: 3, height: 30, width: 60 }, () => region);
    const planes = Uint8Array.from({ length: 3 * 1800 }, (_, i) => pixels[3 * (i % 1800) + Math.floor(i / 1800)]!);
    expectPlaces(planes, (row, column) => [30 + 2 * (row + 0.5) - 0.5, 100 + 4 * (column + 0.5) - 0.5]);
  });

  it('is scaled and cut as torchvision does where its sides are equal: the longer side rounded down, halves to even', async () => {
    const file = await save(dir, 'x.jpg', gradient(90, 70, { step: 2, blue: 77 }));
    const options = { resize: 41 };
    expect(await readImage(file, [32, 32], options)).toEqual(await readImage(file, 32, options));
    // 52.7 and 41, of which 10 and 4.5 are left off.
    const scaled = sharp(file).resize(52, 41, { fit: 'fill', kernel: 'linear' });
    const cut = await scaled.extract({ left: 10, top: 4, width: 32, height: 32 }).raw().toBuffer();
    const pixels = await readImage(file, 32, options);
    const planes = Uint8Array.from({ length: 3072 }, (_, i) => cut[3 * (i % 1024) + Math.floor(i / 1024)]!);
    const worst = pixels.reduce((most, value, i) => Math.max(most, Math.abs(value - planes[i]!)), 0);
    expect(worst).toBeLessThanOrEqual(2);
  });
});

describe('grey', () => {
  it('is that of Pillow 12.3, convert("L")', async () => {
    const colours = [
      [255, 0, 0, 76],
      [0, 255, 0, 150],
      [0, 0, 255, 29],
      [200, 10, 30, 69],
      [10, 200, 250, 149],
      [3, 5, 1, 4],
      [255, 255, 255, 255],
      [0, 0, 0, 0],
    ] as const;
    for (const [r, g, b, grey] of colours) {
      const file = await save(dir, 'x.png', plain({ colour: { r, g, b } }));
      expect([...(await readImage(file, [4, 6], { channels: 1 }))]).toEqual(Array(24).fill(grey));
    }
  });

  it.each([0, 2] as const)('stays what it is, value by value: PNG of colour type %i', async (colourType) => {
    const file = join(dir, 'ramp.png');
    const ramp = png(16, 16, { bitDepth: 8, colourType }, (x, y) => Array(colourType === 0 ? 1 : 3).fill(16 * y + x));
    await writeFile(file, ramp);
    const pixels = await readImage(file, 16, { channels: 1 });
    const worst = Math.max(...pixels.map((value, i) => Math.abs(value - i)));
    expect(worst).toBe(0);
  });

  it.each([
    ['JPEG', 'g.jpg', (image: Sharp) => image.jpeg()],
    ['greyscale JPEG', 'g.jpg', (image: Sharp) => image.toColourspace('b-w')],
    ['RGBA PNG', 'a.png', (image: Sharp) => image.ensureAlpha(0.5)],
    ['greyscale PNG with alpha', 'ga.png', (image: Sharp) => image.toColourspace('b-w').ensureAlpha(0.5)],
    ['16-bit PNG', 'deep.png', (image: Sharp) => image.toColourspace('rgb16')],
    ['16-bit greyscale PNG', 'deep.png', (image: Sharp) => image.toColourspace('grey16')],
    ['palette PNG', 'p.png', (image: Sharp) => image.png({ palette: true })],
    ['CMYK JPEG', 'c.jpg', (image: Sharp) => image.toColourspace('cmyk')],
  ])('is made of a %s', async (_kind, name, convert) => {
    const file = await save(dir, name, convert(plain({ colour: { r: 128, g: 128, b: 128 } })));
    const grey: FileShape = { channels: 1, height: 8, width: 12 };
    for (const pixels of [
      await readImage(file, [8, 12], { channels: 1 }),
      await decodeRegion(file, grey, () => ({ left: 3, top: 5, width: 20, height: 9 })),
    ]) {
      expect(pixels).toHaveLength(96);
      // Inks have no exact inverse, as above.
      for (const value of pixels) expect(Math.abs(value - 128)).toBeLessThanOrEqual(name === 'c.jpg' ? 16 : 2);
    }
  });

  it('keeps places where they are, also of a transparent and turned image', async () => {
    // Grey rises to the right by 1 a pixel.
    const ramp = png(100, 60, { bitDepth: 8, colourType: 6 }, (x) => [x, x, x, 9]);
    const file = join(dir, 'x.png');
    await writeFile(file, await sharp(ramp).rotate(270).withMetadata({ orientation: 6 }).png().toBuffer());
    const pixels = await readImage(file, [30, 50], { channels: 1 });
    for (const row of [0, 29]) {
      for (const column of [1, 25, 48]) {
        expect(Math.abs(pixels[row * 50 + column]! - (2 * column + 0.5))).toBeLessThanOrEqual(1.5);
      }
    }
  });

  it('or colour: nothing else is asked for', async () => {
    const file = await save(dir, 'x.png', plain({ colour: { r: 1, g: 2, b: 3 } }));
    await expect(readImage(file, 8, { channels: 2 as never })).rejects.toThrow('channels must be 3 or 1, got 2');
  });
});

describe('a region of an image', () => {
  it.each([1, 3, 6, 8] as const)('is that of the upright image, EXIF orientation %s', async (orientation) => {
    const file = await save(dir, 'turned.jpg', await turned(gradient(400, 300), orientation));
    const seen: number[][] = [];
    const pixels = await decodeRegion(file, square(32), (width, height) => {
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
    const pixels = await decodeRegion(file, square(8), () => ({ left: 3, top: 5, width: 20, height: 9 }));
    expect(pixels).toHaveLength(192);
    for (const value of pixels) expect(Math.abs(value - 128)).toBeLessThanOrEqual(16);
  });

  it('may be larger or smaller than what it is made into, down to one pixel', async () => {
    const file = await save(dir, 'small.png', gradient(68, 121, { step: 1 }));
    const pixels = await decodeRegion(file, square(16), () => ({ left: 9, top: 77, width: 1, height: 1 }));
    expect(pixels).toEqual(Buffer.from(Array.from({ length: 256 }, () => [9, 77, 0]).flat()));
  });
});

describe('a file', () => {
  const write = async (name: string, contents: string | Uint8Array): Promise<string> => {
    const file = join(dir, name);
    await writeFile(file, contents);
    return file;
  };
  const refusal = (code: string, words: RegExp) => ({ name: 'DataError', code, message: expect.stringMatching(words) });
  const picture = plain({ colour: { r: 200, g: 10, b: 30 } });

  it.each(['x.jpg', 'x.webp', 'x', 'x.txt'])('is read by its contents: a PNG named %s', async (name) => {
    const file = await write(name, await picture.clone().png().toBuffer());
    expect(Array.from(await readImage(file, 1))).toEqual([200, 10, 30]);
  });

  it.each([
    ['a PNG', (image: Sharp) => image.png()],
    ['an interlaced PNG', (image: Sharp) => image.png({ progressive: true })],
    ['a progressive JPEG', (image: Sharp) => image.jpeg({ progressive: true })],
    ['a turned JPEG', (image: Sharp) => image.withMetadata({ orientation: 6 }).jpeg()],
    ['a PNG with alpha', (image: Sharp) => image.ensureAlpha(0.5).png()],
  ])('is read again after it was replaced in place: %s', async (_kind, encode) => {
    const grey = (value: number) => encode(plain({ colour: { r: value, g: value, b: value } })).toBuffer();
    const read = async (contents: Uint8Array) => (await readImage(await write('x', contents), 1))[0];
    const [light, dark] = [await grey(200), await grey(10)];
    expect([await read(light), await read(dark), await read(light)]).toEqual([200, 10, 200]);
    await expect(read(dark.subarray(0, dark.length / 2))).rejects.toMatchObject(
      refusal('DATA_CORRUPT', /x \((PNG|JPEG)\)/),
    );
    await expect(read(Buffer.from('no image'))).rejects.toMatchObject(refusal('DATA_CORRUPT', /x is text/));
  });

  it.each(['z[1]', 'a[page=0]', 'a[shrink=2]', 'x.png[access=sequential]', 'd[]', 'c]', 'a[', "q,'[n=-1]"])(
    'is read by its own name, and no part of that is an option: %s',
    async (name) => {
      await write(
        name.replace(/\[.*/, ''),
        await plain({ colour: { r: 1, g: 2, b: 250 } })
          .png()
          .toBuffer(),
      );
      const file = await write(name, await picture.clone().png().toBuffer());
      expect(Array.from(await readImage(file, 1))).toEqual([200, 10, 30]);
    },
  );

  it('of more than 2 GiB is refused before it is read', async () => {
    const file = join(dir, 'long.jpg');
    const handle = await open(file, 'w');
    await handle.truncate(3 * 2 ** 30);
    await handle.close();
    await expect(readImage(file, 8)).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /long\.jpg has 3\.00 GiB: expected an image file of at most 2\.00 GiB/),
    );
  });

  it.each([
    ['a WebP image', () => picture.clone().webp().toBuffer()],
    ['a GIF image', () => picture.clone().gif().toBuffer()],
    ['a TIFF image', () => picture.clone().tiff().toBuffer()],
    ['an AVIF image', () => picture.clone().avif().toBuffer()],
    [
      'an SVG image',
      () => '<?xml version="1.0"?>\n<!-- a --><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    ],
    ['a HEIF image', () => Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1')],
    ['a PDF document', () => '%PDF-1.4\n%'],
    ['a BMP image', () => Buffer.from('BM\x3a\0\0\0\0\0\0\0\x36\0\0\0', 'latin1')],
    ['a JPEG XL image', () => Buffer.from('\xff\x0a\xfa\x1f', 'latin1')],
    ['a zip archive', () => 'PK\x03\x04\x14'],
    ['gzip-compressed data', () => Buffer.from([0x1f, 0x8b, 8, 0])],
  ])('that is %s under the name of a JPEG is refused as that', async (what, contents) => {
    const file = await write('x.jpg', await contents());
    const expected = refusal('DATA_UNSUPPORTED', new RegExp(`x\\.jpg is ${what}: expected a JPEG or PNG image`));
    await expect(readImage(file, 8)).rejects.toMatchObject(expected);
    await expect(
      decodeRegion(file, square(8), (width, height) => ({ left: 0, top: 0, width, height })),
    ).rejects.toMatchObject(expected);
  });

  it.each([
    ['empty \\(0 bytes\\)', ''],
    ['a git-lfs pointer.*git lfs pull', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n'],
    ['an HTML page', '<!DOCTYPE html>\n<html><head><title>404</title>'],
    ['filled with zeros', new Uint8Array(9000)],
    ['text', 'no image at all'],
    ['of unknown format', Uint8Array.of(1, 2, 3)],
  ])('that is %s holds no image', async (what, contents) => {
    const file = await write('x.jpg', contents);
    await expect(readImage(file, 8)).rejects.toMatchObject(refusal('DATA_CORRUPT', new RegExp(`x\\.jpg is ${what}`)));
  });

  it('that the system does not give is told from one that is not there', async () => {
    const file = await save(dir, 'locked.png', picture);
    await chmod(dir, 0o755);
    await chmod(file, 0);
    await unprivileged(() =>
      expect(readImage(file, 8)).rejects.toMatchObject(
        refusal('DATA_UNREADABLE', /locked\.png.*permission denied \(EACCES\)/),
      ),
    );
    await symlink('loop.png', join(dir, 'loop.png'));
    await expect(readImage(join(dir, 'loop.png'), 8)).rejects.toMatchObject(refusal('DATA_UNREADABLE', /form a loop/));
    await expect(readImage(join(file, 'x.png'), 8)).rejects.toMatchObject(
      refusal('DATA_UNREADABLE', /expected a folder, got a file/),
    );
    await mkdir(join(dir, 'folder.png'));
    await expect(readImage(join(dir, 'folder.png'), 8)).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /is a folder/),
    );
  });

  it.skipIf(process.platform === 'win32')('that is a pipe is refused, not waited for', async () => {
    execFileSync('mkfifo', [join(dir, 'pipe.png')]);
    await expect(readImage(join(dir, 'pipe.png'), 8)).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /is a device, pipe or socket/),
    );
  });

  it('of more pixels than the limit is refused before it is decoded, with its size', async () => {
    // 240 megapixels of which there is only the header.
    const file = await write('huge.png', pngOf(20_000, 12_000, { bitDepth: 8, colourType: 2 }, Buffer.alloc(0)));
    await expect(readImage(file, 8)).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /20000 x 12000 pixels \(240\.0 megapixels\): expected at most 179\.0 megapixels/),
    );
    await expect(readImage(file, 8, { maxPixels: 240_000_000 })).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    const small = await save(dir, 'small.jpg', plain({ width: 50, height: 20, colour: { r: 9, g: 9, b: 9 } }));
    expect(await readImage(small, 8, { maxPixels: 1000 })).toHaveLength(192);
    await expect(readImage(small, 8, { maxPixels: 999 })).rejects.toThrow(
      '50 x 20 pixels (1000 pixels): expected at most 999 pixels (maxPixels, --max-pixels)',
    );
    for (const maxPixels of [0, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(readImage(small, 8, { maxPixels })).rejects.toMatchObject({ code: 'DATA_ARGUMENT' });
    }
  });
});

describe('the colours of an image', () => {
  const repeat = (value: number, depth: number): number => (depth === 16 ? 257 * value : value);
  const samples = (depth: number, ...values: number[]) => values.map((value) => repeat(value, depth));
  const [red, green, blue] = [200, 10, 30];

  // Each holds one colour, transparent where the kind has transparency. Grey is 90.
  const kinds: [string, PngKind, readonly number[], readonly number[]][] = [];
  for (const bitDepth of [8, 16] as const) {
    const rgb = samples(bitDepth, red, green, blue);
    const key = rgb.flatMap((sample) => [sample >> 8, sample & 255]);
    const grey = repeat(90, bitDepth);
    const greyKey = [grey >> 8, grey & 255];
    kinds.push(
      [`RGB, ${bitDepth} bits`, { bitDepth, colourType: 2 }, rgb, [red, green, blue]],
      [`RGB with alpha, ${bitDepth} bits`, { bitDepth, colourType: 6 }, [...rgb, 0], [red, green, blue]],
      [
        `RGB with a transparent colour, ${bitDepth} bits`,
        { bitDepth, colourType: 2, chunks: [['tRNS', key]] },
        rgb,
        [red, green, blue],
      ],
      [`grey, ${bitDepth} bits`, { bitDepth, colourType: 0 }, [grey], [90, 90, 90]],
      [`grey with alpha, ${bitDepth} bits`, { bitDepth, colourType: 4 }, [grey, 0], [90, 90, 90]],
      [
        `grey with a transparent one, ${bitDepth} bits`,
        { bitDepth, colourType: 0, chunks: [['tRNS', greyKey]] },
        [grey],
        [90, 90, 90],
      ],
    );
  }
  const palette = ['PLTE', [1, 2, 3, red, green, blue]] as const;
  kinds.push(
    ['a palette', { bitDepth: 8, colourType: 3, chunks: [palette] }, [1], [red, green, blue]],
    [
      'a transparent palette',
      { bitDepth: 8, colourType: 3, chunks: [palette, ['tRNS', [255, 0]]] },
      [1],
      [red, green, blue],
    ],
  );

  it.each(kinds)('do not depend on its size: %s', async (_name, kind, pixel, colour) => {
    for (const [width, height] of [
      [1, 1],
      [31, 40],
      [32, 32],
      [33, 32],
      [64, 64],
      [200, 150],
    ] as const) {
      const file = join(dir, 'x.png');
      await writeFile(
        file,
        png(width, height, kind, () => pixel),
      );
      const whole = await readImage(file, 32);
      const part = await decodeRegion(file, square(32), () => ({
        left: 0,
        top: 0,
        width,
        height: Math.ceil(height / 2),
      }));
      const seen = new Set<string>();
      for (let at = 0; at < 1024; at++) {
        seen.add([whole[at], whole[at + 1024], whole[at + 2048]].join());
        seen.add(part.subarray(3 * at, 3 * at + 3).join());
      }
      expect([...seen], `${width} x ${height}`).toEqual([colour.join()]);
    }
  });

  it('do not depend on its size: a CMYK JPEG', async () => {
    const seen = new Set<string>();
    for (const side of [32, 64, 200]) {
      const cmyk = plain({ width: side, height: side, colour: { r: 90, g: 140, b: 30 } }).toColourspace('cmyk');
      const pixels = await readImage(await save(dir, 'x.jpg', cmyk.jpeg({ quality: 100 })), 32);
      for (let at = 0; at < 1024; at++) seen.add([pixels[at], pixels[at + 1024], pixels[at + 2048]].join());
    }
    expect(seen.size).toBe(1);
  });

  it('are not all in memory at once, however many images are begun', async () => {
    const side = 1_500;
    const pixelBytes = 3 * side ** 2;
    const large = await sharp({ create: { width: side, height: side, channels: 4, background: '#80402010' } })
      .png()
      .toBuffer();
    const count = Math.ceil((768 * 2 ** 20) / pixelBytes);
    const held = (): number => process.memoryUsage().external;
    const before = held();
    let most = 0;
    const timer = setInterval(() => {
      most = Math.max(most, held() - before);
    }, 1);
    try {
      const all = await Promise.all(Array.from({ length: count }, (_, i) => decodeImage(`${i}.png`, large, 8)));
      expect(new Set(all.map(({ length }) => length))).toEqual(new Set([3 * 8 * 8]));
    } finally {
      clearInterval(timer);
    }
    expect(most).toBeGreaterThan(pixelBytes);
    // 256 MiB, and what is garbage by then.
    expect(most).toBeLessThan(512 * 2 ** 20);
  });

  it('are those of the same image without its alpha channel, whatever that holds and however it is turned', async () => {
    const colourAt = (x: number, y: number) => [(7 * x) % 256, (5 * y) % 256, (3 * (x + y)) % 256];
    const alphaAt = (x: number, y: number) => [0, 1, 128, 255][(x + 2 * y) % 4]!;
    const rgb = png(90, 61, { bitDepth: 8, colourType: 2 }, colourAt);
    const rgba = png(90, 61, { bitDepth: 8, colourType: 6 }, (x, y) => [...colourAt(x, y), alphaAt(x, y)]);
    for (const orientation of [1, 6] as const) {
      const [opaque, transparent] = await Promise.all(
        [rgb, rgba].map(async (bytes, at) => {
          const file = join(dir, `${at}.png`);
          await writeFile(file, await sharp(bytes).withMetadata({ orientation }).png().toBuffer());
          return [
            await readImage(file, 24, { resize: 30 }),
            await decodeRegion(file, square(16), () => ({ left: 5, top: 20, width: 40, height: 33 })),
          ];
        }),
      );
      expect(transparent).toEqual(opaque);
    }
  });
});
