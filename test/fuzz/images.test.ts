import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readImage } from '../../lib/data/image-file.js';
import { DECODED, decodeImages, empty, findTurboJpeg, keep, scope } from '../../lib/tensor/index.js';
import { mutation } from './format.js';
import { jpeg, png } from './images.js';

it.each([jpeg, png])('a good $name is read, so that the errors come from the damage', async ({ seeds }) => {
  const folder = await mkdtemp(join(tmpdir(), 'layerwise-fuzz-'));
  for (const seed of await seeds()) {
    await writeFile(join(folder, 'x'), seed);
    expect(await readImage(join(folder, 'x'), 8)).toHaveLength(192);
  }
  await rm(folder, { recursive: true });
});

it('a mutation is a function of seed and number, and damages', async () => {
  const seeds = await png.seeds();
  const make = (number: number, seed = 1) => Buffer.from(mutation(seeds, { seed, number }));
  const some = Array.from({ length: 50 }, (_, number) => make(number));
  expect(some).toEqual(Array.from({ length: 50 }, (_, number) => make(number)));
  expect(new Set(some.map(String)).size).toBeGreaterThan(45);
  expect(make(0, 2)).not.toEqual(make(0));
  expect(some.filter((bytes) => seeds.some((seed) => bytes.equals(seed))).length).toBeLessThan(5);
});

it.runIf(findTurboJpeg() !== null)('good JPEG files are decoded by the addon, too, but for inks', async () => {
  const sources = await jpeg.seeds();
  const images = scope(() => keep(empty([sources.length, 8, 8, 3], { dtype: 'uint8' })));
  const outcomes = await decodeImages({ images, sources, covered: [8, 8], maxPixels: 1e6 }).done;
  images.dispose();
  expect([...outcomes]).toEqual([DECODED.yes, DECODED.yes, DECODED.yes, DECODED.no, DECODED.yes]);
});
