import { describe, expect, it } from 'vitest';
import { Draws, stepSeed } from '../../lib/data/draws.js';
import { DataError } from '../../lib/data/errors.js';
import { philox4x32 } from '../../lib/data/philox.js';

const upTo = (n: number) => Int32Array.from({ length: n }, (_, i) => i);
const ints = (draws: Draws, images: Int32Array, { stream = 1, epoch = 0, bound = 9 } = {}) =>
  Array.from(draws.uniformInts(stream, epoch, images, bound, new Int32Array(images.length)));

/** Pearson's statistic of counts that should all be the same. */
function chiSquare(counts: readonly number[]): number {
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return counts.reduce((sum, count) => sum + (count - mean) ** 2 / mean, 0);
}

function histogram(values: Iterable<number>, bins: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) counts[value]!++;
  return counts;
}

describe('the draws of an image', () => {
  it('are the same in every batch and at every position in it', () => {
    const all = ints(new Draws({ seed: 5, layer: 2 }), upTo(100));
    const draws = new Draws({ seed: 5, layer: 2 });
    ints(draws, upTo(50), { epoch: 3 });
    expect(ints(draws, Int32Array.of(99, 3, 3, 41))).toEqual([all[99], all[3], all[3], all[41]]);
  });

  it('change with seed, layer, epoch and stream', () => {
    const images = upTo(64);
    const variants = [
      ints(new Draws({ seed: 5, layer: 2 }), images),
      ints(new Draws({ seed: 6, layer: 2 }), images),
      ints(new Draws({ seed: 5 + 2 ** 32, layer: 2 }), images),
      ints(new Draws({ seed: 5, layer: 0 }), images),
      ints(new Draws({ seed: 5 }), images),
      ints(new Draws({ seed: 5, layer: 2 }), images, { epoch: 1 }),
      ints(new Draws({ seed: 5, layer: 2 }), images, { stream: 2 }),
    ];
    expect(new Set(variants.map(String)).size).toBe(variants.length);
  });

  it('are Philox words at counter (image, epoch, layer + 1, stream) under the seed', () => {
    const word = new Uint32Array(4);
    philox4x32(7, 11, 4, 13, 42, (1 << 24) | 1, word);
    const draws = new Draws({ seed: 2 ** 32 + 42, layer: 3 });
    const image = Int32Array.of(7);
    expect(ints(draws, image, { stream: 13, epoch: 11, bound: 9 })).toEqual([Number((BigInt(word[0]!) * 9n) >> 32n)]);
    expect(draws.uniforms(13, 11, image, new Float32Array(1))[0]).toBe(Math.floor(word[0]! / 256) / 2 ** 24);
    expect(draws.bernoulli(13, 11, image, word[0]! / 2 ** 32, new Uint8Array(1))[0]).toBe(0);
    expect(draws.bernoulli(13, 11, image, (word[0]! + 1) / 2 ** 32, new Uint8Array(1))[0]).toBe(1);
  });

  it('are uniform: chi-square below its 99.9 % quantile', () => {
    const draws = new Draws({ seed: 1 });
    const images = upTo(90_000);
    expect(chiSquare(histogram(ints(draws, images), 9))).toBeLessThan(26.12); // 8 degrees of freedom
    const units = draws.uniforms(2, 0, images, new Float32Array(images.length));
    const tenths = Array.from(units, (unit) => Math.floor(unit * 10));
    expect(chiSquare(histogram(tenths, 10))).toBeLessThan(27.88); // 9
    const flips = draws.bernoulli(3, 0, images, 0.5, new Uint8Array(images.length));
    expect(chiSquare(histogram(flips, 2))).toBeLessThan(10.83); // 1
  });

  it('of two streams are independent', () => {
    const draws = new Draws({ seed: 1 });
    const images = upTo(81_000);
    const tops = ints(draws, images, { stream: 1 });
    const lefts = ints(draws, images, { stream: 2 });
    const pairs = tops.map((top, i) => top * 9 + lefts[i]!);
    expect(chiSquare(histogram(pairs, 81))).toBeLessThan(124.84); // 80
  });

  it('are never true at probability 0 and always at 1', () => {
    const draws = new Draws({ seed: 0 });
    const images = upTo(1000);
    expect(draws.bernoulli(0, 0, images, 0, new Uint8Array(1000)).includes(1)).toBe(false);
    expect(draws.bernoulli(0, 0, images, 1, new Uint8Array(1000)).includes(0)).toBe(false);
  });

  it('refuse arguments out of range', () => {
    const draws = new Draws({ seed: 0 });
    const image = Int32Array.of(0);
    expect(() => draws.uniformInts(0, 0, image, 0, new Int32Array(1))).toThrow(/bound must be an integer from 1/);
    expect(() => draws.uniformInts(-1, 0, image, 2, new Int32Array(1))).toThrow(/stream/);
    expect(() => draws.uniformInts(0, 0.5, image, 2, new Int32Array(1))).toThrow(/epoch/);
    expect(() => draws.uniformInts(0, 0, image, 2, new Int32Array(2))).toThrow(
      /out: expected 1 elements, one for each image, got 2/,
    );
    expect(() => draws.bernoulli(0, 0, image, 1.5, new Uint8Array(1))).toThrow(/probability/);
    expect(() => new Draws({ seed: 0, layer: -1 })).toThrow(DataError);
    expect(() => new Draws({ seed: -1 })).toThrow(DataError);
  });
});

