import { z } from 'zod';
import { BAD_IMAGE_POLICIES, DATASET_NAMES } from '../data/index.js';
import { describeIssue, shown } from '../schema.js';
import { RecipeError } from './errors.js';

const upTo = (most: number) => z.int().min(1).max(most);

// No machine has use for more: a mistyped number is refused here, and not by what it does to the machine.
const channels = upTo(4_096);
const layerCount = upTo(512);
const convolutions = z.int().max(64);
const epochs = upTo(100_000);
const images = upTo(100_000_000);
const batch = upTo(65_536);
/** Pixels a side; image files are read at no more. */
const side = upTo(4_096);
const threadCount = upTo(4_096);

const rate = z.number().positive();
const fraction = z.number().min(0).lt(1);

/** Which network, with its sizes; `name` decides what else there is. */
const modelSchema = z.discriminatedUnion('name', [
  z.strictObject({
    name: z.enum(['vgg11', 'vgg13', 'vgg16', 'vgg19']),
    /** Channels of the first layer. */
    width: channels,
    /** How many layers are trained. */
    layers: layerCount,
    /** Dropout of the classifier; the end-to-end baseline has it. */
    dropout: fraction,
  }),
  z.strictObject({
    name: z.literal('simcnn'),
    /** Layers of an auxiliary problem. */
    k: convolutions.min(1),
    /** J. */
    layers: layerCount,
    /** M, channels of the first layer. */
    width: channels,
    /** M~, channels of the first head's convolutions; k = 1 has none. */
    auxWidth: channels,
    /** Channels of each layer, in place of `width` and its doubling. */
    widths: z.array(channels).max(512).nullable().default(null),
    /** The head of the last layer, where it has other convolutions than k - 1 of M~. */
    lastHead: z
      .strictObject({ convolutions: convolutions.min(0), width: channels })
      .nullable()
      .default(null),
    /** Layers, from 0, whose input is downsampled. */
    downsampleAt: z.array(z.int().min(0).max(511)).max(512),
    downsampling: z.enum(['invertible', 'stride', 'average', 'max']),
    batchNormInit: z.enum(['ones', 'uniform']),
    /** For k = 1: which convolutions have a bias. */
    bias: z.enum(['all', 'first']),
  }),
]);

/** A recipe: everything that decides a run's result, but for the machine. */
export const recipeSchema = z
  .strictObject({
    preset: z.string(),
    model: modelSchema,
    dataset: z.strictObject({
      name: z.enum(DATASET_NAMES),
      dataDir: z.string().nullable(),
      /** The first so many images of each part, or all of them. */
      trainLimit: images.nullable(),
      testLimit: images.nullable(),
      imageSize: side,
      /** Pixels that the shorter side of an evaluated image file gets before its centre is cut out; null: `imageSize`. */
      testResize: side.nullable().default(null),
      /** Width times height of the largest image file that is decoded; null: 178,956,970. */
      maxPixels: upTo(2 ** 32)
        .nullable()
        .default(null),
      /** An image file that cannot be used ends the run, or the next image of its class stands in (at most 1 % of a part). */
      onBadImage: z.enum(BAD_IMAGE_POLICIES).default('fail'),
      /** Filled in when the data is loaded. */
      title: z.string().optional(),
      trainCount: images.optional(),
      testCount: images.optional(),
    }),
    augmentation: z.strictObject({
      /** Zero-pad by so much and crop at random; 0 leaves it out. */
      cropPadding: z.int().min(0).max(4_095),
      /** Cut a part of 8 to 100 % of the image file and scale it (GoogLeNet's crop); for data sets read from disk. */
      randomResizedCrop: z.boolean().default(false),
      horizontalFlip: z.boolean(),
      /** Whether every layer is trained on the same augmented views. */
      sameViewsForAllLayers: z.boolean(),
      /** So many augmented views of each image, one an epoch in turn and the same for all layers; null: always new ones. */
      views: epochs.nullable().default(null),
    }),
    training: z.strictObject({
      /** Layer by layer (Algorithm 1), or all as one network. */
      schedule: z.enum(['layerwise', 'end-to-end']),
      /** Epochs of each layer. */
      epochs,
      batchSize: batch,
      /** Images that go through the network at once: a batch's gradients are summed over such parts. Null: the whole batch. */
      microBatchSize: batch.nullable().default(null),
      learningRate: rate,
      /** Epochs, counted from 0, from which the rate is multiplied by `decay` once more. */
      milestones: z
        .array(epochs)
        .refine((epochs) => epochs.every((epoch, i) => i === 0 || epoch > epochs[i - 1]!), 'expected rising epochs'),
      decay: z.number().positive().max(1),
      momentum: fraction,
      weightDecay: z.number().min(0),
      /** Start the momentum again at each drop of the rate, as the authors' code does by making a new optimiser. */
      resetMomentumAtDrops: z.boolean(),
    }),
    evaluation: z.strictObject({
      batchSize: batch,
      ensemble: z.enum(['logits', 'probabilities']),
    }),
    seed: z.int().min(0),
    device: z.string().regex(/^(auto|cpu|cuda(:\d+)?)$/, 'expected auto, cpu, cuda or cuda:N'),
    precision: z.enum(['auto', 'fp32', 'bf16', 'fp16']),
    /** Threads of the CPU's kernels; null leaves LibTorch's own choice. */
    threads: threadCount.nullable(),
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
