import { createHash } from 'node:crypto';
import type { Metadata, Sharp } from 'sharp';
import { shown } from '../format.js';
import { DECODED, decodeImages, empty, findTurboJpeg, keep, scope } from '../tensor/index.js';
import { DataError } from './errors.js';
import { ByteBudget } from './file-bytes.js';
import { kindOf } from './file-kind.js';
import { type ImagePlace, nameOf, withImageBytes } from './image-place.js';
import { coveredSize, type FileChannels, type FileShape, fileShapeOf, type ImageSize } from './image-size.js';

/**
 * Pixels of the largest image that is decoded by default: where Pillow, and so torchvision, refuses an image as a
 * decompression bomb (twice the pixels of 256 MiB of RGB).
 */
export const DEFAULT_MAX_PIXELS = 178_956_970;

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

/** The same, and what cancels the reading. */
export interface ReadingOptions extends DecodeOptions {
  readonly signal?: AbortSignal | undefined;
}

/** How `readImage` scales, in pixels, to which channels, and the largest image that it decodes. */
export interface ReadImageOptions extends DecodeOptions {
  /**
   * What the shorter side becomes before the centre is cut out; at least `size`. Default: `size`. Where height and width differ,
   * the image is scaled to cover a rectangle of their proportions, and this is its shorter side.
   */
  readonly resize?: number | undefined;
  /** 3: red, green and blue; 1: grey. Default: 3. */
  readonly channels?: FileChannels | undefined;
}

/**
 * Decodes one JPEG or PNG file to bytes [channels, height, width]: turned upright (EXIF), scaled (antialiased bilinear), so that
 * it just covers the size, or the rectangle that `resize` stands for, its centre cut out. The file is known by its contents,
 * whatever its name. Greyscale and CMYK are converted to RGB, 16 bits to 8, transparency is dropped before scaling. Embedded
 * colour profiles are not applied, as in torchvision: that would take as long as decoding.
 *
 * Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, as of Pillow and torchvision, taken after scaling.
 *
 * Throws `DataError`: DATA_ARGUMENT for options out of range, DATA_NOT_FOUND, DATA_UNREADABLE for a file that the system
 * does not give, DATA_UNSUPPORTED for another format, for more than `maxPixels` and for more than 2 GiB, DATA_CORRUPT for what
 * cannot be decoded.
 */
export async function readImage(file: string, size: ImageSize, options: ReadImageOptions = {}): Promise<Uint8Array> {
  const { shape, resize, maxPixels } = readingOf(size, options);
  return planar(await decodeCentre(file, shape, resize, { maxPixels }), shape);
}

/** `readImage` of the bytes of a file, which messages call `name`. Throws as it does, without DATA_NOT_FOUND. */
export async function decodeImage(
  name: string,
  bytes: Uint8Array,
  size: ImageSize,
  options: ReadImageOptions = {},
): Promise<Uint8Array> {
  const { shape, resize, maxPixels } = readingOf(size, options);
  return planar(await decodeCentreOf(name, bytes, shape, resize, { maxPixels }), shape);
}

function readingOf(
  imageSize: ImageSize,
  { resize, channels, maxPixels }: ReadImageOptions,
): DecodeOptions & { readonly shape: FileShape; readonly resize: number } {
  const { testResize, ...shape } = fileShapeOf({ imageSize, channels, testResize: resize }, { resizeName: 'resize' });
  requireMaxPixels(maxPixels);
  return { shape, resize: testResize, maxPixels };
}

/** What `readImage` reads, as [height, width, channels]. */
export function decodeCentre(
  place: ImagePlace,
  shape: FileShape,
  resize: number,
  { signal, ...options }: ReadingOptions = {},
): Promise<Uint8Array> {
  return withImageBytes(place, (bytes) => decodeCentreOf(nameOf(place), bytes, shape, resize, options), signal);
}

