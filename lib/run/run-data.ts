// The data that a recipe names.
import {
  DataError,
  type Dataset,
  type InMemoryData,
  inMemoryDataset,
  type LabelledImages,
  type LoadDatasetOptions,
  loadDataset,
  requireImageFiles,
  take,
} from '../data/index.js';
import { type Recipe, RecipeError } from '../recipe/index.js';
import type { BadImageLog } from './bad-image-log.js';

/** What a recipe says of its data, as `loadDataset` takes it. */
export function datasetOptions(dataset: Recipe['dataset']): LoadDatasetOptions {
  const { name, dataDir, trainLimit, testLimit, imageSize, testResize, maxPixels, onBadImage } = dataset;
  return {
    ...{ name, imageSize, onBadImage },
    ...(dataDir === null ? {} : { dataDir }),
    ...(trainLimit === null ? {} : { trainLimit }),
    ...(testLimit === null ? {} : { testLimit }),
    ...(testResize === null ? {} : { testResize }),
    ...(maxPixels === null ? {} : { maxPixels }),
  };
}

export interface RecipeDataOptions {
  readonly signal?: AbortSignal | undefined;
  readonly badImages: BadImageLog;
  /** Of a run that goes on: where it is. */
  readonly runDirectory?: string;
  /** The images of a recipe whose data set is one's own. */
  readonly data?: InMemoryData | undefined;
}

/** Throws DataError, also where the recipe's augmentation needs image files and there are none. */
export async function loadRecipeDataset(
  { dataset, augmentation }: Recipe,
  { data, ...options }: RecipeDataOptions,
): Promise<Dataset> {
  const loaded = await (data === undefined ? loadNamed(dataset, options) : limited(ownDataset(dataset, data), dataset));
  // Before the run directory is made, too.
  if (augmentation.randomResizedCrop) requireImageFiles(loaded.train);
  return loaded;
}

function loadNamed(
  dataset: Recipe['dataset'],
  { signal, badImages, runDirectory }: Omit<RecipeDataOptions, 'data'>,
): Promise<Dataset> {
  const options = {
    ...datasetOptions(dataset),
    reportBadImage: badImages.add,
    ...(signal === undefined ? {} : { signal }),
  };
  return runDirectory === undefined ? loadDataset(options) : loadRunData(runDirectory, dataset.dataDir, options);
}

function ownDataset({ name }: Recipe['dataset'], data: InMemoryData): Dataset<LabelledImages> {
  if (name === 'own') return inMemoryDataset(data);
  throw new RecipeError(`dataset.name: expected own for images that are given as data, got ${name}`);
}

/** The first images of each part, as of any data set. */
function limited(
  { train, test, ...others }: Dataset<LabelledImages>,
  { trainLimit, testLimit }: Recipe['dataset'],
): Dataset<LabelledImages> {
  return { ...others, train: take(train, trainLimit ?? train.count), test: take(test, testLimit ?? test.count) };
}

/** `loadDataset` of a run's own data: where it is not found, the error says how to tell where it has gone. */
export async function loadRunData(
  directory: string,
  dataDir: string | null,
  options: LoadDatasetOptions,
): Promise<Dataset> {
  try {
    return await loadDataset(options);
  } catch (error) {
    const isMissing = error instanceof DataError && error.code === 'DATA_NOT_FOUND' && options.dataDir === dataDir;
    if (!isMissing) throw error;
    const hint = `${directory} was trained on data in ${dataDir}; if it has moved, say where to with --data-dir DIR`;
    throw new DataError(error.code, `${error.message}; ${hint}`, { cause: error });
  }
}
