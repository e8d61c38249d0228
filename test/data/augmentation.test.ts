// Augmentation against a loop over single pixels.
import { describe, expect, it } from 'vitest';
import {
  applyTransforms,
  type BatchDraws,
  batchDraws,
  noDraws,
  normalize,
  randomCrop,
  randomHorizontalFlip,
} from '../../lib/data/augmentation.js';
import { Draws } from '../../lib/data/draws.js';
import { scope, type Tensor, tensor } from '../../lib/tensor/index.js';

const CHANNELS = 3;
const SIZE = 6;
const IMAGE_LENGTH = CHANNELS * SIZE * SIZE;
const PADDING = 4;

/** Byte p of image i: no two images alike, and no image symmetric. */
const pixel = (image: number, p: number): number => (97 * image + 31 * p + (p >> 3) * 5 + 1) % 256;

function imagesOf(indices: Int32Array): Tensor {
  const bytes = new Uint8Array(indices.length * IMAGE_LENGTH);
  indices.forEach((index, i) => {
    for (let p = 0; p < IMAGE_LENGTH; p++) bytes[i * IMAGE_LENGTH + p] = pixel(index, p);
  });
  return tensor(bytes, { shape: [indices.length, CHANNELS, SIZE, SIZE] });
}

/** Draws that are the same for every image, by stream in the order in which they are asked for. */
const fixed = (...values: number[]): BatchDraws & { asked: number[]; bounds: number[] } => ({
  asked: [],
  bounds: [],
  integers(stream, bound) {
    this.asked.push(stream);
    this.bounds.push(bound);
    return Int32Array.of(values[this.asked.length - 1]!);
  },
});

/** Image `index` moved so that its row `top - padding` and column `left - padding` come first; outside it all is 0. */
function croppedByHand(index: number, top: number, left: number): number[] {
  const out: number[] = [];
  for (let c = 0; c < CHANNELS; c++) {
    for (let y = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++) {
        const [sourceY, sourceX] = [y + top - PADDING, x + left - PADDING];
        const inside = sourceY >= 0 && sourceY < SIZE && sourceX >= 0 && sourceX < SIZE;
        out.push(inside ? pixel(index, (c * SIZE + sourceY) * SIZE + sourceX) : 0);
      }
    }
  }
  return out;
}

function flippedByHand(index: number): number[] {
  const out: number[] = [];
  for (let row = 0; row < CHANNELS * SIZE; row++) {
    for (let x = 0; x < SIZE; x++) out.push(pixel(index, row * SIZE + SIZE - 1 - x));
  }
  return out;
}

const unchanged = (index: number): number[] => Array.from({ length: IMAGE_LENGTH }, (_, p) => pixel(index, p));