/** The same from the bytes of a file. Messages call it `name`. */
export async function decodeCentreOf(
  name: string,
  bytes: Uint8Array,
  shape: FileShape,
  resize: number,
  options: DecodeOptions = {},
): Promise<Uint8Array> {
  const pixels = await decodeJpeg(bytes, shape, resize, options);
  return pixels ?? decodeBytes(name, bytes, { ...options, channels: shape.channels, view: centre(shape, resize) });
}

/** By the addon; null where it does not: another decoder reads the file, or says why it cannot be read. */
async function decodeJpeg(
  bytes: Uint8Array,
  shape: FileShape,
  resize: number,
  { maxPixels = DEFAULT_MAX_PIXELS }: DecodeOptions,
): Promise<Uint8Array | null> {
  const kind = kindOf(bytes);
  if (kind.name !== 'JPEG' || findTurboJpeg() === null) return null;
  const { height, width, channels } = shape;
  const images = scope(() => keep(empty([1, height, width, channels], { dtype: 'uint8' })));
  try {
    const request = { images, sources: [bytes], covered: coveredSize(shape, resize), maxPixels };
    const [outcome] = await decodeImages(request).done;
    return outcome === DECODED.yes ? (images.toTypedArray() as Uint8Array) : null;
  } finally {
    images.dispose();
  }
}

/** torchvision's Resize, which rounds the longer side down, and CenterCrop, which rounds halves to even numbers. */
function centre(shape: FileShape, resize: number): View {
  const [coveredHeight, coveredWidth] = coveredSize(shape, resize);
  return (image, { height, width }) => {
    const isWide = width * coveredHeight >= height * coveredWidth;
    const longer = (covered: number, side: number, shorter: number): number =>
      Math.max(covered, Math.floor((covered * side) / shorter));
    const scaledWidth = isWide ? longer(coveredHeight, width, height) : coveredWidth;
    const scaledHeight = isWide ? coveredHeight : longer(coveredWidth, height, width);
    const left = roundedToEven((scaledWidth - shape.width) / 2);
    const top = roundedToEven((scaledHeight - shape.height) / 2);
    const scaled = image.resize(scaledWidth, scaledHeight, { fit: 'fill', kernel: 'linear' });
    return scaled.extract({ left, top, width: shape.width, height: shape.height });
  };
}

const roundedToEven = (value: number): number => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/**
 * The region that `choose` names, given the pixels of the upright image, scaled to [height, width, channels] (antialiased
 * bilinear), whatever its proportions; colours and errors are as in `readImage`.
 */
export function decodeRegion(
  place: ImagePlace,
  { channels, height, width }: FileShape,
  choose: (width: number, height: number) => Region,
  { signal, ...options }: ReadingOptions = {},
): Promise<Uint8Array> {
  const view: View = (image, whole) =>
    image.extract(choose(whole.width, whole.height)).resize(width, height, { fit: 'fill', kernel: 'linear' });
  const decode = (bytes: Uint8Array) => decodeBytes(nameOf(place), bytes, { ...options, channels, view });
  return withImageBytes(place, decode, signal);
}

/** What was found in a whole file. */
export interface WholeImage extends Pick<ImageHeader, 'width' | 'height'> {
  /** SHA-256 of the file's bytes. */
  readonly digest: string;
}

/** Decodes a whole file as the others do, and gives its pixels, upright. Errors are as in `readImage`. */
export function decodeWhole(place: ImagePlace, { signal, maxPixels }: ReadingOptions = {}): Promise<WholeImage> {
  const decode = (bytes: Uint8Array): Promise<WholeImage> =>
    withUpright(nameOf(place), bytes, maxPixels, async (image, { width, height }) => {
      await decodeToTheEnd(image);
      return { width, height, digest: createHash('sha256').update(bytes).digest('base64') };
    });
  return withImageBytes(place, decode, signal);
}

/** Decodes all of an image, which throws where it is damaged. */
export async function decodeToTheEnd(image: Sharp): Promise<void> {
  // Small, so that little but the decoding takes time.
  const shownPart = image.resize(8, 8, { fit: 'fill', kernel: 'linear' }).removeAlpha();
  await shownPart.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer();
}

