import { requireOptions } from '../options.js';
import { type DatasetName, type DatasetOf, datasetOf } from './catalogue.js';
import { type DatasetOptions, requireOptionsOf } from './declaration.js';
import { DataError, throwIfCancelled } from './errors.js';
import { BAD_IMAGE_POLICIES, type LabelledImages } from './labelled-images.js';
import { slicePart } from './slice-part.js';

/** Which data set, how many of its images, and what its image files are made into. */
export interface LoadDatasetOptions<Name extends DatasetName = DatasetName> extends DatasetOptions {
  readonly name: Name;
}

const OPTIONS: readonly (keyof LoadDatasetOptions)[] = [
  ...(['name', 'dataDir', 'trainLimit', 'testLimit', 'testOnly', 'seed', 'imageSize', 'channels'] as const),
  ...(['testResize', 'normalization', 'maxPixels', 'onBadImage', 'reportBadImage', 'signal'] as const),
];

/**
 * Loads a data set: into memory, or, of `imagenet`, the names of its files, which are read while they are used. `shapes` makes
 * exactly `trainLimit` and `testLimit` images (default: 8,000 and 2,000).
 *
 * Throws `DataError`: DATA_ARGUMENT for an unknown name, a bad option or one that the data set does not have, and before reading
 * what memory cannot hold; DATA_NOT_FOUND for files that are missing; DATA_UNREADABLE, DATA_CORRUPT and DATA_UNSUPPORTED for files
 * that cannot be read, each with the file's name; DATA_CANCELLED on `signal`.
 */
export async function loadDataset<Name extends DatasetName>(given: LoadDatasetOptions<Name>): Promise<DatasetOf<Name>> {
  requireOptions(given, 'options', (problem) => new DataError('DATA_ARGUMENT', `loadDataset: ${problem}`), OPTIONS);
  const { name, ...options } = given;
  requireLimit('trainLimit', options.trainLimit);
  requireLimit('testLimit', options.testLimit);
  requirePolicy(options.onBadImage);
  throwIfCancelled(options.signal);
  const declaration = datasetOf(name);
  requireOptionsOf(declaration, options);
  return (await declaration.load(options)) as DatasetOf<Name>;
}

/** The first `n` images, all of them where there are no more; they share memory with the given ones. Throws `DataError` for n < 1. */
export function take(images: LabelledImages, n: number): LabelledImages {
  requireLimit('n', n);
  if (n >= images.count) return images;
  return slicePart(images, 0, n);
}

function requireLimit(option: string, limit: number | undefined): void {
  if (limit !== undefined && (!Number.isInteger(limit) || limit < 1)) {
    throw new DataError('DATA_ARGUMENT', `${option} must be an integer from 1, got ${limit}`);
  }
}

function requirePolicy(onBadImage: string | undefined): void {
  if (onBadImage !== undefined && !(BAD_IMAGE_POLICIES as readonly string[]).includes(onBadImage)) {
    throw new DataError(
      'DATA_ARGUMENT',
      `onBadImage must be ${BAD_IMAGE_POLICIES.map((one) => `'${one}'`).join(' or ')}, got '${onBadImage}'`,
    );
  }
}
