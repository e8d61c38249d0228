import { cpus } from 'node:os';
import type { Normalization } from '../data/index.js';
import type { RunConfig } from '../evaluation/report/index.js';
import { buildInfo, type Device, getThreads, isCuda } from '../tensor/index.js';
import { packageVersion } from '../version.js';
import type { Precision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';
import { RunDirectory } from './run-directory.js';

/** The recipe of a run that is there. Throws RunDirectoryError or RecipeError. */
export async function recipeOfRun(runDirectory: string): Promise<Recipe> {
  return parseRecipe((await RunDirectory.open(runDirectory).readConfig()).recipe);
}

/** What `config.json` says of a run that begins here and now. */
export function describeRun(run: {
  recipe: Recipe;
  classes: readonly string[];
  normalization: Normalization;
  device: Device;
  precision: Precision;
  startedFrom?: RunConfig['startedFrom'];
}): RunConfig {
  const { recipe, classes, normalization, device, precision, startedFrom } = run;
  const { libtorchLoaded, libtorchBuilt } = buildInfo();
  return {
    package: 'layerwise',
    formatVersion: 1,
    preset: recipe.preset,
    recipe,
    classes: [...classes],
    normalization,
    seed: recipe.seed,
    device,
    deviceName: isCuda(device) ? device : (cpus()[0]?.model ?? null),
    precision,
    threads: getThreads(),
    versions: { layerwise: packageVersion, libtorch: libtorchLoaded || libtorchBuilt, node: process.version },
    startedAt: new Date().toISOString(),
    ...(startedFrom === undefined ? {} : { startedFrom }),
  };
}
