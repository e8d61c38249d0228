import { createHash } from 'node:crypto';
import type { Metadata, Sharp } from 'sharp';
import { shown } from '../format.js';
import { DataError } from './errors.js';
import { withFileBytes } from './file-bytes.js';
import { kindOf } from './file-kind.js';

const MAX_SIDE = 4096;

/**
 * Pixels of the largest image that is decoded by default: where Pillow, and so torchvision, refuses an image as a
 * decompression bomb (twice the pixels of 256 MiB of RGB).
 */
const DEFAULT_MAX_PIXELS = 178_956_970;

/** A rectangle of pixels of an image that stands upright. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** What is decoded of an image file, whatever its size in the end. */
export interface DecodeOptions {
  /** Width times height of the largest image that is decoded; 178,956,970 by default. */
  readonly maxPixels?: number | undefined;
}

/** How `readImage` scales, in pixels, and the largest image that it decodes. */
export interface ReadImageOptions extends DecodeOptions {
  /** Pixels that the shorter side is scaled to before the centre is cut out; `size` by default, and not less. */
  readonly resize?: number;
}

/**
 * Decodes one JPEG or PNG file to RGB bytes [3, size, size]: turned upright (EXIF), its shorter side scaled to `resize`
 * (antialiased bilinear), its centre cut out. The file is known by its contents, whatever its name. Greyscale and CMYK are
 * converted to RGB, 16 bits to 8, transparency is dropped before scaling. Embedded colour profiles are not applied, as in
 * torchvision: that would take as long as decoding.
 *
 * Throws `DataError`: DATA_ARGUMENT for options out of range, DATA_NOT_FOUND, DATA_UNREADABLE for a file that the system
 * does not give, DATA_UNSUPPORTED for another format, for more than `maxPixels` and for more than 2 GiB, DATA_CORRUPT for what
 * cannot be decoded.
 */
export async function readImage(file: string, size: number, options: ReadImageOptions = {}): Promise<Uint8Array> {
  const { resize = size, maxPixels } = options;
  requireSide('the image size', size);
  requireResize('resize', resize, size);
  requireMaxPixels(maxPixels);
  return planar(await decodeCentre(file, size, resize, { maxPixels }), size * size);
}

/** What `readImage` reads, as [size, size, 3]. */
export function decodeCentre(
  file: string,
  size: number,
  resize: number,
  options: DecodeOptions = {},
): Promise<Uint8Array> {
  const margin = Math.round((resize - size) / 2);
  return decode(file, options, (image) => {
    const scaled = image.resize(resize, resize, { fit: 'cover', position: 'centre', kernel: 'linear' });
    return margin === 0 ? scaled : scaled.extract({ left: margin, top: margin, width: size, height: size });
  });
}

/**
 * The region that `choose` names, given the pixels of the upright image, scaled to [size, size, 3] (antialiased bilinear);
 * colours and errors are as in `readImage`.
 */
export function decodeRegion(
  file: string,
  size: number,
  choose: (width: number, height: number) => Region,
  options: DecodeOptions = {},
): Promise<Uint8Array> {
  return decode(file, options, (image, { width, height }) =>
    image.extract(choose(width, height)).resize(size, size, { fit: 'fill', kernel: 'linear' }),
  );
}

/** What was found in a whole file. */
export interface WholeImage extends Pick<ImageHeader, 'width' | 'height'> {
  /** SHA-256 of the file's bytes. */
  readonly digest: string;
}

/** Decodes a whole file as the others do, and gives its pixels, upright. Errors are as in `readImage`. */
export function decodeWhole(file: string, options: DecodeOptions = {}): Promise<WholeImage> {
  return withFileBytes(file, async (bytes) => {
    let seen = { width: 0, height: 0 };
    await decodeBytes(file, bytes, options, (image, { width, height }) => {
      seen = { width, height };
      // Small, so that little but the decoding takes time.
      return image.resize(8, 8, { fit: 'fill', kernel: 'linear' });
    });
    return { ...seen, digest: createHash('sha256').update(bytes).digest('base64') };
  });
}

/** What a file's header says of the image, after it was turned upright. */
interface ImageHeader {
  readonly width: number;
  readonly height: number;
  readonly hasAlpha: boolean;
}

type View = (upright: Sharp, header: ImageHeader) => Sharp;

