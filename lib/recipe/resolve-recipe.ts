// A recipe on this machine, with its data.
import { type Dataset, type OnBadImage, sizeOf, wholeLocation } from '../data/index.js';
import type { Device } from '../tensor/index.js';
import { resolveDevice } from './device.js';
import { RecipeError } from './errors.js';
import { changesWithinEpochs } from './optimization.js';
import { type Precision, resolvePrecision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';

/** Options of how a machine trains a recipe that are no part of the recipe. */
export interface ExecutionOptions {
  readonly onBadImage?: OnBadImage | undefined;
  readonly cudaGraph?: boolean | undefined;
}

/** Checks what is asked for, and finds what `auto` stands for. Throws RecipeError for what this machine cannot do. */
export function checkRecipe(
  options: ExecutionOptions & { readonly recipe: Recipe },
  localRank?: number,
): {
  recipe: Recipe;
  device: Device;
  precision: Precision;
} {
  const recipe = withPolicy(parseRecipe(options.recipe), options);
  const device = resolveDevice(recipe.device, { localRank });
  const precision = resolvePrecision(recipe.precision, device);
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  return { recipe, device, precision };
}

/** Throws RecipeError where a step cannot be a CUDA graph. */
export function requireGraphs(recipe: Recipe, device: Device, precision: Precision): void {
  const reason =
    device === 'cpu'
      ? 'needs a CUDA device, this run is on the cpu'
      : precision === 'fp16'
        ? 'cannot be used with fp16, whose loss scale is looked at after each step; use bf16'
        : recipe.training.schedule === 'simultaneous'
          ? 'cannot be used with training.schedule simultaneous'
          : recipe.training.microBatchSize !== null
            ? 'cannot be used with micro-batches'
            : recipe.training.optimizer !== 'sgd'
              ? `cannot be used with training.optimizer ${recipe.training.optimizer}; use sgd`
              : changesWithinEpochs(recipe)
                ? 'cannot be used with a learning rate that changes from step to step, which a graph would record; use training.rateSchedule multi-step without training.warmupEpochs'
                : null;
  if (reason !== null) throw new RecipeError(`cudaGraph (--cuda-graph): ${reason}`);
}

/** Images of a process below which batch norm's statistics are those of all processes, unless a recipe says otherwise. */
const FEW_IMAGES = 32;

/** The recipe for so many processes, with what `auto` stands for in `syncBatchNorm`. Throws RecipeError where they cannot share its batches. */
export function forProcesses(recipe: Recipe, processes: number): Recipe {
  if (processes === 1) return recipe;
  requireShares(recipe, processes);
  const { training } = recipe;
  const { batchSize, syncBatchNorm } = training;
  if (syncBatchNorm !== 'auto') return recipe;
  const isFew = Math.floor(batchSize / processes) < FEW_IMAGES;
  return { ...recipe, training: { ...training, syncBatchNorm: isFew ? 'on' : 'off' } };
}

/** Every process has an image of each batch, and of each part of one. */
function requireShares({ training, dataset }: Recipe, processes: number): void {
  const { batchSize, microBatchSize } = training;
  const count = dataset.trainCount!;
  const last = count % batchSize || batchSize;
  for (const size of [Math.min(batchSize, count), last]) {
    if (size < processes) {
      throw new RecipeError(
        `training.batchSize: ${count} training images in batches of ${batchSize} leave a batch of ${size}, expected at least one ` +
          `image for each of ${processes} processes; take another --batch-size`,
      );
    }
    const parts = Math.ceil(Math.ceil(size / processes) / (microBatchSize ?? size));
    if (Math.floor(size / processes) < parts) {
      throw new RecipeError(
        `training.microBatchSize: a batch of ${size} images on ${processes} processes cannot be divided into parts of ${microBatchSize}; take 2 or more`,
      );
    }
  }
}

export function withPolicy(recipe: Recipe, { onBadImage = recipe.dataset.onBadImage }: ExecutionOptions): Recipe {
  return { ...recipe, dataset: { ...recipe.dataset, onBadImage } };
}

/**
 * A recipe as it is recorded: with what `auto` stands for, the whole path of its data, and the counts of its images. Throws
 * RecipeError where images that are given in code do not go with it: what is recorded must be readable again.
 */
export function resolveRecipe(recipe: Recipe, loaded: Dataset, precision: Precision): Recipe {
  const { dataDir } = recipe.dataset;
  // Whoever opens the run does so from another working directory.
  const dataset = { ...recipe.dataset, dataDir: dataDir === null ? null : wholeLocation(dataDir) };
  return parseRecipe(withCounts({ ...recipe, precision, dataset }, loaded));
}

/** The recipe with what is known once its data are loaded; the record of an older version may lack it. */
export function withCounts(recipe: Recipe, { title, train, test }: Dataset): Recipe {
  const counts = { title, trainCount: train.count, testCount: test.count };
  // The shape is that of these images, also where the recipe was one for others.
  const { inputShape, ...dataset } = recipe.dataset;
  return { ...recipe, dataset: { ...dataset, ...shapeOf(recipe, train), ...counts } };
}

/** The shape of given pixels or vectors, which a recipe cannot know before. Image files get the shape that the recipe says. */
function shapeOf({ dataset }: Recipe, part: Dataset['train']): Partial<Recipe['dataset']> {
  if (dataset.name !== 'own' || 'names' in part) return {};
  if ('vectors' in part) return { inputShape: [part.vectorLength], imageSize: null, channels: null };
  const { channels, height, width } = part;
  // Encoded images have the channels of the recipe, pixels have their own.
  const asked = dataset.channels ?? 3;
  return {
    inputShape: [channels, height, width],
    imageSize: sizeOf(height, width),
    channels: channels === asked ? asked : null,
  };
}
