// What image files are made into: channels, height and width.
import { shown } from '../schema.js';
import { DataError } from './errors.js';

const MAX_SIDE = 4096;

/** Height and width in pixels: of equal sides one number. */
export type ImageSize = number | readonly [height: number, width: number];

/** Throws `DataError` (DATA_ARGUMENT) for a list of another length. */
export function sidesOf(size: ImageSize): readonly [height: number, width: number] {
  if (!Array.isArray(size)) return [size as number, size as number];
  if (size.length === 2) return size as [number, number];
  throw new DataError('DATA_ARGUMENT', `the image size must be a number or [height, width], got ${shown(size)}`);
}

/** The other way round: one number where the sides are equal. */
export const sizeOf = (height: number, width: number): number | [height: number, width: number] =>
  height === width ? height : [height, width];

/** As messages have it: 32, or 32 x 48. */
export const shownSize = ([height, width]: readonly [number, number]): string =>
  height === width ? `${height}` : `${height} x ${width}`;

/** Channels that image files can be decoded to: red, green and blue, or grey. */
export const FILE_CHANNELS = [3, 1] as const;
/** Channels that image files are decoded to: 3, red, green and blue, or 1, grey. */
export type FileChannels = (typeof FILE_CHANNELS)[number];

/** What an image file is made into. */
export interface FileShape {
  readonly channels: FileChannels;
  /** Pixels. */
  readonly height: number;
  readonly width: number;
}

/** Options of how image files are read. */
export interface FileShapeOptions {
  readonly imageSize: ImageSize;
  /** Default: 3. */
  readonly channels?: FileChannels | undefined;
  /** What the shorter side of `coveredSize` is; default: that of `imageSize`. */
  readonly testResize?: number | undefined;
}

/** The shape, and `testResize` in pixels. Throws `DataError` (DATA_ARGUMENT) for what is out of range, by name. */
export function fileShapeOf(
  { imageSize, channels = 3, testResize }: FileShapeOptions,
  { resizeName = 'testResize' }: { resizeName?: string } = {},
): FileShape & { readonly testResize: number } {
  requireSize('the image size', imageSize);
  if (!FILE_CHANNELS.includes(channels)) {
    throw new DataError('DATA_ARGUMENT', `channels must be ${FILE_CHANNELS.join(' or ')}, got ${shown(channels)}`);
  }
  const sides = sidesOf(imageSize);
  if (testResize !== undefined) requireResize(resizeName, testResize, sides);
  const [height, width] = sides;
  return { channels, height, width, testResize: testResize ?? Math.min(height, width) };
}

/**
 * The rectangle that an image is scaled to cover before its centre, height x width, is cut out. It has the same proportions; its
 * shorter side is `resize`, and its other side is rounded.
 */
export function coveredSize(
  { height, width }: Pick<FileShape, 'height' | 'width'>,
  resize: number,
): readonly [height: number, width: number] {
  const shorter = Math.min(height, width);
  return [Math.round((height * resize) / shorter), Math.round((width * resize) / shorter)];
}

/** Throws `DataError` (DATA_ARGUMENT) for anything but a number of pixels in range, or two. */
function requireSize(name: string, size: ImageSize): void {
  if (!Array.isArray(size)) {
    requireSide(name, size as number);
    return;
  }
  if (size.length !== 2) {
    throw new DataError('DATA_ARGUMENT', `${name} must be one number of pixels or [height, width], got ${shown(size)}`);
  }
  for (const [i, side] of ['height', 'width'].entries()) requireSide(`the ${side} of ${name}`, size[i]);
}

function requireSide(name: string, side: number): void {
  if (!Number.isInteger(side) || side < 1 || side > MAX_SIDE) {
    throw new DataError('DATA_ARGUMENT', `${name} must be an integer from 1 to ${MAX_SIDE} pixels, got ${shown(side)}`);
  }
}

/** The shorter side must hold that of the image, and neither side may be beyond what is decoded. */
function requireResize(name: string, resize: number, sides: readonly [number, number]): void {
  const [shorter, longer] = [Math.min(...sides), Math.max(...sides)];
  if (resize < shorter) {
    const what = shorter === longer ? 'the image size' : 'the shorter side of the image size';
    throw new DataError('DATA_ARGUMENT', `${name} must be at least ${what}, ${shorter} pixels, got ${resize}`);
  }
  requireSide(name, resize);
  const [height, width] = coveredSize({ height: sides[0], width: sides[1] }, resize);
  requireSide(`the longer side that ${name} stands for, ${height} x ${width},`, Math.max(height, width));
}
