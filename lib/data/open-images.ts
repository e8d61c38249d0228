import type { Device } from '../tensor/index.js';
import { DeviceImages } from './batches.js';
import { DataError } from './errors.js';
import type { ImageSource } from './image-source.js';
import type { DatasetPart, ImageFiles } from './labelled-images.js';
import { StreamedImages } from './streamed-images.js';

/** The device that batches are given on, and what training shows. */
export interface OpenImagesOptions {
  readonly device: Device;
  /** Whether training shows random parts of the files, scaled; default: false. */
  readonly randomResizedCrop?: boolean;
}

/**
 * The source that gives out a part of a data set: what is in memory from the device's memory, files from disk. Throws
 * `DataError` (DATA_ARGUMENT) for random resized crops of what is in memory. Dispose it.
 */
export function openImages(part: DatasetPart, { device, randomResizedCrop = false }: OpenImagesOptions): ImageSource {
  if (isImageFiles(part)) return new StreamedImages(part, { device, randomResizedCrop });
  if (randomResizedCrop) requireImageFiles(part);
  return new DeviceImages(part, device);
}

/** Throws `DataError` (DATA_ARGUMENT) where random resized crops are asked for of what is in memory. */
export function requireImageFiles(part: DatasetPart): void {
  if (isImageFiles(part)) return;
  throw new DataError(
    'DATA_ARGUMENT',
    'augmentation.randomResizedCrop: expected false for a data set that is read into memory at one size, got true; ' +
      'it cuts parts out of image files, as of imagenet',
  );
}

/** Whether a part is files that are decoded whenever they are used. */
export function isImageFiles(part: DatasetPart): part is ImageFiles {
  return 'names' in part;
}