/** What a file's header says of the image. Sides are those after it was turned upright. */
export interface ImageHeader {
  readonly width: number;
  readonly height: number;
  readonly hasAlpha: boolean;
  readonly format: 'jpeg' | 'png';
  /** Whether its pixels lie as they are shown. */
  readonly isUpright: boolean;
  readonly isGrey: boolean;
}

type View = (upright: Sharp, header: ImageHeader) => Sharp;

function decodeBytes(
  file: string,
  bytes: Uint8Array,
  { maxPixels, channels, view }: DecodeOptions & { readonly channels: FileChannels; readonly view: View },
): Promise<Uint8Array> {
  return withUpright(file, bytes, maxPixels, async (image, header) => {
    const shownPart = view(image, header).removeAlpha();
    const pixels = await shownPart.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer();
    return channels === 1 ? lumaOf(pixels) : pixels;
  });
}

/** Calls `use` with the image of a file, upright and without its alpha channel. Errors are as in `readImage`. */
export async function withUpright<T>(
  file: string,
  bytes: Uint8Array,
  maxPixels: number | undefined,
  use: (upright: Sharp, header: ImageHeader) => Promise<T>,
): Promise<T> {
  // Loaded here, so that a program that reads no image files does not need it.
  const { default: sharp } = await import('sharp');
  try {
    const image = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: false }).autoOrient();
    const header = headerOf(file, await image.metadata(), maxPixels);
    if (!header.hasAlpha) return await use(image, header);
    // All that are begun would have their whole pixels in memory before the first is used.
    return await wholePixels.during(3 * header.width * header.height, async () =>
      use(await withoutAlpha(image, sharp), header),
    );
  } catch (error) {
    throw error instanceof DataError ? error : explain(file, bytes, error);
  }
}

/** Throws `DataError` (DATA_UNSUPPORTED) for a format that is not read and for too many pixels: before any are decoded. */
function headerOf(file: string, metadata: Metadata, maxPixels = DEFAULT_MAX_PIXELS): ImageHeader {
  const { format, hasAlpha, autoOrient, orientation = 1, space } = metadata;
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
  const isGrey = space === 'b-w' || space === 'grey16';
  return { width, height, hasAlpha, format, isUpright: orientation === 1, isGrey };
}

/**
 * The upright image without its alpha channel. Scaled with alpha, colours would be weighted by their opacity and differ from
 * those of an image that is not scaled.
 */
async function withoutAlpha(image: Sharp, sharp: typeof import('sharp').default): Promise<Sharp> {
  const opaque = image.removeAlpha().toColourspace('srgb').raw({ depth: 'uchar' });
  const { data, info } = await opaque.toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  return sharp(data, { raw: { width, height, channels }, limitInputPixels: false });
}

/** Of images whose pixels are in memory as a whole; a larger one is there alone. */
const wholePixels = new ByteBudget(256 * 2 ** 20);

/** Messages of the decoder for faults of the machine, not of the file. */
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

/** [n, 3] to [n], in Pillow's integer arithmetic: grey pixels stay as they are. */
function lumaOf(pixels: Uint8Array): Uint8Array {
  const out = new Uint8Array(pixels.length / 3);
  for (let at = 0; at < out.length; at++) {
    out[at] = (19_595 * pixels[3 * at]! + 38_470 * pixels[3 * at + 1]! + 7_471 * pixels[3 * at + 2]! + 32_768) >> 16;
  }
  return out;
}

/** [height, width, channels] to [channels, height, width]. */
export function planar(pixels: Uint8Array, { channels, height, width }: FileShape): Uint8Array {
  if (channels === 1) return pixels;
  const plane = height * width;
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

/** Throws `DataError` (DATA_ARGUMENT) for anything but a number of pixels; undefined is the default. */
export function requireMaxPixels(maxPixels: number | undefined): void {
  if (maxPixels !== undefined && (!Number.isSafeInteger(maxPixels) || maxPixels < 1)) {
    throw new DataError('DATA_ARGUMENT', `maxPixels must be an integer of at least 1, got ${maxPixels}`);
  }
}
