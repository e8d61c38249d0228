import { STREAM } from './augmentation.js';
import type { Draws } from './draws.js';
import type { Region } from './image-file.js';

const AREA = { least: 0.08, most: 1 } as const;
const RATIO = { least: 3 / 4, most: 4 / 3 } as const;
const ATTEMPTS = 10;

/**
 * The part of an upright image of width x height pixels that is shown in an epoch: torchvision's RandomResizedCrop with
 * its defaults (the crop of GoogLeNet, Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6). Its area is
 * uniform from 8 to 100 % of the image, the logarithm of width / height uniform from log 3/4 to log 4/3, its position uniform.
 * What does not fit into the image is drawn again; after ten attempts it is the largest centred part with a ratio in range.
 */
export function drawResizedCrop(draws: Draws, epoch: number, image: number, width: number, height: number): Region {
  const indices = Int32Array.of(image);
  const drawn = new Float64Array(1);
  const uniform = (stream: number): number => draws.uniforms(stream, epoch, indices, drawn)[0]!;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = width * height * between(AREA.least, AREA.most, uniform(STREAM.resizedCropArea + attempt));
    const ratio = Math.exp(
      between(Math.log(RATIO.least), Math.log(RATIO.most), uniform(STREAM.resizedCropRatio + attempt)),
    );
    const w = Math.round(Math.sqrt(area * ratio));
    const h = Math.round(Math.sqrt(area / ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const left = Math.floor(uniform(STREAM.resizedCropLeft) * (width - w + 1));
    const top = Math.floor(uniform(STREAM.resizedCropTop) * (height - h + 1));
    return { left, top, width: w, height: h };
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
