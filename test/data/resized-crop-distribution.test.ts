// The boxes of training crops beside those of torchvision's RandomResizedCrop, by the two-sample Kolmogorov-Smirnov test.
import { describe, expect, it } from 'vitest';
import { Draws } from '../../lib/data/draws.js';
import type { Region } from '../../lib/data/image-file.js';
import { drawResizedCrop } from '../../lib/data/resized-crop.js';
import { type EncodedTensor, readFixture, valuesOf } from '../support/fixtures.js';

/** What boxes are compared by; the parts of an image's sides that they begin and end at, and two of those together. */
const QUANTITIES = {
  area: ({ width, height }: Region, image: Size) => (width * height) / (image.width * image.height),
  ratio: ({ width, height }: Region) => width / height,
  left: ({ left }: Region, image: Size) => left / image.width,
  top: ({ top }: Region, image: Size) => top / image.height,
  right: ({ left, width }: Region, image: Size) => (left + width) / image.width,
  bottom: ({ top, height }: Region, image: Size) => (top + height) / image.height,
  leftAndTop: ({ left, top }: Region, image: Size) => left / image.width + top / image.height,
};
type Quantity = keyof typeof QUANTITIES;

interface Size {
  readonly width: number;
  readonly height: number;
}

/** Some values of a quantity, and how many of the reference's boxes have at most each. */
interface Distribution {
  readonly points: EncodedTensor;
  readonly counts: EncodedTensor;
}

interface Reference {
  readonly boxes: number;
  readonly shapes: readonly (Size & { readonly quantities: Readonly<Record<Quantity, Distribution>> })[];
}

const reference = readFixture<Reference>('resized-crops.json');

const EPOCHS = 10;
const IMAGES = 2000;
const BOXES = EPOCHS * IMAGES;
/** That any of all the tests of this file fails where both samplers are the same; of one test, by Bonferroni's inequality. */
const SIGNIFICANCE = 1e-3;
const OF_ONE = SIGNIFICANCE / (reference.shapes.length * Object.keys(QUANTITIES).length);
/**
 * The two-sample statistic at that significance: https://doi.org/10.1214/aoms/1177730256 (Smirnov, 1948). The distributions are
 * compared at the reference's points alone, and many values are equal, so that it is reached less often.
 */
const LIMIT = Math.sqrt((-Math.log(OF_ONE / 2) / 2) * ((BOXES + reference.boxes) / (BOXES * reference.boxes)));

/** The largest difference between the shares of boxes that have at most a value. */
function statistic(values: readonly number[], { points, counts }: Distribution): number {
  const sorted = Float64Array.from(values).sort();
  const theirs = valuesOf(counts);
  let below = 0;
  let largest = 0;
  for (const [i, point] of valuesOf(points).entries()) {
    while (below < sorted.length && sorted[below]! <= point) below++;
    largest = Math.max(largest, Math.abs(below / sorted.length - theirs[i]! / reference.boxes));
  }
  return largest;
}

type Sampler = (draws: Draws, epoch: number, image: number, width: number, height: number) => Region;

/** For each quantity, of all shapes or one, what is above 1 where the distributions differ. */
function differences(sampler: Sampler, of?: string): Record<string, number> {
  const draws = new Draws({ seed: 4, layer: 0 });
  const found: Record<string, number> = {};
  for (const { quantities, ...image } of reference.shapes) {
    const { width, height } = image;
    if (of !== undefined && of !== `${width} x ${height}`) continue;
    const boxes = Array.from({ length: BOXES }, (_, i) =>
      sampler(draws, Math.floor(i / IMAGES), i % IMAGES, width, height),
    );
    for (const [name, quantityOf] of Object.entries(QUANTITIES)) {
      const values = boxes.map((box) => quantityOf(box, image));
      found[`${name} of ${width} x ${height}`] = statistic(values, quantities[name as Quantity]) / LIMIT;
    }
  }
  return found;
}

interface Choices {
  readonly ratio: (unit: number) => number;
  readonly least: number;
  readonly tries: number;
  /** Pixels that a box may move along a side of `length` pixels, of which it has `used`. */
  readonly room: (length: number, used: number) => number;
  readonly top: (units: readonly [left: number, top: number]) => number;
  readonly fallback: (width: number, height: number) => Region;
}

const DEFINED: Choices = {
  ratio: (unit) => (3 / 4) * (16 / 9) ** unit,
  least: 0.08,
  tries: 10,
  room: (length, used) => length - used + 1,
  top: ([, top]) => top,
  fallback: (width, height) => {
    const [w, h] = [Math.min(width, Math.round((height * 4) / 3)), Math.min(height, Math.round((width * 4) / 3))];
    return { left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h };
  },
};

/** A sampler by the same draws, in which something may be chosen otherwise. */
const samplerOf =
  (changed: Partial<Choices>): Sampler =>
  (draws, epoch, image, width, height) => {
    const { ratio, least, tries, room, top, fallback } = { ...DEFINED, ...changed };
    let stream = 0;
    const unit = () => draws.uniforms(1000 + stream++, epoch, Int32Array.of(image), new Float64Array(1))[0]!;
    const units = [unit(), unit()] as const;
    for (let attempt = 0; attempt < tries; attempt++) {
      const area = (least + (1 - least) * unit()) * width * height;
      const shape = ratio(unit());
      const [w, h] = [Math.round(Math.sqrt(area * shape)), Math.round(Math.sqrt(area / shape))];
      if (w < 1 || h < 1 || w > width || h > height) continue;
      const left = Math.floor(units[0] * room(width, w));
      return { left, top: Math.floor(top(units) * room(height, h)), width: w, height: h };
    }
    return fallback(width, height);
  };

describe('the boxes of random resized crops', () => {
  it(`are distributed as those of torchvision, at a significance of ${SIGNIFICANCE}`, () => {
    const found = differences(drawResizedCrop);
    for (const [name, difference] of Object.entries(found)) expect(difference, name).toBeLessThan(1);
  });

  it('would be as well by another sampler of the same definition', () => {
    expect(Math.max(...Object.values(differences(samplerOf({}))))).toBeLessThan(1);
  });

  it.each<[string, Partial<Choices>, string]>([
    [
      'a ratio that is uniform, not its logarithm',
      { ratio: (unit) => 3 / 4 + unit * (4 / 3 - 3 / 4) },
      'ratio of 224 x 224',
    ],
    ['a least area of 15 %', { least: 0.15 }, 'area of 500 x 375'],
    ['six attempts', { tries: 6 }, 'area of 100 x 1000'],
    [
      'a position that never reaches the far edge',
      { room: (length, used) => Math.max(1, length - used) },
      'right of 9 x 6',
    ],
    ['one draw for left and top', { top: ([left]) => left }, 'leftAndTop of 500 x 375'],
    [
      'a largest part that is not in the middle',
      { fallback: (width, height) => ({ ...DEFINED.fallback(width, height), left: 0, top: 0 }) },
      'top of 100 x 1000',
    ],
    [
      'the whole image after ten attempts',
      { fallback: (width, height) => ({ left: 0, top: 0, width, height }) },
      'area of 1 x 50',
    ],
  ])('would be told from those with %s', (_, changed, where) => {
    const [, shape] = where.split(' of ');
    expect(differences(samplerOf(changed), shape)[where]).toBeGreaterThan(2);
  });
});
