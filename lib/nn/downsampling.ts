import type { Tensor } from '../tensor/index.js';
import { ModuleError } from './errors.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

function checkEven(input: Tensor): [number, number, number, number] {
  const [batch, channels, height, width] = input.shape as [number, number, number, number];
  if (input.dim !== 4 || height % 2 !== 0 || width % 2 !== 0) {
    throw new ModuleError(
      `InvertibleDownsampling: expected [batch, channels, even height, even width], got [${input.shape.join(', ')}]`,
    );
  }
  return [batch, channels, height, width];
}

/**
 * Moves each 2x2 square of pixels into channels: [batch, C, H, W] to [batch, 4C, H/2, W/2], with output channel
 * (dy * 2 + dx) * C + c from input channel c at offset (dy, dx) (paper, section 4.1). This is not pixel_unshuffle, whose
 * order is c * 4 + dy * 2 + dx. Throws ModuleError for an odd height or width.
 */
export function invertibleDownsample(input: Tensor): Tensor {
  const [batch, channels, height, width] = checkEven(input);
  return input
    .reshape([batch, channels, height / 2, 2, width / 2, 2])
    .permute([0, 3, 5, 1, 2, 4])
    .reshape([batch, 4 * channels, height / 2, width / 2]);
}

/** The inverse of `invertibleDownsample`: [batch, 4C, H, W] to [batch, C, 2H, 2W]. */
export function invertibleUpsample(input: Tensor): Tensor {
  const [batch, channels, height, width] = input.shape as [number, number, number, number];
  if (input.dim !== 4 || channels % 4 !== 0) {
    throw new ModuleError(
      `invertibleUpsample: expected [batch, a multiple of 4 channels, height, width], got [${input.shape.join(', ')}]`,
    );
  }
  return input
    .reshape([batch, 2, 2, channels / 4, height, width])
    .permute([0, 3, 4, 1, 5, 2])
    .reshape([batch, channels / 4, 2 * height, 2 * width]);
}

/** `invertibleDownsample` as a module. */
export class InvertibleDownsampling extends Module {
  forward(input: Tensor): Tensor {
    return invertibleDownsample(input);
  }
}

declareTraits(InvertibleDownsampling, { anyDtype: true, fixed: true });
