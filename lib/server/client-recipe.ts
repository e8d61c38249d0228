// The recipe that a client asks for. It may name what the program knows, and data in the folder that the server gives, and nothing
// else: no module, and no path outside.
import { realpath } from 'node:fs/promises';
import { isAbsolute, join, relative, sep } from 'node:path';
import { overrideRecipe, presetRecipe, type Recipe, RecipeError } from '../recipe/index.js';
import { shown } from '../schema.js';
import { buildInfo } from '../tensor/index.js';
import { RequestError } from './errors.js';
import { presets, type TrainingRequest } from './schemas.js';

type RecipeRequest = Pick<TrainingRequest, 'preset' | 'dataset' | 'recipe'>;

/** Throws RequestError (400) for a recipe that is not valid, and for one that asks for what no client is given. */
export async function recipeOf(request: RecipeRequest, dataRoot: string | null): Promise<Recipe> {
  const recipe = checked(request);
  for (const part of ['model', 'dataset'] as const) {
    if (recipe[part].name !== 'own') continue;
    throw new RequestError(400, 'RECIPE', `${part}.name: expected another than own: a client can name no module`);
  }
  const { dataDir } = recipe.dataset;
  if (dataDir === null) return recipe;
  return { ...recipe, dataset: { ...recipe.dataset, dataDir: await insideOf(dataRoot, dataDir) } };
}

function checked({ preset = presets[0]!, dataset, recipe = {} }: RecipeRequest): Recipe {
  try {
    const base = presetRecipe(preset, {
      ...(dataset === undefined ? {} : { dataset }),
      onCuda: buildInfo().cudaAvailable,
    });
    return overrideRecipe(base, recipe);
  } catch (error) {
    if (!(error instanceof RecipeError)) throw error;
    throw new RequestError(400, 'RECIPE', error.message, { cause: error });
  }
}

/** A folder of data by its path in the folder of all data, also through links. */
async function insideOf(dataRoot: string | null, dataDir: string): Promise<string> {
  if (dataRoot === null) throw refusal(dataDir, 'this server has no folder of data');
  const path = await realpath(join(dataRoot, dataDir)).catch(() => null);
  if (path === null || isAbsolute(dataDir) || !isWithin(await realpath(dataRoot), path)) {
    throw refusal(dataDir, "expected the path of a folder within the server's folder of data");
  }
  return path;
}

function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

const refusal = (dataDir: string, problem: string): RequestError =>
  new RequestError(400, 'RECIPE', `dataset.dataDir: ${problem}, got ${shown(dataDir)}`);
