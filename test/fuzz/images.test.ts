import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readImage } from '../../lib/data/image-file.js';
import { type FuzzedFormat, fuzz, mutation } from './format.js';
import { jpeg, png } from './images.js';

it.each([jpeg, png])(
  '200 damaged files of $name each give an image or a DataError that names the file',
  async (format) => {
    await fuzz(format, { count: 200, seed: 1 });
  },
);

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

it('an end of another kind is told with what makes it again', async () => {
  const broken: FuzzedFormat = {
    ...png,
    run: async () => {
      throw new RangeError('of no DataError');
    },
  };
  await expect(fuzz(broken, { count: 3, seed: 7 })).rejects.toThrow(
    /^PNG, seed 7, mutation 0: RangeError: of no DataError$/,
  );
});
