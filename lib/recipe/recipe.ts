import { z } from 'zod';
import { BAD_IMAGE_POLICIES, DATASET_NAMES, LOADABLE_DATASETS } from '../data/index.js';
import { modelSchema, SCHEDULES } from '../models/index.js';
import { describeIssue, shown, upTo } from '../schema.js';
import { RecipeError } from './errors.js';

// No machine has use for more: a mistyped number is refused here, and not by what it does to the machine.
const epochs = upTo(100_000);
const images = upTo(100_000_000);
const batch = upTo(65_536);
/** Pixels a side; image files are read at no more. */
const side = upTo(4_096);

/**
 * A recipe: everything that decides a run's result, but for the machine. Each value says what it means; `flag` is its name on
 * the command line. docs/recipe.md and the command line's flags are made from it.
 */
export const recipeSchema = z
  .strictObject({
    preset: z.string().meta({ values: "a preset's name", description: 'the recipe that the others replace values of' }),
    model: modelSchema,
    dataset: z.strictObject({
      name: z.enum(DATASET_NAMES).meta({
        flag: 'dataset',
        choices: LOADABLE_DATASETS,
        description: 'data set; its preset recipe goes with it; `own`: images that are given in code',
      }),
      dataDir: z
        .string()
        .nullable()
        .meta({ flag: 'data-dir', values: 'a path', description: 'where the data set lies; `shapes` has none' }),
      trainLimit: images
        .nullable()
        .meta({ flag: 'train-limit', description: 'the first so many training images (default: all)' }),
      testLimit: images
        .nullable()
        .meta({ flag: 'test-limit', description: 'the first so many test images (default: all)' }),
      imageSize: side.meta({ flag: 'image-size', description: 'pixels a side of what the network sees' }),
      testResize: side.nullable().default(null).meta({
        description: 'what the shorter side of a test image becomes before its centre is cut out; null: `imageSize`',
      }),
      maxPixels: upTo(2 ** 32)
        .nullable()
        .default(null)
        .meta({ flag: 'max-pixels', description: 'width times height of the largest image file (default: 178956970)' }),
      onBadImage: z.enum(BAD_IMAGE_POLICIES).default('fail').meta({
        description:
          '`fail`: an image file that cannot be used ends the run; `skip`: another of its class stands in, for at most 1 % of a part',
      }),
      // Filled in when the data is loaded.
      title: z.string().optional(),
      /** [channels, height, width], where images are given in code. */
      inputShape: z.tuple([side, side, side]).optional(),
      trainCount: images.optional(),
      testCount: images.optional(),
    }),
    augmentation: z.strictObject({
      cropPadding: z
        .int()
        .min(0)
        .max(4_095)
        .meta({ description: 'zero-pad by so much, and crop at random; 0 leaves it out; less than `imageSize`' }),
      randomResizedCrop: z.boolean().default(false).meta({
        description:
          "cut out 8 to 100 % of the image and scale it (GoogLeNet's crop); only for image files that stay on disk",
      }),
      horizontalFlip: z.boolean().meta({ description: 'mirror half of the images, at random' }),
      sameViewsForAllLayers: z.boolean().meta({ description: 'every layer sees the same views, in the same order' }),
      views: epochs.nullable().default(null).meta({
        flag: 'views',
        description:
          'augmented views of each image, the same for all layers, whose features are kept (default: always new ones)',
      }),
    }),
    training: z.strictObject({
      schedule: z
        .enum(SCHEDULES)
        .meta({ flag: 'schedule', description: 'layer by layer (Algorithm 1), or all layers as one network' }),
      epochs: epochs.meta({ flag: 'epochs', description: 'epochs of each layer' }),
      batchSize: batch.meta({ flag: 'batch-size', description: 'images in a step' }),
      microBatchSize: batch.nullable().default(null).meta({
        flag: 'micro-batch',
        description:
          'images that go through the network at once; gradients are summed over the batch (default: the whole batch)',
      }),
      learningRate: z.number().positive().meta({ flag: 'learning-rate', description: 'initial learning rate' }),
      milestones: z
        .array(epochs)
        .refine((epochs) => epochs.every((epoch, i) => i === 0 || epoch > epochs[i - 1]!), 'expected rising epochs')
        .meta({
          values: 'rising epochs, 1 to 100,000',
          description: 'epochs, from 0, from which the rate is multiplied by `decay` once more',
        }),
      decay: z.number().positive().max(1).meta({ description: 'what the rate is multiplied by at a milestone' }),
      momentum: z.number().min(0).lt(1).meta({ description: 'of SGD' }),
      weightDecay: z.number().min(0).meta({ description: 'of SGD, on all parameters' }),
      resetMomentumAtDrops: z.boolean().meta({
        description: "the momentum starts again at each milestone, as the authors' code does by making a new optimiser",
      }),
    }),
    evaluation: z.strictObject({
      batchSize: batch.meta({ description: 'test images at once' }),
      ensemble: z.enum(['logits', 'probabilities']).meta({ description: 'what the ensemble averages' }),
    }),
    seed: z.int().min(0).meta({ flag: 'seed', description: 'seed of weights, order, augmentation and dropout' }),
    device: z
      .string()
      .regex(/^(auto|cpu|cuda(:\d+)?)$/, 'expected auto, cpu, cuda or cuda:N')
      .meta({
        flag: 'device',
        values: '`auto`, `cpu`, `cuda`, `cuda:N`',
        description: 'auto (the first GPU where there is one), cpu, cuda or cuda:N',
      }),
    precision: z.enum(['auto', 'fp32', 'bf16', 'fp16']).meta({
      flag: 'precision',
      description: 'precision of the forward pass; auto: bf16 where the hardware multiplies it natively, else fp32',
    }),
    threads: upTo(4_096).nullable().meta({
      flag: 'threads',
      description: "threads of the CPU's kernels (default: as many as this process may use)",
    }),
  })
  .refine(({ augmentation, dataset }) => augmentation.cropPadding < dataset.imageSize, {
    path: ['augmentation', 'cropPadding'],
    error: 'expected less than dataset.imageSize',
  });

/**
 * Everything that decides a run's result, but for the machine; docs/recipe.md has the range and meaning of each key.
 */
export type Recipe = z.infer<typeof recipeSchema>;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function merge(base: Record<string, unknown>, changes: Record<string, unknown>): Record<string, unknown> {
  const merged = new Map(Object.entries(base));
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) continue;
    const own = merged.get(key);
    merged.set(key, isObject(value) && isObject(own) ? merge(own, value) : value);
  }
  // Every key, also __proto__, is a plain one here, for the schema to refuse.
  return Object.fromEntries(merged);
}

/** A recipe with some values replaced, checked. Throws RecipeError naming each unknown key and value out of range. */
export function overrideRecipe(recipe: Recipe, overrides: unknown): Recipe {
  if (!isObject(overrides)) throw new RecipeError(`expected an object of recipe values, got ${shown(overrides)}`);
  return parseRecipe(merge(recipe, overrides));
}

/** Checks a value of unknown origin, such as a file's. */
export function parseRecipe(value: unknown): Recipe {
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RecipeError(parsed.error.issues.map((issue) => describeIssue(issue, value)).join('; '));
}
