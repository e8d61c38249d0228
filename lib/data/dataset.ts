import { readCifar10 } from './cifar10.js';
import { DataError, throwIfCancelled } from './errors.js';
import { readImageFolder } from './folder.js';
import { listImageNet } from './imagenet.js';
import {
  BAD_IMAGE_POLICIES,
  type BadImageOptions,
  type Dataset,
  type ImageFiles,
  type LabelledImages,
} from './labelled-images.js';
import { requireMemory } from './memory.js';
import type { SelectionOptions } from './reading-options.js';
import { generateShapes, SHAPES_CLASSES } from './shapes.js';

export const DATASET_NAMES = ['shapes', 'cifar10', 'folder', 'imagenet'] as const;

/** A data set that `loadDataset` and recipes know. */
export type DatasetName = (typeof DATASET_NAMES)[number];

/** Which data set, how many of its images, and what its image files are made into. */
export interface LoadDatasetOptions extends BadImageOptions {
  readonly name: DatasetName;
  /** Where the files are; all but `shapes` need it. */
  readonly dataDir?: string;
  /** At most the first n images of the split. `shapes` makes exactly n (8,000 and 2,000 by default). */
  readonly trainLimit?: number;
  readonly testLimit?: number;
  /** Of `shapes`: another seed gives other images of the same kind. 0 by default. */
  readonly seed?: number;
  /** Pixels a side that image files are made into: 32 by default for `folder`, 224 for `imagenet`. The others have 32. */
  readonly imageSize?: number;
  /**
   * Pixels that the shorter side of a test image is scaled to before its centre is cut out, for `folder` and `imagenet`;
   * `imageSize` by default.
   */
  readonly testResize?: number;
  /** Width times height of the largest image file that is decoded; 178,956,970 by default. */
  readonly maxPixels?: number;
  /** Reads the test images alone: `train` is empty, and may be missing on disk. The classes are then those of the test images; default: false. */
  readonly testOnly?: boolean;
  /** Cancels listing, reading and drawing. */
  readonly signal?: AbortSignal;
}

/** Sizes of `shapes` where no limit is given. */
const SHAPES_DEFAULT_COUNT = { train: 8_000, test: 2_000 } as const;

/**
 * Loads a data set: into memory, or, of `imagenet`, the names of its files, which are read while they are used.
 *
 * Throws `DataError`: DATA_ARGUMENT for an unknown name or a bad option, DATA_NOT_FOUND for files that are missing,
 * DATA_UNREADABLE, DATA_CORRUPT and DATA_UNSUPPORTED for files that cannot be read, each with the file's name; DATA_ARGUMENT
 * before reading what memory cannot hold; DATA_CANCELLED on `signal`.
 */
export function loadDataset(
  options: LoadDatasetOptions & { name: Exclude<DatasetName, 'imagenet'> },
): Promise<Dataset<LabelledImages>>;
export function loadDataset(options: LoadDatasetOptions & { name: 'imagenet' }): Promise<Dataset<ImageFiles>>;
export function loadDataset(options: LoadDatasetOptions): Promise<Dataset>;
export async function loadDataset(options: LoadDatasetOptions): Promise<Dataset> {
  const { name, dataDir, trainLimit, testLimit, testOnly, seed, imageSize, testResize, signal } = options;
  const { maxPixels, onBadImage, reportBadImage } = options;
  requireLimit('trainLimit', trainLimit);
  requireLimit('testLimit', testLimit);
  requirePolicy(onBadImage);
  throwIfCancelled(signal);
  const policy = { maxPixels, onBadImage, reportBadImage };
  const files = { trainLimit, testLimit, testOnly, imageSize, testResize, signal, ...policy };
  switch (name) {
    case 'shapes':
      requireSide32(name, imageSize, testResize);
      requireFail(name, onBadImage);
      return loadShapes({ trainLimit, testLimit, testOnly, seed, signal });
    case 'cifar10':
      requireSide32(name, imageSize, testResize);
      requireFail(name, onBadImage);
      requireMemory32(Math.min(trainLimit ?? 50_000, 50_000), Math.min(testLimit ?? 10_000, 10_000));
      return readCifar10({ dataDir: requireDataDir(name, dataDir), trainLimit, testLimit, testOnly, signal });
    case 'folder':
      return readImageFolder({ dataDir: requireDataDir(name, dataDir), ...files });
    case 'imagenet':
      return listImageNet({ dataDir: requireDataDir(name, dataDir), ...files });
    default:
      throw new DataError('DATA_ARGUMENT', `unknown data set '${name}': expected ${DATASET_NAMES.join(', ')}`);
  }
}

