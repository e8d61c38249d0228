// 2-D convolution. Where maps are nearly as small as a square kernel, the same sums are found in quicker ways.
import { cat, isCuda, type Tensor } from '../tensor/index.js';
import type { Pair } from './layer-options.js';

export interface Geometry {
  readonly stride: Pair;
  readonly padding: Pair;
  /** Default: 1. */
  readonly dilation?: Pair;
  /** Default: 1. */
  readonly groups?: number;
}

/** A stride and padding alike in height and width. */
interface Square {
  readonly stride: number;
  readonly padding: number;
}

/** Null where the quicker ways would be wrong: they need a square kernel, one group and no dilation. */
function squareOf(weight: Tensor, { stride, padding, dilation = 1, groups = 1 }: Geometry): Square | null {
  if (typeof stride !== 'number' || typeof padding !== 'number') return null;
  const [, , height, width] = weight.shape;
  return dilation === 1 && groups === 1 && height === width ? { stride, padding } : null;
}

/**
 * Where weights are many and an image has few positions, or all images together have, a product of matrices is quicker than
 * LibTorch's convolution on the CPU (measured for 2 x 2 to 14 x 14 positions and 256 x 256 to 1,024 x 1,024 channels),
 * presumably since that one reads the weights again for each image.
 */
const worthAProduct = (weights: { inputs: number; out: number }, positions: number, batch: number): boolean =>
  weights.inputs * weights.out >= 512 * 1024 && (positions <= 4 || batch * positions <= 512);

const outputSize = (input: number, kernel: number, { stride, padding }: Square): number =>
  Math.floor((input + 2 * padding - kernel) / stride) + 1;

/** How many of the kernel's first rows, and as many of its last, meet only padding at every position. */
function idleRows(input: number, kernel: number, { stride, padding }: Square, positions: number): number {
  const lastStart = (positions - 1) * stride;
  return Math.max(0, Math.min(padding - lastStart, kernel - padding - input));
}

/** The windows of [batch, in, height, width], one row for each position: [batch * positions, kernel * kernel * in]. */
function windows(input: Tensor, kernel: number, padding: number, [height, width]: readonly [number, number]): Tensor {
  const padded = input.permute([0, 2, 3, 1]).pad([0, 0, padding, padding, padding, padding]);
  const shifted: Tensor[] = [];
  for (let row = 0; row < kernel; row++) {
    for (let column = 0; column < kernel; column++) {
      shifted.push(padded.narrow(1, row, height).narrow(2, column, width));
    }
  }
  const [batch, channels] = input.shape as [number, number];
  return cat(shifted, { dim: 3 }).reshape([batch * height * width, kernel * kernel * channels]);
}

/**
 * The convolution of [batch, in, height, width] by [out, in / groups, kernel height, kernel width]: torch.nn.functional.conv2d,
 * whose sums may be taken in another order. Throws LibTorch's error for shapes that do not fit.
 */
export function convolve(input: Tensor, weight: Tensor, bias: Tensor | null, geometry: Geometry): Tensor {
  const square = squareOf(weight, geometry);
  if (square === null) return input.conv2d(weight, bias, geometry);
  const [batch, channels, height, width] = input.shape as [number, number, number, number];
  const [out, inputs, kernel] = weight.shape as [number, number, number];
  const { stride, padding } = square;
  const positions = [outputSize(height, kernel, square), outputSize(width, kernel, square)] as const;
  const isValid = input.dim === 4 && channels === inputs && Math.min(...positions) >= 1;
  if (!isValid || kernel === 1) return input.conv2d(weight, bias, geometry);

  const idle = Math.min(idleRows(height, kernel, square, positions[0]), idleRows(width, kernel, square, positions[1]));
  if (idle > 0) {
    // Cut as channels-last, so that the gradient comes in the layout of the weight and is not copied into it.
    const left = kernel - 2 * idle;
    const met = weight.permute([0, 2, 3, 1]).narrow(1, idle, left).narrow(2, idle, left).permute([0, 3, 1, 2]);
    return input.conv2d(met, bias, { stride, padding: padding - idle });
  }
  if (stride === 1 && !isCuda(input.device) && worthAProduct({ inputs, out }, positions[0] * positions[1], batch)) {
    const rows = weight.permute([0, 2, 3, 1]).reshape([out, kernel * kernel * inputs]);
    const products = windows(input, kernel, padding, positions).linear(rows, bias);
    return products.reshape([batch, ...positions, out]).permute([0, 3, 1, 2]);
  }
  return input.conv2d(weight, bias, geometry);
}
