// The data that a recipe names.
import {
  DataError,
  type Dataset,
  datasetOf,
  type LoadDatasetOptions,
  loadDataset,
  loadOwnData,
  type Normalization,
  type OwnData,
  requireImageFiles,
} from '../data/index.js';
import { type Recipe, RecipeError } from '../recipe/index.js';
import type { Device } from '../tensor/index.js';
import type { BadImageLog } from './bad-image-log.js';
import type { DataBuilder } from './code-module.js';

/** A recipe's data options for `loadDataset`. The normalisation of grey images is computed; that of an existing run is kept. */
export function datasetOptions(dataset: Recipe['dataset'], normalization?: Normalization): LoadDatasetOptions {
  const { name, dataDir, trainLimit, testLimit, imageSize, channels, testResize, maxPixels, onBadImage } = dataset;
  const isGrey = channels === 1 && datasetOf(name).hasImageFiles;
  return {
    ...{ name, onBadImage },
    ...(imageSize === null ? {} : { imageSize }),
    ...(channels === null ? {} : { channels }),
    ...(isGrey && normalization !== undefined ? { normalization } : {}),
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
  /** The path of a run that is resumed. */
  readonly runDirectory?: string;
  /** The normalisation in the record of a run that is resumed. */
  readonly normalization?: Normalization | undefined;
  /** The images of a recipe whose data set is one's own. */
  readonly own?: OwnDataOptions | undefined;
}

/** Data of one's own, and what is made of them. */
export interface OwnDataOptions {
  readonly data: OwnData | DataBuilder;
  readonly device: Device;
  /** The folder of images that are kept in a file. */
  readonly folder: string;
  /** The normalisation in the record of a run that is resumed. */
  readonly normalization?: Normalization | undefined;
  readonly testOnly?: boolean;
}

/** Throws DataError, also where the recipe's augmentation needs image files and there are none. */
export async function loadRecipeDataset(
  { dataset, augmentation }: Recipe,
  { own, ...options }: RecipeDataOptions,
): Promise<Dataset> {
  const { signal, badImages } = options;
  const loaded = await (own === undefined
    ? loadNamed(dataset, options)
    : loadOwn(dataset, own, { signal, reportBadImage: badImages.add }));
  // Before the first step.
  if (augmentation.randomResizedCrop) requireImageFiles(loaded.train);
  return loaded;
}

function loadNamed(
  dataset: Recipe['dataset'],
  { signal, badImages, runDirectory, normalization }: Omit<RecipeDataOptions, 'own'>,
): Promise<Dataset> {
  const options = {
    ...datasetOptions(dataset, normalization),
    reportBadImage: badImages.add,
    ...(signal === undefined ? {} : { signal }),
  };
  return runDirectory === undefined ? loadDataset(options) : loadRunData(runDirectory, dataset.dataDir, options);
}

/**
 * Data of one's own for a recipe that asks for it. Throws RecipeError where the recipe asks for another data set, and DataError.
 */
export async function loadOwn(
  dataset: Recipe['dataset'],
  { data, device, folder, normalization, testOnly = false }: OwnDataOptions,
  { signal, reportBadImage }: Pick<LoadDatasetOptions, 'signal' | 'reportBadImage'>,
): Promise<Dataset> {
  const { name, dataDir: _, ...options } = datasetOptions(dataset);
  if (name !== 'own')
    throw new RecipeError(`dataset.name: expected own for images that are given as data, got ${name}`);
  const { imageSize, channels } = dataset;
  const request = { options: structuredClone(dataset.options ?? {}), imageSize, channels, testOnly, device, signal };
  const given = typeof data === 'function' ? await data(request) : data;
  return loadOwnData(given, { ...options, imageSize, testOnly, folder, normalization, signal, reportBadImage });
}

/** `loadDataset` for a run's own data. Where it is not found, the error says how to give its new path. */
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
