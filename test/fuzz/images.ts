// JPEG and PNG files as of a data set.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataError } from '../../lib/data/errors.js';
import { decodeRegion, decodeWhole, readImage } from '../../lib/data/image-file.js';
import { gradient, turned } from '../data/images.js';
import { png as encodePng } from '../data/png.js';
import type { FuzzedFormat } from './format.js';

const SIZE = 16;
/** Codes of a file that cannot be used. */
const REFUSED = new Set(['DATA_CORRUPT', 'DATA_UNSUPPORTED']);

async function run(damaged: Uint8Array): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'layerwise-fuzz-'));
  const file = join(folder, 'x.jpg');
  try {
    await writeFile(file, damaged);
    const ways = [
      () => readImage(file, SIZE),
      () =>
        decodeRegion(file, { channels: 3, height: SIZE, width: SIZE }, (width, height) => ({
          left: 0,
          top: 0,
          width,
          height,
        })),
      () => decodeWhole(file),
    ];
    for (const read of ways) {
      const image = await read().catch((error: unknown) => {
        if (error instanceof DataError && REFUSED.has(error.code) && error.message.includes(file)) return null;
        throw error;
      });
      if (image instanceof Uint8Array && image.length !== 3 * SIZE * SIZE)
        throw new Error(`${image.length} bytes came`);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

export const jpeg: FuzzedFormat = {
  name: 'jpeg',
  seeds: async () =>
    Promise.all(
      [
        gradient(90, 70).jpeg(),
        gradient(90, 70).jpeg({ progressive: true }),
        gradient(40, 50).toColourspace('b-w').jpeg(),
        gradient(40, 50).toColourspace('cmyk').jpeg(),
        await turned(gradient(60, 40), 6),
      ].map((image) => image.toBuffer()),
    ),
  run,
};

export const png: FuzzedFormat = {
  name: 'png',
  seeds: async () => [
    encodePng(50, 40, { bitDepth: 8, colourType: 2 }, (x, y) => [5 * x, 6 * y, 7]),
    encodePng(30, 20, { bitDepth: 16, colourType: 6 }, (x, y) => [999 * x, 99 * y, 9, 700 * x]),
    encodePng(
      20,
      30,
      {
        bitDepth: 8,
        colourType: 3,
        chunks: [
          ['PLTE', [1, 2, 3, 200, 9, 30]],
          ['tRNS', [9]],
        ],
      },
      (x) => [x % 2],
    ),
    encodePng(20, 30, { bitDepth: 8, colourType: 4 }, (x, y) => [5 * x, 8 * y]),
    await gradient(60, 60).png({ palette: true }).toBuffer(),
  ],
  run,
};
