import type { Device } from '../tensor/index.js';
import { DeviceImages } from './batches.js';
import { DataError } from './errors.js';
import type { BatchRange, ImageSource } from './image-source.js';
import type { DatasetPart, ImageFiles } from './labelled-images.js';
import { OpenedFile } from './stored-images.js';
import { StreamedImages } from './streamed-images.js';

/** The device that batches are given on, and what training shows. */
export interface OpenImagesOptions {
  readonly device: Device;
  /** Whether training shows random parts of the files, scaled; default: false. */
  readonly randomResizedCrop?: boolean;
  /** Whether training shows the files mirrored by the draws of `randomHorizontalFlip`, which is then not to be applied; default: false. */
  readonly horizontalFlip?: boolean;
}

/**
 * The source of a part of a data set. Images in memory are held in the device's memory; files are read from disk. Throws
 * `DataError` (DATA_ARGUMENT) for random resized crops and flips of what is not image files, and for a source of the caller's on
 * another device. Dispose it; that leaves a source of the caller's as it is.
 */
export function openImages(
  part: DatasetPart,
  { device, randomResizedCrop = false, horizontalFlip = false }: OpenImagesOptions,
): ImageSource {
  if (isImageFiles(part)) return new StreamedImages(part, { device, randomResizedCrop, horizontalFlip });
  if (randomResizedCrop) requireImageFiles(part);
  if (horizontalFlip) {
    throw new DataError(
      'DATA_ARGUMENT',
      'horizontalFlip: expected false for images that are no files, got true; randomHorizontalFlip mirrors those',
    );
  }
  if ('file' in part) return new OpenedFile(part, device);
  return 'source' in part ? borrowed(part.source, device) : new DeviceImages(part, device);
}

function borrowed(source: ImageSource, device: Device): ImageSource {
  if (source.labels.device !== device) {
    throw new DataError(
      'DATA_ARGUMENT',
      `expected a source of images on ${device}, where the network is, got one on ${source.labels.device}`,
    );
  }
  return {
    count: source.count,
    labels: source.labels,
    trainingBatches: (pass) => source.trainingBatches(pass),
    batches: (batchSize, range) => {
      const all = source.batches(batchSize);
      return range === undefined ? all : those(all, range);
    },
    dispose: () => {},
  };
}

/** The batches of a range. A source of the caller's need not know of ranges. */
async function* those<T>(batches: AsyncIterable<T>, { start, length }: BatchRange): AsyncGenerator<T> {
  let number = 0;
  if (length === 0) return;
  for await (const batch of batches) {
    if (number >= start) yield batch;
    if (++number === start + length) return;
  }
}

/** Throws `DataError` (DATA_ARGUMENT) for images that are no files, of which no random resized crops can be cut. */
export function requireImageFiles(part: DatasetPart): void {
  if (isImageFiles(part)) return;
  throw new DataError(
    'DATA_ARGUMENT',
    'augmentation.randomResizedCrop: expected false for images of one size, got true; ' +
      'it cuts parts out of image files, as of imagenet',
  );
}

/** Whether a part is in memory, whole, as what it is trained on. */
export const isInMemory = (part: DatasetPart): boolean => 'images' in part || 'vectors' in part;

/** Whether a part is files that are decoded whenever they are used. */
export function isImageFiles(part: DatasetPart): part is ImageFiles {
  return 'names' in part;
}
