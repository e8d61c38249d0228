// The plan of a recipe before it is trained.
import { doctorCommand } from '#scripts/support/paths.mjs';
import { type Dataset, isInMemory } from '../data/index.js';
import { resolveCacheBudget } from '../features/index.js';
import { disposeNetwork, type NetworkBuilder } from '../models/index.js';
import {
  buildNetwork,
  checkRecipe,
  decoderMirrors,
  type Precision,
  type Recipe,
  RecipeError,
  resolveRecipe,
} from '../recipe/index.js';
import { BadImageLog, loadCode, loadRecipeDataset, TemporaryFolder } from '../run/index.js';
import { canRehearse, type Device } from '../tensor/index.js';
import { type ImageRate, measureImageRate } from './image-rate.js';
import { planRun, type RunPlan, usableBytesOf } from './plan.js';
import { requireRunOptions, type TrainOptions } from './run-options.js';
import { type StartFrom, takeLayers } from './start-from.js';
import { type LayerTime, measureStepTimes } from './step-times.js';
import { Turn } from './turn.js';

/** As for `train`. */
export interface PlanRecipeOptions
  extends Pick<
    TrainOptions,
    'recipe' | 'startFrom' | 'network' | 'data' | 'module' | 'cache' | 'cudaGraph' | 'onBadImage'
  > {
  /** Whether a few steps of each layer are timed, too, and the reading of image files. */
  readonly measured: boolean;
  /** Called with the plan of a run that is then refused for its memory. */
  readonly onRefused?: (plan: RunPlan) => void;
}

/**
 * What `planRecipe` found: the recipe with the counts of its images, the device and precision that `auto` comes to, and
 * what the run will take.
 */
export interface PlannedRecipe {
  readonly recipe: Recipe;
  readonly device: Device;
  readonly precision: Precision;
  readonly plan: RunPlan;
  /** Of the layers that are trained; null where nothing was measured. */
  readonly times: readonly LayerTime[] | null;
  /** Of training images that are read from files while training; null for others, and where nothing was measured. */
  readonly imageRate: ImageRate | null;
}

/** Plans what `train` would do with a recipe, and throws as it would. */
export async function planRecipe(options: PlanRecipeOptions): Promise<PlannedRecipe> {
  requireRunOptions('planRecipe', options);
  if (!canRehearse()) {
    throw new RecipeError(`a plan needs LibTorch 2.4 or later; ${doctorCommand} shows the one in use`);
  }
  // For data that are kept in a file, since there is no run directory.
  using folder = new TemporaryFolder();
  return await planIn(folder.path, options);
}

async function planIn(folder: string, options: PlanRecipeOptions): Promise<PlannedRecipe> {
  const { recipe: given, device, precision } = checkRecipe(options);
  const { network: builder, data } = await loadCode(options);
  const own = data === undefined ? undefined : { data, device, folder };
  const dataset = await loadRecipeDataset(given, { badImages: new BadImageLog(), own });
  const recipe = resolveRecipe(given, dataset, precision);
  return Turn.during(recipe.threads, async () => {
    const classes = dataset.classes.length;
    const taken = await takenOf(recipe, dataset, options.startFrom, builder);
    const isMirrored = decoderMirrors(recipe, dataset.train);
    const shared = { recipe, classes, builder, device, precision, isMirrored, ...taken };
    const plan = planRun({
      ...shared,
      budget: resolveCacheBudget(options.cache, device),
      imagesInMemory: isInMemory(dataset.train),
      usableBytes: usableBytesOf(device),
      onRefused: options.onRefused,
    });
    if (!options.measured) return { recipe, device, precision, plan, times: null, imageRate: null };
    const imageRate = await measureImageRate(dataset.train, recipe);
    const times = measureStepTimes({
      ...shared,
      isKept: plan.layers.some(({ features }) => features !== null),
      testFeatureBytes: plan.testFeatureBytes,
      readPerSecond: imageRate?.imagesPerSecond ?? null,
    });
    return { recipe, device, precision, plan, times, imageRate };
  });
}

/** Which layers come from another run. The network that they are loaded into, to be checked, is not kept. */
async function takenOf(
  recipe: Recipe,
  dataset: Dataset,
  start: StartFrom | undefined,
  builder: NetworkBuilder | undefined,
): Promise<{ takenLayers: number | undefined; firstStage: number }> {
  if (start === undefined) return { takenLayers: undefined, firstStage: 0 };
  const network = buildNetwork(recipe, dataset.classes.length, 'cpu', builder);
  try {
    const { from, stageSeconds } = await takeLayers(start, { recipe, network, classes: dataset.classes, builder });
    return { takenLayers: from.layers, firstStage: stageSeconds.length };
  } finally {
    disposeNetwork(network);
  }
}
