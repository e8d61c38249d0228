import { describe, expect, it } from 'vitest';
import { coveredSize, fileShapeOf, shownSize, sidesOf, sizeOf } from '../../lib/data/image-size.js';

it('a size is one number where the sides are equal, and else height and width', () => {
  expect([sidesOf(32), sidesOf([24, 40])]).toEqual([
    [32, 32],
    [24, 40],
  ]);
  expect([sizeOf(32, 32), sizeOf(24, 40)]).toEqual([32, [24, 40]]);
  expect([shownSize([32, 32]), shownSize([24, 40])]).toEqual(['32', '24 x 40']);
});

it.each([
  // Height, width and what the shorter becomes; then both, by hand.
  [32, 32, 32, [32, 32]],
  [224, 224, 256, [256, 256]],
  [32, 48, 32, [32, 48]],
  [32, 48, 36, [36, 54]],
  [48, 32, 36, [54, 36]],
  // 50 * 37 / 30 is 61.67.
  [30, 50, 37, [37, 62]],
] as const)('%i x %i is cut out of what covers it with a shorter side of %3$i', (height, width, resize, covered) => {
  expect(coveredSize({ height, width }, resize)).toEqual(covered);
});

describe('what files are made into', () => {
  it('is in colour by default, and scaled to just cover the size', () => {
    expect(fileShapeOf({ imageSize: 32 })).toEqual({ channels: 3, height: 32, width: 32, testResize: 32 });
    expect(fileShapeOf({ imageSize: [48, 20], channels: 1 })).toEqual({
      ...{ channels: 1, height: 48, width: 20, testResize: 20 },
    });
    expect(fileShapeOf({ imageSize: [48, 20], testResize: 24 }).testResize).toBe(24);
  });

  it.each<[object, string]>([
    [{ imageSize: 0 }, 'the image size must be an integer from 1 to 4096 pixels, got 0'],
    [{ imageSize: [32, 0.5] }, 'the width of the image size must be an integer from 1 to 4096 pixels, got 0.5'],
    [{ imageSize: [4097, 32] }, 'the height of the image size must be an integer from 1 to 4096 pixels, got 4097'],
    [{ imageSize: [32] }, 'the image size must be one number of pixels or [height, width], got [32]'],
    [{ imageSize: '32' }, 'the image size must be an integer from 1 to 4096 pixels, got "32"'],
    [{ imageSize: 32, channels: 2 }, 'channels must be 3 or 1, got 2'],
    [{ imageSize: 32, testResize: 31 }, 'testResize must be at least the image size, 32 pixels, got 31'],
    [
      { imageSize: [64, 32], testResize: 31 },
      'testResize must be at least the shorter side of the image size, 32 pixels, got 31',
    ],
    // 4,000 * 64 / 32.
    [
      { imageSize: [64, 32], testResize: 4000 },
      'the longer side that testResize stands for, 8000 x 4000, must be an integer from 1 to 4096 pixels, got 8000',
    ],
  ])('is refused by name where it is out of range: %j', (options, message) => {
    expect(() => fileShapeOf(options as never)).toThrow(expect.objectContaining({ code: 'DATA_ARGUMENT', message }));
  });
});