describe('flips', () => {
  const flips = (draws: Draws, epoch: number, images = upTo(2000)) =>
    Array.from(draws.flips(3, epoch, images, new Int32Array(images.length)));

  it('are drawn anew in each epoch', () => {
    const draws = new Draws({ seed: 1, layer: 2 });
    expect(flips(draws, 4)).toEqual(Array.from(draws.uniformInts(3, 4, upTo(2000), 2, new Int32Array(2000))));
  });

  it('that alternate are those of the first epoch, or their opposites in every other epoch, for each image by itself', () => {
    const draws = new Draws({ seed: 1, layer: 2, alternatingFlips: true });
    const first = flips(draws, 0);
    expect(first).toEqual(flips(new Draws({ seed: 1, layer: 2 }), 0));
    const share = first.reduce((sum, flip) => sum + flip, 0) / first.length;
    // Four standard deviations of 2,000 throws.
    expect(Math.abs(share - 0.5)).toBeLessThan(0.045);
    for (const epoch of [1, 3, 1001]) expect(flips(draws, epoch)).toEqual(first.map((flip) => 1 - flip));
    for (const epoch of [2, 1000]) expect(flips(draws, epoch)).toEqual(first);
    expect(flips(draws, 1, Int32Array.of(7, 3))).toEqual([1 - first[7]!, 1 - first[3]!]);
    expect(flips(new Draws({ seed: 1, layer: 3, alternatingFlips: true }), 0)).not.toEqual(first);
  });
});

describe('a permutation', () => {
  it('holds every image once and depends on the epoch alone', () => {
    const draws = new Draws({ seed: 9, layer: 1 });
    const order = draws.permutation(0, 1000);
    expect(Array.from(order).sort((a, b) => a - b)).toEqual(Array.from(upTo(1000)));
    expect(draws.permutation(1, 1000)).not.toEqual(order);
    expect(draws.permutation(0, 1000)).toEqual(order);
    expect(new Draws({ seed: 9, layer: 2 }).permutation(0, 1000)).not.toEqual(order);
  });

  it('of nothing and of one image is itself', () => {
    const draws = new Draws({ seed: 0 });
    expect(draws.permutation(0, 0)).toHaveLength(0);
    expect(Array.from(draws.permutation(0, 1))).toEqual([0]);
  });

  it('takes every order of four equally often', () => {
    const draws = new Draws({ seed: 3 });
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < 12_000; epoch++) {
      const order = draws.permutation(epoch, 4).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expect(chiSquare([...counts.values()])).toBeLessThan(49.73); // 23 degrees of freedom
  });
});

it('the seed of a step depends on each of its parts, and is one that generators take', () => {
  const at = { seed: 7, layer: 1, epoch: 2, step: 3, rank: 1 };
  const others = (['seed', 'layer', 'epoch', 'step', 'rank'] as const).map((name) => ({ ...at, [name]: at[name] + 1 }));
  const seeds = [at, ...others, { ...at, epoch: 3, step: 2 }, { ...at, seed: 2 ** 40 + 7 }].map(stepSeed);
  expect(new Set(seeds).size).toBe(seeds.length);
  expect(stepSeed({ ...at })).toBe(seeds[0]);
  for (const seed of seeds) expect(Number.isSafeInteger(seed) && seed >= 0).toBe(true);
});
