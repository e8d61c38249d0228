// From a command's flags to the recipe that they ask for.
import { type DatasetName, datasetOf } from '../data/index.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../recipe/index.js';
import { currentRecipe, recipeOfRun, recordedRecipe } from '../run/index.js';
import { shown } from '../schema.js';
import { buildInfo } from '../tensor/index.js';
import { readJsonFile } from '../text-file.js';
import type { CodeFlags } from './code-flags.js';
import { UsageError } from './exit.js';
import { readGiven } from './options.js';
import { type RecipeValues, recipeValuesOf } from './recipe-flags.js';

/** The flags that decide what is trained, beside those of a recipe's values. */
export interface RecipeFlags extends Pick<CodeFlags, 'network' | 'data'> {
  readonly preset?: string;
  readonly config?: string;
  readonly startFrom?: string;
}

/** The preset's recipe. The file's values override it, and the flags override both. */
export async function resolveRecipe(flags: RecipeFlags): Promise<Recipe> {
  const { values: file, isRecord } = flags.config === undefined ? NO_FILE : await readConfig(flags.config);
  const given = withOwnData(flags, recipeValuesOf(flags));
  // A file's values may be of any type: presetRecipe refuses what is no name.
  const asked = <T>(...path: string[]): T | undefined => (valueAt(given, path) ?? valueAt(file, path)) as T | undefined;
  const device = asked('device') ?? 'auto';
  // A run that starts from another one has its recipe too, unless a preset is named.
  const named = flags.preset ?? (file.preset as string | undefined) ?? presetOfModule(flags);
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
  const ofFile = { ...file, preset: recipe.preset };
  // A record has every value, the choice of nobody: what goes with another optimiser or schedule comes as it would for a preset.
  const asWhole = isRecord
    ? overrideRecipe(overrideRecipe(recipe, ofFile), given)
    : overrideRecipe(recipe, ofFile, given);
  requireModules(flags, asWhole);
  return asWhole;
}

/** With --start-from the recipe is that of the earlier run, also for a network of one's own. */
const presetOfModule = ({ network, startFrom }: RecipeFlags): string | undefined =>
  network === undefined || startFrom !== undefined ? undefined : 'own';

/** --data makes the data set `own`. */
function withOwnData({ data }: RecipeFlags, given: RecipeValues): RecipeValues {
  if (data === undefined) return given;
  const name = valueAt(given, ['dataset', 'name']);
  if (name !== undefined) throw new UsageError(`--data: expected no --dataset beside it, got ${name}`);
  return { ...given, dataset: { ...(given.dataset as RecipeValues | undefined), name: 'own' } };
}

/** A module and a recipe that asks for one go together. */
function requireModules({ network, data }: RecipeFlags, { model, dataset }: Recipe): void {
  if (network !== undefined && model.name !== 'own') {
    throw new UsageError(
      `--network: expected a recipe for a network of your own (--preset own), got one for ${model.name}`,
    );
  }
  if (network === undefined && model.name === 'own') {
    throw new UsageError('a recipe for a network of your own needs the module that builds it: --network FILE');
  }
  if (data === undefined && dataset.name === 'own') {
    throw new UsageError('a recipe for data of your own needs the module that reads them: --data FILE');
  }
}

const valueAt = (values: RecipeValues, path: readonly string[]): unknown =>
  path.reduce<unknown>((part, name) => (isObject(part) ? part[name] : undefined), values);

interface ConfigFile {
  readonly values: RecipeValues;
  /** Whether it is the config.json of a run. */
  readonly isRecord: boolean;
}

const NO_FILE: ConfigFile = { values: {}, isRecord: false };

async function readConfig(file: string): Promise<ConfigFile> {
  const value = await readGiven('--config', file, readJsonFile);
  if (!isObject(value)) throw new UsageError(`--config: expected a JSON object in ${file}, got ${shown(value)}`);
  if (value.package !== 'layerwise') return { values: value, isRecord: false };
  // The record of a run: its recipe, less what became known when its data was loaded.
  const recorded = currentRecipe(value.recipe);
  if (!isObject(recorded) || !isObject(recorded.dataset)) {
    throw new UsageError(`--config: expected the recipe of a run in ${file}, which is a run's config.json without one`);
  }
  // What a record of an older version lacks is as it was then, not as the preset is now.
  const recipe = recordedRecipe(file, { recipe: recorded });
  const { title, inputShape, trainCount, testCount, ...dataset } = recipe.dataset;
  // The length of vectors is kept: it does not follow from an image size.
  const shape = dataset.imageSize === null ? { inputShape } : {};
  return { values: { ...recipe, dataset: { ...dataset, ...shape } }, isRecord: true };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