describe('random crop', () => {
  it('is the loop over pixels at every offset, and stays uint8', () => {
    scope(() => {
      const crop = randomCrop({ padding: PADDING });
      for (let top = 0; top <= 2 * PADDING; top++) {
        for (let left = 0; left <= 2 * PADDING; left++) {
          const draws = fixed(top, left);
          const view = crop.apply(imagesOf(Int32Array.of(5)), draws);
          expect(view.dtype).toBe('uint8');
          expect(view.shape).toEqual([1, CHANNELS, SIZE, SIZE]);
          expect([...view.toTypedArray()], `top ${top}, left ${left}`).toEqual(croppedByHand(5, top, left));
          expect(draws.bounds).toEqual([2 * PADDING + 1, 2 * PADDING + 1]);
          expect(new Set(draws.asked).size, 'rows and columns are drawn apart').toBe(2);
        }
      }
    });
  });

  it('crops each image of a batch at its own position', () => {
    scope(() => {
      const tops = Int32Array.of(0, 8, 3);
      const lefts = Int32Array.of(8, 4, 1);
      const given = [tops, lefts];
      const view = randomCrop({ padding: PADDING }).apply(imagesOf(Int32Array.of(2, 9, 4)), {
        integers: () => given.shift()!,
      });
      expect([...view.toTypedArray()]).toEqual([
        ...croppedByHand(2, 0, 8),
        ...croppedByHand(9, 8, 4),
        ...croppedByHand(4, 3, 1),
      ]);
    });
  });

  // Written out from numpy's documentation of np.pad(mode='reflect'): d c b | a b c d | c b a.
  it('mirrors an image beyond its edges, without the edge pixel, where asked to', () => {
    scope(() => {
      const row = tensor(Uint8Array.of(1, 2, 3, 4), { shape: [1, 1, 1, 4] }).expand([1, 1, 4, 4]);
      const columns = [
        [4, 3, 2, 1],
        [3, 2, 1, 2],
        [2, 1, 2, 3],
        [1, 2, 3, 4],
        [2, 3, 4, 3],
        [3, 4, 3, 2],
        [4, 3, 2, 1],
      ];
      for (const [left, expected] of columns.entries()) {
        const crop = randomCrop({ padding: 3, mode: 'reflect' });
        const across = crop.apply(row, fixed(3, left));
        expect(across.dtype).toBe('uint8');
        expect([...across.toTypedArray()]).toEqual([...expected, ...expected, ...expected, ...expected]);
        const down = crop.apply(row.transpose(2, 3), fixed(left, 3));
        expect([...down.transpose(2, 3).toTypedArray()]).toEqual([...expected, ...expected, ...expected, ...expected]);
      }
    });
  });

  it('refuses to mirror beyond a whole image, and a mode that is none', () => {
    scope(() => {
      const image = tensor(new Uint8Array(6), { shape: [1, 1, 2, 3] });
      expect(() => randomCrop({ padding: 2, mode: 'reflect' }).apply(image, fixed(0, 0))).toThrow(
        'randomCrop: expected images larger than a padding of 2 by reflection, got 2x3',
      );
    });
    expect(() => randomCrop({ padding: 1, mode: 'edge' as never })).toThrow(
      'randomCrop: expected zeros or reflect for mode, got edge',
    );
  });

  it('takes images that are not square', () => {
    scope(() => {
      const image = tensor(Uint8Array.of(1, 2, 3, 4, 5, 6), { shape: [1, 1, 2, 3] });
      const view = randomCrop({ padding: 1 }).apply(image, fixed(2, 0));
      expect([...view.toTypedArray()]).toEqual([0, 4, 5, 0, 0, 0]);
    });
  });

  it('refuses a padding that is no whole number of at least 1', () => {
    for (const padding of [0, -1, 1.5, Number.NaN]) {
      expect(() => randomCrop({ padding })).toThrow(`randomCrop: expected an integer of at least 1 for padding, got`);
    }
  });
});

describe('random horizontal flip', () => {
  it('mirrors the images whose draw is 1 and no others, and stays uint8', () => {
    scope(() => {
      const view = randomHorizontalFlip().apply(imagesOf(Int32Array.of(3, 4, 5)), {
        integers: (_stream, bound) => {
          expect(bound).toBe(2);
          return Int32Array.of(1, 0, 1);
        },
      });
      expect(view.dtype).toBe('uint8');
      expect([...view.toTypedArray()]).toEqual([...flippedByHand(3), ...unchanged(4), ...flippedByHand(5)]);
    });
  });
});

it('flips that alternate show each image and its mirror image in every two epochs', () => {
  scope(() => {
    const indices = Int32Array.of(3, 4, 5, 6, 7, 8);
    const draws = new Draws({ seed: 1, alternatingFlips: true });
    const shown = [0, 1].map((epoch) => {
      const view = randomHorizontalFlip().apply(imagesOf(indices), batchDraws(draws, epoch, indices));
      return [...view.toTypedArray()].map(Number);
    });
    for (const [i, index] of indices.entries()) {
      const [even, odd] = shown.map((all) => all.slice(i * IMAGE_LENGTH, (i + 1) * IMAGE_LENGTH));
      const both = [unchanged(index), flippedByHand(index)].map((image) => [...image].map(Number));
      expect([
        [even, odd],
        [odd, even],
      ]).toContainEqual(both);
    }
  });
});

describe('normalize', () => {
  it('is (value / 255 - mean) / std of every pixel, to float32, channels-last', () => {
    scope(() => {
      const options = { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] };
      const view = normalize(options).apply(imagesOf(Int32Array.of(0, 7)), noDraws);
      expect(view.dtype).toBe('float32');
      expect(view.isContiguous('channelsLast')).toBe(true);
      const got = view.toFloat32Array();
      for (const [i, index] of [0, 7].entries()) {
        for (let p = 0; p < IMAGE_LENGTH; p++) {
          const c = Math.floor(p / (SIZE * SIZE));
          const expected = (pixel(index, p) / 255 - options.mean[c]!) / options.std[c]!;
          expect(Math.abs(got[i * IMAGE_LENGTH + p]! - expected)).toBeLessThan(1e-6);
        }
      }
    });
  });
});

