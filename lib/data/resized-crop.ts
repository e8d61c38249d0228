import { STREAM } from './augmentation.js';
import type { Draws } from './draws.js';
import type { Region } from './image-file.js';

const AREA = { least: 0.08, most: 1 } as const;
const RATIO = { least: 3 / 4, most: 4 / 3 } as const;
const ATTEMPTS = 10;
/** Position, and area and ratio of each attempt. */
const NUMBERS = 2 + 2 * ATTEMPTS;

/**
 * The part of an upright image of width x height pixels that is shown in an epoch: torchvision's RandomResizedCrop with
 * its defaults (the crop of GoogLeNet, Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6). Its area is
 * uniform from 8 to 100 % of the image, the logarithm of width / height uniform from log 3/4 to log 4/3, its position uniform.
 * What does not fit into the image is drawn again; after ten attempts it is the largest centred part with a ratio in range.
 */
export function drawResizedCrop(draws: Draws, epoch: number, image: number, width: number, height: number): Region {
  return resizedCropOf(resizedCropDraws(draws, epoch, Int32Array.of(image)), width, height);
}

/**
 * The numbers that the crops of some images are made of, whatever their sizes: for each top and left in [0, 1), then the areas of ten
 * attempts, as parts of the image, then their ratios, width / height. [images, 22]
 */
export function resizedCropDraws(draws: Draws, epoch: number, images: Int32Array): Float64Array {
  const numbers = new Float64Array(images.length * NUMBERS);
  const drawn = new Float64Array(images.length);
  const put = (at: number, stream: number, of: (unit: number) => number): void => {
    draws.uniforms(stream, epoch, images, drawn);
    for (let i = 0; i < images.length; i++) numbers[i * NUMBERS + at] = of(drawn[i]!);
  };
  put(0, STREAM.resizedCropTop, (unit) => unit);
  put(1, STREAM.resizedCropLeft, (unit) => unit);
  const [least, most] = [Math.log(RATIO.least), Math.log(RATIO.most)];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    put(2 + attempt, STREAM.resizedCropArea + attempt, (unit) => between(AREA.least, AREA.most, unit));
    const ratio = (unit: number): number => Math.exp(between(least, most, unit));
    put(2 + ATTEMPTS + attempt, STREAM.resizedCropRatio + attempt, ratio);
  }
  return numbers;
}

/** The crop of an upright image by its 22 numbers. native/jpeg-image.cpp does the same where it knows the image's size. */
function resizedCropOf(numbers: Float64Array, width: number, height: number): Region {
  const [top, left] = numbers as unknown as readonly [number, number];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = width * height * numbers[2 + attempt]!;
    const ratio = numbers[2 + ATTEMPTS + attempt]!;
    const w = Math.round(Math.sqrt(area * ratio));
    const h = Math.round(Math.sqrt(area / ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    return { left: Math.floor(left * (width - w + 1)), top: Math.floor(top * (height - h + 1)), width: w, height: h };
  }
  return centre(width, height);
}

function centre(width: number, height: number): Region {
  const w = Math.min(width, Math.max(1, Math.round(height * RATIO.most)));
  const h = Math.min(height, Math.max(1, Math.round(width / RATIO.least)));
  return { left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2), width: w, height: h };
}

function between(least: number, most: number, unit: number): number {
  return least + (most - least) * unit;
}