/** The first `n` images, all of them where there are no more; they share memory with the given ones. Throws `DataError` for n < 1. */
export function take(images: LabelledImages, n: number): LabelledImages {
  requireLimit('n', n);
  if (n >= images.count) return images;
  const imageLength = images.channels * images.height * images.width;
  return {
    ...images,
    images: images.images.subarray(0, n * imageLength),
    labels: images.labels.subarray(0, n),
    count: n,
  };
}

interface LoadShapesOptions extends SelectionOptions {
  readonly seed?: number | undefined;
}

async function loadShapes(options: LoadShapesOptions): Promise<Dataset<LabelledImages>> {
  const { trainLimit, testLimit, testOnly = false, seed = 0, signal } = options;
  const counts = { train: trainLimit ?? SHAPES_DEFAULT_COUNT.train, test: testLimit ?? SHAPES_DEFAULT_COUNT.test };
  requireMemory32(testOnly ? 0 : counts.train, counts.test);
  const test = await generateShapes({ split: 'test', count: counts.test, seed, signal });
  return {
    name: 'shapes',
    title: 'shapes',
    classes: SHAPES_CLASSES,
    train: testOnly
      ? { ...test, images: new Uint8Array(0), labels: new Uint8Array(0), count: 0 }
      : await generateShapes({ split: 'train', count: counts.train, seed, signal }),
    test,
    normalization: { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
  };
}

function requireDataDir(name: string, dataDir: string | undefined): string {
  if (dataDir === undefined || dataDir === '') {
    throw new DataError('DATA_ARGUMENT', `${name} is read from a directory: give dataDir (--data-dir DIR)`);
  }
  return dataDir;
}

function requireLimit(option: string, limit: number | undefined): void {
  if (limit !== undefined && (!Number.isInteger(limit) || limit < 1)) {
    throw new DataError('DATA_ARGUMENT', `${option} must be an integer from 1, got ${limit}`);
  }
}

function requireMemory32(train: number, test: number): void {
  requireMemory({
    what: `${train} training and ${test} test images of 32 x 32 pixels`,
    bytes: [train, test].map((count) => count * 3 * 32 ** 2),
    instead: 'take fewer (--train-limit, --test-limit)',
  });
}

function requireFail(name: string, onBadImage: string | undefined): void {
  if (onBadImage !== 'skip') return;
  throw new DataError('DATA_ARGUMENT', `${name} has no image files: expected onBadImage 'fail' or none, got 'skip'`);
}

function requirePolicy(onBadImage: string | undefined): void {
  if (onBadImage !== undefined && !(BAD_IMAGE_POLICIES as readonly string[]).includes(onBadImage)) {
    throw new DataError(
      'DATA_ARGUMENT',
      `onBadImage must be ${BAD_IMAGE_POLICIES.map((one) => `'${one}'`).join(' or ')}, got '${onBadImage}'`,
    );
  }
}

function requireSide32(name: string, imageSize: number | undefined, testResize: number | undefined): void {
  if (imageSize !== undefined && imageSize !== 32) {
    throw new DataError('DATA_ARGUMENT', `${name} has images of 32 x 32 only, got imageSize ${imageSize}`);
  }
  if (testResize !== undefined) {
    throw new DataError(
      'DATA_ARGUMENT',
      `${name} has images of 32 x 32 only: expected no testResize, got ${testResize}`,
    );
  }
}