function decode(file: string, options: DecodeOptions, view: View): Promise<Uint8Array> {
  return withFileBytes(file, (bytes) => decodeBytes(file, bytes, options, view));
}

async function decodeBytes(
  file: string,
  bytes: Uint8Array,
  { maxPixels = DEFAULT_MAX_PIXELS }: DecodeOptions,
  view: View,
): Promise<Uint8Array> {
  // Loaded here, so that a program that reads no image files does not need it.
  const { default: sharp } = await import('sharp');
  let header: ImageHeader;
  try {
    const image = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: false }).autoOrient();
    header = headerOf(file, await image.metadata(), maxPixels);
    const colours = header.hasAlpha ? await withoutAlpha(image, sharp) : image;
    const shownPart = view(colours, header).removeAlpha();
    return await shownPart.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer();
  } catch (error) {
    throw error instanceof DataError ? error : explain(file, bytes, error);
  }
}

/** Throws `DataError` (DATA_UNSUPPORTED) for a format that is not read and for too many pixels: before any are decoded. */
function headerOf(file: string, metadata: Metadata, maxPixels: number): ImageHeader {
  const { format, hasAlpha, autoOrient } = metadata;
  // Told by `explain`, which looks at the file.
  if (format !== 'jpeg' && format !== 'png') throw new Error(`its format is ${format}`);
  const { width, height } = autoOrient;
  if (width * height > maxPixels) {
    throw new DataError(
      'DATA_UNSUPPORTED',
      `${shown(file)} has ${width} x ${height} pixels (${megapixels(width * height)}): expected at most ` +
        `${megapixels(maxPixels)} (maxPixels, --max-pixels)`,
      { path: file },
    );
  }
  return { width, height, hasAlpha };
}

/**
 * The image as it stands, upright, without its alpha channel. Scaled with it, colours would be weighted by their
 * opacity, and the same colours come out otherwise than from an image that is not scaled.
 */
async function withoutAlpha(image: Sharp, sharp: typeof import('sharp').default): Promise<Sharp> {
  const opaque = image.removeAlpha().toColourspace('srgb').raw({ depth: 'uchar' });
  const { data, info } = await opaque.toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  return sharp(data, { raw: { width, height, channels }, limitInputPixels: false });
}

/** Faults of the machine, not of the file, by what the decoder says of them. */
const MACHINE = /out of memory|cannot allocate/i;

/** Why a file was not decoded. */
function explain(file: string, bytes: Uint8Array, error: unknown): DataError {
  const kind = kindOf(bytes);
  const options = { cause: error, path: file };
  if (!kind.isRead) {
    const code = kind.isFormat ? 'DATA_UNSUPPORTED' : 'DATA_CORRUPT';
    return new DataError(code, `${shown(file)} is ${kind.name}: expected a JPEG or PNG image`, options);
  }
  const message = (error instanceof Error ? error.message : String(error)).trim().replace(/\s*\n\s*/g, '; ');
  const told = message.replace(/^Input buffer/, 'Input file');
  // The decoder keeps one message for all threads: another file that fails at the same time may take it.
  const reason = told === '' || told === 'Unknown error' ? 'it is damaged or cut short' : told;
  const code = MACHINE.test(reason) ? 'DATA_UNREADABLE' : 'DATA_CORRUPT';
  return new DataError(code, `${shown(file)} (${kind.name}) cannot be decoded: ${reason}`, options);
}

/** [size, size, 3] to [3, size, size]. */
export function planar(pixels: Uint8Array, plane: number): Uint8Array {
  const out = new Uint8Array(3 * plane);
  for (let at = 0; at < plane; at++) {
    out[at] = pixels[3 * at]!;
    out[at + plane] = pixels[3 * at + 1]!;
    out[at + 2 * plane] = pixels[3 * at + 2]!;
  }
  return out;
}

const megapixels = (pixels: number): string =>
  pixels < 1e6 ? `${pixels} pixels` : `${(pixels / 1e6).toFixed(1)} megapixels`;

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

/** Throws `DataError` (DATA_ARGUMENT) for anything but a number of pixels; undefined is the default. */
export function requireMaxPixels(maxPixels: number | undefined): void {
  if (maxPixels !== undefined && (!Number.isSafeInteger(maxPixels) || maxPixels < 1)) {
    throw new DataError('DATA_ARGUMENT', `maxPixels must be an integer of at least 1, got ${maxPixels}`);
  }
}
