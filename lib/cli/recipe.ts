// From a command's flags to the recipe that they ask for.
import { type DatasetName, datasetOf } from '../data/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../recipe/index.js';
import { recipeOfRun } from '../run/index.js';
import { buildInfo } from '../tensor/index.js';
import { readJsonFile } from '../text-file.js';
import { UsageError } from './exit.js';
import { readGiven } from './options.js';
import { type RecipeValues, recipeValuesOf } from './recipe-flags.js';

/** The flags that decide what is trained, beside those of a recipe's values. */
export interface RecipeFlags {
  readonly preset?: string;
  readonly config?: string;
  readonly startFrom?: string;
}

/** The preset's recipe, with the values of the file in their place, and those of the flags before both. */
export async function resolveRecipe(flags: RecipeFlags): Promise<Recipe> {
  const file = flags.config === undefined ? {} : await readConfig(flags.config);
  const given = recipeValuesOf(flags);
  // What a file says may be of any type: the preset's lookup refuses what is no name.
  const asked = <T>(...path: string[]): T | undefined => (valueAt(given, path) ?? valueAt(file, path)) as T | undefined;
  const device = asked('device') ?? 'auto';
  // A run that starts from another one has its recipe too, unless a preset is named.
  const named = flags.preset ?? (file.preset as string | undefined);
  const recipe =
    flags.startFrom !== undefined && named === undefined
      ? await recipeOfRun(flags.startFrom)
      : presetRecipe(named ?? 'vgg11-layerwise', {
          onCuda: device === 'auto' ? buildInfo().cudaAvailable : device !== 'cpu',
          dataset: asked<DatasetName>('dataset', 'name'),
          model: asked<Recipe['model']['name']>('model', 'name'),
          schedule: asked<Recipe['training']['schedule']>('training', 'schedule'),
        });
  const { name } = recipe.dataset;
  if (datasetOf(name).source !== 'directory' && valueAt(given, ['dataset', 'dataDir']) !== undefined) {
    const by = datasetOf(name).source === 'program' ? 'drawn by the program' : 'given in code';
    throw new UsageError(`--data-dir: ${name} is ${by} and takes no directory; is a --dataset missing?`);
  }
  return overrideRecipe(overrideRecipe(recipe, { ...file, preset: recipe.preset }), given);
}

const valueAt = (values: RecipeValues, path: readonly string[]): unknown =>
  path.reduce<unknown>((part, name) => (isObject(part) ? part[name] : undefined), values);

async function readConfig(file: string): Promise<RecipeValues> {
  const value = await readGiven('--config', file, readJsonFile);
  if (!isObject(value))
    throw new UsageError(`--config: expected a JSON object in ${file}, got ${JSON.stringify(value)}`);
  if (value.package !== 'layerwise') return value;
  // The record of a run: its recipe, less what became known when its data was loaded.
  if (!isObject(value.recipe) || !isObject(value.recipe.dataset)) {
    throw new UsageError(`--config: expected the recipe of a run in ${file}, which is a run's config.json without one`);
  }
  const { title, inputShape, trainCount, testCount, ...dataset } = value.recipe.dataset;
  return { ...value.recipe, dataset };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
