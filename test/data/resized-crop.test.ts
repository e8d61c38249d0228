// The crop's distribution against the one that follows from torchvision's definition of RandomResizedCrop.
import { describe, expect, it } from 'vitest';
import { Draws } from '../../lib/data/draws.js';
import type { Region } from '../../lib/data/image-file.js';
import { drawResizedCrop } from '../../lib/data/resized-crop.js';

const LOG_RATIO = Math.log(4 / 3);
const LEAST_AREA = 0.08;
const BINS = 20;

const crops = (count: number, width: number, height: number, { seed = 4, epoch = 0 } = {}): Region[] => {
  const draws = new Draws({ seed });
  return Array.from({ length: count }, (_, image) => drawResizedCrop(draws, epoch, image, width, height));
};

/** Pearson's statistic of values on [low, high) against a density, which need not be normalised. */
function chiSquare(values: readonly number[], low: number, high: number, density: (at: number) => number): number {
  const counts = new Array<number>(BINS).fill(0);
  for (const value of values) {
    counts[Math.min(BINS - 1, Math.max(0, Math.floor((BINS * (value - low)) / (high - low))))]!++;
  }
  const PARTS = 200;
  const shares = counts.map((_, bin) => {
    const at = (part: number) => low + ((high - low) * (bin + (part + 0.5) / PARTS)) / BINS;
    return Array.from({ length: PARTS }, (_, part) => density(at(part))).reduce((sum, value) => sum + value, 0);
  });
  const total = shares.reduce((sum, share) => sum + share, 0);
  return counts.reduce((sum, count, bin) => {
    const expected = (values.length * shares[bin]!) / total;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

/** Of a chi-square distribution with 19 degrees of freedom, the quantile of 99.9 %. */
const LIMIT = 43.82;

describe('a random resized crop', () => {
  // Of a large square, an attempt with area a and ratio r fits if |log r| <= -log a.
  const SIDE = 8000;
  const square = crops(20_000, SIDE, SIDE);

  it('has its area uniform from 8 to 100 %, but for what does not fit', () => {
    const areas = square.map(({ width, height }) => (width * height) / SIDE ** 2);
    expect(chiSquare(areas, LEAST_AREA, 1, (a) => Math.min(1, -Math.log(a) / LOG_RATIO))).toBeLessThan(LIMIT);
  });

  it('has the logarithm of its ratio uniform from log 3/4 to log 4/3, but for what does not fit', () => {
    const ratios = square.map(({ width, height }) => Math.log(width / height));
    const density = (t: number) => Math.exp(-Math.abs(t)) - LEAST_AREA;
    expect(chiSquare(ratios, -LOG_RATIO, LOG_RATIO, density)).toBeLessThan(LIMIT);
  });

  it('lies anywhere within the image, whatever its size, rows and columns apart', () => {
    const uniform = () => 1;
    const room = square.filter(({ width, height }) => width < 0.99 * SIDE && height < 0.99 * SIDE);
    const lefts = room.map(({ left, width }) => left / (SIDE - width + 1));
    const tops = room.map(({ top, height }) => top / (SIDE - height + 1));
    expect(chiSquare(lefts, 0, 1, uniform)).toBeLessThan(LIMIT);
    expect(chiSquare(tops, 0, 1, uniform)).toBeLessThan(LIMIT);
    expect(
      chiSquare(
        lefts.map((left, i) => (left + tops[i]!) % 1),
        0,
        1,
        uniform,
      ),
    ).toBeLessThan(LIMIT);
  });

  it.each([
    [500, 375],
    [68, 121],
    [1, 1],
    [3, 2],
    [2400, 40],
    [16_000, 9],
  ])('of %d x %d pixels lies within them', (width, height) => {
    for (const crop of crops(500, width, height)) {
      for (const value of Object.values(crop)) expect(Number.isInteger(value)).toBe(true);
      expect(crop.left).toBeGreaterThanOrEqual(0);
      expect(crop.top).toBeGreaterThanOrEqual(0);
      expect(Math.min(crop.width, crop.height)).toBeGreaterThanOrEqual(1);
      expect(crop.left + crop.width).toBeLessThanOrEqual(width);
      expect(crop.top + crop.height).toBeLessThanOrEqual(height);
    }
  });

  it('is the largest centred part of ratio 4/3 or 3/4 after ten attempts that do not fit', () => {
    // An attempt at 3000 x 300 fits if a / r <= 0.1 (and a half pixel): its share by the midpoint rule.
    const PARTS = 1000;
    let fitting = 0;
    for (let i = 0; i < PARTS; i++) {
      const ratio = Math.exp(LOG_RATIO * ((2 * (i + 0.5)) / PARTS - 1));
      const largest = (ratio * 300.5 ** 2) / (3000 * 300);
      fitting += Math.min(1, Math.max(0, (largest - LEAST_AREA) / (1 - LEAST_AREA))) / PARTS;
    }
    const share = (1 - fitting) ** 10;
    const count = 4000;
    const fallback = { left: 1300, top: 0, width: 400, height: 300 };
    const hits = crops(count, 3000, 300).filter((crop) => JSON.stringify(crop) === JSON.stringify(fallback)).length;
    expect(Math.abs(hits - count * share)).toBeLessThan(5 * Math.sqrt(count * share * (1 - share)));
    expect(crops(50, 30, 900)).toContainEqual({ left: 0, top: 430, width: 30, height: 40 });
    expect(crops(50, 1, 900)).toContainEqual({ left: 0, top: 449, width: 1, height: 1 });
  });

  it('is a function of seed, layer, epoch and image', () => {
    const crop = (seed: number, layer: number | undefined, epoch: number, image: number): string =>
      JSON.stringify(
        drawResizedCrop(new Draws({ seed, ...(layer === undefined ? {} : { layer }) }), epoch, image, 500, 400),
      );
    const all = [crop(1, 0, 0, 7), crop(2, 0, 0, 7), crop(1, 1, 0, 7), crop(1, undefined, 0, 7), crop(1, 0, 1, 7)];
    expect(new Set([...all, crop(1, 0, 0, 8)]).size).toBe(6);
    expect(crop(1, 0, 0, 7)).toBe(all[0]);
  });
});
