import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import type { Sharp } from 'sharp';
import { DataError } from './errors.js';

const EXTENSIONS: ReadonlySet<string> = new Set(['.jpg', '.jpeg', '.png']);
const MAX_SIDE = 4096;

/** A rectangle of pixels of an image that stands upright. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface ReadImageOptions {
  /** Pixels that the shorter side is scaled to before the centre is cut out; `size` unless told, and not less. */
  readonly resize?: number;
}

/**
 * Decodes one JPEG or PNG file to RGB bytes [3, size, size]: turned upright (EXIF), its shorter side scaled to `resize`
 * (antialiased bilinear), its centre cut out. Greyscale and CMYK are converted to RGB, 16 bits to 8, transparency is
 * dropped. Embedded colour profiles are not applied, as in torchvision: that would take as long as decoding.
 *
 * Throws `DataError`: DATA_ARGUMENT for sizes out of range, DATA_NOT_FOUND, DATA_UNSUPPORTED for another kind of file,
 * DATA_CORRUPT for one that cannot be decoded.
 */
export async function readImage(file: string, size: number, options: ReadImageOptions = {}): Promise<Uint8Array> {
  const { resize = size } = options;
  requireSide('the image size', size);
  requireResize('resize', resize, size);
  requireImageName(file);
  return planar(await decodeCentre(file, size, resize), size * size);
}

/** What `readImage` reads, as [size, size, 3]. */
export function decodeCentre(file: string, size: number, resize: number): Promise<Uint8Array> {
  const margin = Math.round((resize - size) / 2);
  return decode(file, async (image) => {
    const scaled = image.resize(resize, resize, { fit: 'cover', position: 'centre', kernel: 'linear' });
    return margin === 0 ? scaled : scaled.extract({ left: margin, top: margin, width: size, height: size });
  });
}

/**
 * The region that `choose` names, given the pixels of the upright image, scaled to [size, size, 3] (antialiased bilinear);
 * colours are as in `readImage`. Throws `DataError` (DATA_NOT_FOUND, DATA_CORRUPT).
 */
export function decodeRegion(
  file: string,
  size: number,
  choose: (width: number, height: number) => Region,
): Promise<Uint8Array> {
  return decode(file, async (image) => {
    const { width, height } = (await image.metadata()).autoOrient;
    return image.extract(choose(width, height)).resize(size, size, { fit: 'fill', kernel: 'linear' });
  });
}

async function decode(file: string, view: (upright: Sharp) => Promise<Sharp>): Promise<Uint8Array> {
  // Loaded here so that who reads no image files does without it.
  const { default: sharp } = await import('sharp');
  try {
    const shown = await view(sharp(file, { failOn: 'error', ignoreIcc: true }).autoOrient());
    return await shown.removeAlpha().toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer();
  } catch (error) {
    if (!(await isKind(file, 'isFile'))) throw new DataError('DATA_NOT_FOUND', `there is no file ${file}`);
    const reason = error instanceof Error ? error.message : String(error);
    throw new DataError('DATA_CORRUPT', `${file} cannot be decoded: ${reason}`, { cause: error });
  }
}

/** [size, size, 3] to [3, size, size]. */
function planar(pixels: Uint8Array, plane: number): Uint8Array {
  const out = new Uint8Array(3 * plane);
  for (let at = 0; at < plane; at++) {
    out[at] = pixels[3 * at]!;
    out[at + plane] = pixels[3 * at + 1]!;
    out[at + 2 * plane] = pixels[3 * at + 2]!;
  }
  return out;
}

/** Throws `DataError` (DATA_UNSUPPORTED) for a name that is none of a JPEG or PNG file. */
export function requireImageName(file: string): void {
  if (EXTENSIONS.has(extname(file).toLowerCase())) return;
  throw new DataError('DATA_UNSUPPORTED', `${file} is not read: expected ${[...EXTENSIONS].join(', ')}`);
}

/** Throws `DataError` (DATA_ARGUMENT) for anything but an integer of pixels in range. */
export function requireSide(name: string, side: number, least = 1): void {
  if (!Number.isInteger(side) || side < least || side > MAX_SIDE) {
    throw new DataError('DATA_ARGUMENT', `${name} must be an integer from ${least} to ${MAX_SIDE} pixels, got ${side}`);
  }
}

/** The same for the shorter side that a centre of `size` is cut out of. */
export function requireResize(name: string, resize: number, size: number): void {
  if (resize < size) {
    throw new DataError('DATA_ARGUMENT', `${name} must be at least the image size, ${size} pixels, got ${resize}`);
  }
  requireSide(name, resize);
}

export async function isKind(path: string, kind: 'isFile' | 'isDirectory'): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.[kind]() ?? false;
}