describe('a view', () => {
  const transforms = [randomCrop({ padding: PADDING }), randomHorizontalFlip()];
  const SEED = 11;
  const view = (indices: Int32Array, { layer, epoch = 0 }: { layer?: number; epoch?: number } = {}): number[] =>
    scope(() => {
      const draws = new Draws({ seed: SEED, ...(layer === undefined ? {} : { layer }) });
      return [...applyTransforms(transforms, imagesOf(indices), batchDraws(draws, epoch, indices)).toTypedArray()].map(
        Number,
      );
    });
  const upTo = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i);

  it('of an image is the same whatever batch it is in', () => {
    const all = view(upTo(40), { layer: 1, epoch: 2 });
    const some = Int32Array.of(39, 0, 17);
    const expected = [...some].flatMap((i) => all.slice(i * IMAGE_LENGTH, (i + 1) * IMAGE_LENGTH));
    expect(view(some, { layer: 1, epoch: 2 })).toEqual(expected);
    for (const i of some) {
      expect(view(Int32Array.of(i), { layer: 1, epoch: 2 })).toEqual(
        all.slice(i * IMAGE_LENGTH, (i + 1) * IMAGE_LENGTH),
      );
    }
  });

  it('differs by layer and by epoch; without a layer in the key there is one view an epoch', () => {
    const views = [
      view(upTo(16), { layer: 0 }),
      view(upTo(16), { layer: 1 }),
      view(upTo(16), { layer: 0, epoch: 1 }),
      view(upTo(16)),
      view(upTo(16), { epoch: 1 }),
    ];
    expect(new Set(views.map(String)).size).toBe(views.length);
    expect(view(upTo(16))).toEqual(views[3]);
  });

  it('is one of the crops, mirrored or not, each as often as any other and independent of the others', () => {
    const count = 600;
    const offsets = 2 * PADDING + 1;
    const flat = view(upTo(count));
    const crops = Array.from({ length: count }, (_, i) => {
      const found = cropsOf(i, flat.slice(i * IMAGE_LENGTH, (i + 1) * IMAGE_LENGTH));
      expect(found.length, `image ${i}`).toBeGreaterThan(0);
      return found[0]!;
    });
    /** Within five standard deviations of a binomial distribution. */
    const expectShare = (hits: number, of: number, share: number, what: string): void => {
      expect(Math.abs(hits - of * share), what).toBeLessThan(5 * Math.sqrt(of * share * (1 - share)));
    };
    expectShare(crops.filter(({ flipped }) => flipped).length, count, 1 / 2, 'mirrored');
    for (let offset = 0; offset < offsets; offset++) {
      for (const side of ['top', 'left'] as const) {
        const there = crops.filter((crop) => crop[side] === offset);
        expectShare(there.length, count, 1 / offsets, `${side} ${offset}`);
        const mirrored = there.filter(({ flipped }) => flipped).length;
        expectShare(mirrored, there.length, 1 / 2, `mirrored at ${side} ${offset}`);
      }
    }
    expectShare(crops.filter(({ top, left }) => top === left).length, count, 1 / offsets, 'on the diagonal');
  });

  /** Where in image i a view was cut, found by trying all. */
  function cropsOf(i: number, got: readonly number[]): { top: number; left: number; flipped: boolean }[] {
    const found = [];
    for (let top = 0; top <= 2 * PADDING; top++) {
      for (let left = 0; left <= 2 * PADDING; left++) {
        const straight = croppedByHand(i, top, left);
        if (straight.every((value, p) => value === got[p])) found.push({ top, left, flipped: false });
        const isMirrored = straight.every((_, p) => straight[p - (p % SIZE) + SIZE - 1 - (p % SIZE)] === got[p]);
        if (isMirrored) found.push({ top, left, flipped: true });
      }
    }
    return found;
  }
});

it('draws nothing in evaluation: a random transform there is refused', () => {
  scope(() => {
    const images = imagesOf(Int32Array.of(0));
    expect(() => applyTransforms([randomHorizontalFlip()], images, noDraws)).toThrow(
      expect.objectContaining({ code: 'DATA_ARGUMENT' }),
    );
    expect(() => applyTransforms([normalize({ mean: [0, 0, 0], std: [1, 1, 1] })], images, noDraws)).not.toThrow();
  });
});
