// A recipe on this machine, with its data.
import { resolve } from 'node:path';
import type { Dataset } from '../data/index.js';
import type { Device } from '../tensor/index.js';
import { resolveDevice } from './device.js';
import { requireGraphs } from './graphed-steps.js';
import { type Precision, resolvePrecision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';
import type { TrainOptions } from './run-options.js';

/** Checks what is asked for, and finds what `auto` stands for. Throws RecipeError for what this machine cannot do. */
export function checkRecipe(options: Pick<TrainOptions, 'recipe' | 'onBadImage' | 'cudaGraph'>): {
  recipe: Recipe;
  device: Device;
  precision: Precision;
} {
  const recipe = withPolicy(parseRecipe(options.recipe), options);
  const device = resolveDevice(recipe.device);
  const precision = resolvePrecision(recipe.precision, device);
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  return { recipe, device, precision };
}

export function withPolicy(
  recipe: Recipe,
  { onBadImage = recipe.dataset.onBadImage }: Pick<TrainOptions, 'onBadImage'>,
): Recipe {
  return { ...recipe, dataset: { ...recipe.dataset, onBadImage } };
}

/** A recipe as it is recorded: with what `auto` stands for, the whole path of its data, and the counts of its images. */
export function resolveRecipe(recipe: Recipe, loaded: Dataset, precision: Precision): Recipe {
  const { dataDir } = recipe.dataset;
  // Whoever opens the run does so from another working directory.
  const dataset = { ...recipe.dataset, dataDir: dataDir === null ? null : resolve(dataDir) };
  return withCounts({ ...recipe, precision, dataset }, loaded);
}

/** The recipe with what is known once its data are loaded; the record of an older version may lack it. */
export function withCounts(recipe: Recipe, { title, train, test }: Dataset): Recipe {
  return { ...recipe, dataset: { ...recipe.dataset, title, trainCount: train.count, testCount: test.count } };
}
