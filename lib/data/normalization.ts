// Mean and standard deviation of each channel of the training images, where they are not given.
import { shown } from '../schema.js';
import { scope } from '../tensor/index.js';
import { ReadableImages } from './bad-images.js';
import { DataError } from './errors.js';
import { serveEventLoop } from './event-loop.js';
import { decodeCentre } from './image-file.js';
import { placeOf } from './image-place.js';
import type { ImageFiles, ImagePart, LabelledImages, Normalization } from './labelled-images.js';
import { forEachIndex } from './parallel.js';
import type { ImageFileOptions } from './reading-options.js';
import { chunksOf, imageLengthOf } from './stored-images.js';

/** Image files that are looked at: enough for three digits, and not an hour's work. */
const MOST_FILES = 10_000;
/** Values between which the event loop is served. */
const VALUES_AT_A_TIME = 2 ** 22;

/** Sums over channels: integers of up to 255^2, which doubles hold exactly up to 10^11 of them, in whatever order they come. */
class ChannelSums {
  readonly #sums: Float64Array;
  readonly #squares: Float64Array;
  #values = 0;

  constructor(readonly channels: number) {
    this.#sums = new Float64Array(channels);
    this.#squares = new Float64Array(channels);
  }

  /** Pixels [n, channels, plane]. */
  addPlanes(pixels: Uint8Array, plane: number): void {
    for (let start = 0, channel = 0; start < pixels.length; start += plane, channel = (channel + 1) % this.channels) {
      let sum = 0;
      let squares = 0;
      for (let at = start; at < start + plane; at++) {
        sum += pixels[at]!;
        squares += pixels[at]! ** 2;
      }
      this.#sums[channel]! += sum;
      this.#squares[channel]! += squares;
    }
    this.#values += pixels.length / this.channels;
  }

  /** Pixels [n, channels]. */
  addInterleaved(pixels: Uint8Array): void {
    for (let channel = 0; channel < this.channels; channel++) {
      for (let at = channel; at < pixels.length; at += this.channels) {
        this.#sums[channel]! += pixels[at]!;
        this.#squares[channel]! += pixels[at]! ** 2;
      }
    }
    this.#values += pixels.length / this.channels;
  }

  get normalization(): Normalization {
    const mean = Array.from(this.#sums, (sum) => sum / this.#values);
    return {
      mean: mean.map((average) => average / 255),
      // A channel that is the same everywhere stays 0.
      std: mean.map(
        (average, channel) => Math.sqrt(Math.max(0, this.#squares[channel]! / this.#values - average ** 2)) / 255 || 1,
      ),
    };
  }
}

/** Of images in memory, all at once. */
export function normalizationInMemory({ images, channels, height, width }: LabelledImages): Normalization {
  const sums = new ChannelSums(channels);
  sums.addPlanes(images, height * width);
  return sums.normalization;
}

/** Of all images of a part; of image files, of at most 10,000, evenly spaced. The event loop is served in between. */
export async function normalizationOf(part: ImagePart, signal: AbortSignal | undefined): Promise<Normalization> {
  if ('names' in part) return normalizationOfFiles(part, signal);
  const sums = new ChannelSums(part.channels);
  const plane = part.height * part.width;
  if ('images' in part) {
    const atATime = Math.ceil(VALUES_AT_A_TIME / imageLengthOf(part)) * imageLengthOf(part);
    for (let start = 0; start < part.images.length; start += atATime) {
      sums.addPlanes(part.images.subarray(start, start + atATime), plane);
      await serveEventLoop(signal);
    }
  } else if ('file' in part) {
    for await (const { bytes } of chunksOf(part)) {
      sums.addPlanes(bytes, plane);
      await serveEventLoop(signal);
    }
  } else {
    const batchSize = Math.ceil(VALUES_AT_A_TIME / imageLengthOf(part));
    for await (const batch of part.source.batches(batchSize)) {
      const pixels = scope(() => batch.tensors().images.contiguous().toTypedArray());
      sums.addPlanes(pixels as Uint8Array, plane);
      await serveEventLoop(signal);
    }
  }
  return sums.normalization;
}

/**
 * Mean and standard deviation of ImageNet's training images, as published with torchvision's models: what photographs are
 * usually normalised with.
 */
export const IMAGENET_NORMALIZATION: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/**
 * The normalisation of a data set of image files: the given one; else ImageNet's for red, green and blue, or that of the training
 * images for grey. Throws `DataError` (DATA_ARGUMENT) where the training images are needed and not read, and for another number
 * of channels.
 */
export async function normalizationOfPhotographs(
  train: LabelledImages | ImageFiles,
  { normalization, testOnly = false, signal }: Pick<ImageFileOptions, 'normalization' | 'testOnly' | 'signal'>,
): Promise<Normalization> {
  const { channels } = train;
  if (normalization !== undefined) {
    requireNormalization(normalization, { count: channels, name: 'normalization' });
    return normalization;
  }
  if (channels === 3) return IMAGENET_NORMALIZATION;
  if (testOnly) {
    throw new DataError(
      'DATA_ARGUMENT',
      'normalization: expected a mean and std for grey images whose training images are not read, got nothing',
    );
  }
  return normalizationOf(train, signal);
}

async function normalizationOfFiles(files: ImageFiles, signal: AbortSignal | undefined): Promise<Normalization> {
  const sums = new ChannelSums(files.channels);
  const readable = new ReadableImages(files);
  const { testResize, maxPixels, count } = files;
  const looked = Math.min(count, MOST_FILES);
  await forEachIndex(
    looked,
    async (i) => {
      const index = Math.floor((i * count) / looked);
      const decode = (_: string, at: number): Promise<Uint8Array> =>
        decodeCentre(placeOf(files, at), files, testResize, { maxPixels, signal });
      sums.addInterleaved(await readable.read(index, decode));
    },
    { signal },
  );
  return sums.normalization;
}

export interface RequireNormalizationOptions {
  readonly count: number;
  /** What there are so many of; default: channels. */
  readonly each?: 'channel' | 'value';
  /** For messages; default: data.normalization. */
  readonly name?: string;
}

/** Throws `DataError` (DATA_ARGUMENT) for a normalisation that is not of so many channels, or values of a vector. */
export function requireNormalization(
  given: Normalization,
  { count, each = 'channel', name: whole = 'data.normalization' }: RequireNormalizationOptions,
): void {
  for (const name of ['mean', 'std'] as const) {
    const isRight = (value: unknown): boolean => Number.isFinite(value) && (name === 'mean' || Number(value) > 0);
    const values: unknown = given?.[name];
    if (Array.isArray(values) && values.length === count && values.every(isRight)) continue;
    throw new DataError(
      'DATA_ARGUMENT',
      `${whole}.${name}: expected ${count} ${name === 'std' ? 'positive ' : ''}numbers, one a ${each}, ` +
        `got ${shown(values)}`,
    );
  }
}
