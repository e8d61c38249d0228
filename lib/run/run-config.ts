import { cpus } from 'node:os';
import { packageVersion } from '#scripts/support/paths.mjs';
import { type DataIdentity, datasetOf, type Normalization } from '../data/index.js';
import { ModelError, type Network, type NetworkBuilder } from '../models/index.js';
import { buildNetwork, type Precision, parseRecipe, type Recipe, RecipeError } from '../recipe/index.js';
import { buildInfo, type Device, getThreads, isCuda } from '../tensor/index.js';
import { RunDirectoryError } from './errors.js';
import type { RunConfig } from './record.js';
import { RunDirectory } from './run-directory.js';

/** The recipe of an existing run. Throws RunDirectoryError. */
export async function recipeOfRun(runDirectory: string): Promise<Recipe> {
  const directory = RunDirectory.open(runDirectory);
  return recordedRecipe(directory.config, await directory.readConfig());
}

/** The recipe in the record of a run. Throws RunDirectoryError, naming the file that has it and the value, for one that is none. */
export function recordedRecipe(file: string, config: { readonly recipe: unknown }): Recipe {
  try {
    return withoutIdleOptions(parseRecipe(config.recipe));
  } catch (error) {
    if (!(error instanceof RecipeError)) throw error;
    throw new RunDirectoryError(`${file}: recipe: ${error.message}`, { cause: error });
  }
}

/**
 * Earlier versions recorded options that a data set does not have and that had no effect. Now they are refused where they are
 * given.
 */
function withoutIdleOptions(recipe: Recipe): Recipe {
  const { source, hasImageFiles } = datasetOf(recipe.dataset.name);
  const { dataDir, maxPixels } = recipe.dataset;
  const dataset = { dataDir: source === 'directory' ? dataDir : null, maxPixels: hasImageFiles ? maxPixels : null };
  return { ...recipe, dataset: { ...recipe.dataset, ...dataset } };
}

/**
 * The network of the recipe in the record of a run. Throws RunDirectoryError, naming the file that has it, for values that do not go
 * together.
 */
export function recordedNetwork(
  file: string,
  recipe: Recipe,
  classes: number,
  device: Device,
  builder?: NetworkBuilder,
): Network {
  try {
    return buildNetwork(recipe, classes, device, builder);
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    throw new RunDirectoryError(`${file}: recipe.model: ${error.message}`, { cause: error });
  }
}

/** A device as `config.json` has it. */
export function describeDevice(device: Device): Pick<RunConfig, 'device' | 'deviceName'> {
  return { device, deviceName: isCuda(device) ? device : (cpus()[0]?.model ?? null) };
}

/** What `config.json` says of a run that begins here and now. */
export function describeRun(run: {
  recipe: Recipe;
  classes: readonly string[];
  normalization: Normalization;
  modules?: RunConfig['modules'];
  data?: DataIdentity;
  device: Device;
  precision: Precision;
  /** As `decoderOfRun` gives it. */
  decoder?: { jpeg?: string };
  startedFrom?: RunConfig['startedFrom'];
  /** Default: 1. */
  processes?: number;
}): RunConfig {
  const { recipe, classes, normalization, modules, data, device, precision, decoder, startedFrom, processes = 1 } = run;
  const { libtorchLoaded, libtorchBuilt } = buildInfo();
  return {
    package: 'layerwise',
    formatVersion: 1,
    preset: recipe.preset,
    recipe,
    classes: [...classes],
    normalization,
    ...(modules === undefined ? {} : { modules }),
    ...(data === undefined ? {} : { data }),
    seed: recipe.seed,
    ...describeDevice(device),
    precision,
    threads: getThreads(),
    ...(processes === 1 ? {} : { processes }),
    versions: {
      ...{ layerwise: packageVersion, libtorch: libtorchLoaded || libtorchBuilt, node: process.version },
      ...decoder,
    },
    startedAt: new Date().toISOString(),
    ...(startedFrom === undefined ? {} : { startedFrom }),
  };
}
