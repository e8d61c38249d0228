import { z } from 'zod';
import {
  BAD_IMAGE_POLICIES,
  DATASET_NAMES,
  datasetOf,
  FILE_CHANNELS,
  LOADABLE_DATASETS,
  PADDING_MODES,
  sidesOf,
} from '../data/index.js';
import { modelSchema, SCHEDULES } from '../models/index.js';
import { describeIssue, shown, unfitPart, upTo } from '../schema.js';
import { RecipeError } from './errors.js';
import {
  ADAMW_BETAS,
  ADAMW_EPS,
  OPTIMIZER_DEFAULTS,
  RATE_SCHEDULES,
  SGD_BESIDE_MUON,
  TRAINING_RULES,
} from './training-rules.js';

// No machine has use for more: a mistyped number is refused here, before it exhausts the machine.
const epochs = upTo(100_000);
const images = upTo(100_000_000);
const batch = upTo(65_536);
/** Pixels a side; image files are read at no more. */
const side = upTo(4_096);
const imageSize = z.union([side, z.tuple([side, side])], 'expected pixels a side, or [height, width]');
const blocks = z.union(
  [upTo(1_024), z.array(upTo(512)).min(1).max(512)],
  'expected a number of blocks from 1 to 1024, or a list with the number of layers, from 1 to 512, of each',
);
const vectorLength = upTo(1_000_000);

const beta = z.number().min(0).lt(1);

/**
 * A recipe: everything that decides a run's result, but for the machine. Each value says what it means; `flag` is its name on
 * the command line. docs/recipe.md and the command line's flags are made from it.
 */
export const recipeSchema = z
  .strictObject({
    preset: z
      .string()
      .meta({ values: "a preset's name", description: 'the recipe whose values the other keys replace' }),
    model: modelSchema,
    dataset: z.strictObject({
      name: z.enum(DATASET_NAMES).meta({
        flag: 'dataset',
        choices: LOADABLE_DATASETS,
        description:
          "data set; its preset recipe goes with it; `own`: images of one's own, given in code or by a module",
      }),
      dataDir: z.string().nullable().meta({
        flag: 'data-dir',
        values: 'a path, or an address',
        description: 'where the data set lies; `shapes` has none; shards of imagenet may lie on a web server',
      }),
      trainLimit: images
        .nullable()
        .meta({ flag: 'train-limit', description: 'the first so many training images (default: all)' }),
      testLimit: images
        .nullable()
        .meta({ flag: 'test-limit', description: 'the first so many test images (default: all)' }),
      imageSize: imageSize.nullable().meta({
        flag: 'image-size',
        values: '1 to 4,096, or [height, width]',
        description:
          'pixels a side of the images that the network sees, or their height and width (as a flag: 32x48); null: vectors',
      }),
      channels: z.literal(FILE_CHANNELS).nullable().default(3).meta({
        flag: 'channels',
        description: 'channels of images from files: 3, in colour, or 1, grey; null: given images with other channels',
      }),
      testResize: side.nullable().default(null).meta({
        description:
          'what the shorter side of a test image becomes before its centre is cut out; null: that of `imageSize`',
      }),
      maxPixels: upTo(2 ** 32)
        .nullable()
        .default(null)
        .meta({ flag: 'max-pixels', description: 'width times height of the largest image file (default: 178956970)' }),
      onBadImage: z.enum(BAD_IMAGE_POLICIES).default('fail').meta({
        description:
          '`fail`: an image file that cannot be used ends the run; `skip`: another of its class stands in, for at most 1 % of a part',
      }),
      options: z.record(z.string(), z.json()).optional().meta({
        flag: 'data-options',
        values: 'a JSON object',
        description: "options that the module or function of one's own data gets",
      }),
      // Filled in when the data is loaded.
      title: z.string().optional(),
      /** [channels, height, width] of images that are given in code, [length] of vectors. */
      inputShape: z.array(vectorLength).superRefine(requireShape).optional(),
      trainCount: images.optional(),
      testCount: images.optional(),
    }),
    augmentation: z.strictObject({
      cropPadding: z.int().min(0).max(4_095).meta({
        description: 'pad by so many pixels, and crop at random; 0 leaves it out; less than the sides of `imageSize`',
      }),
      cropPaddingMode: z.enum(PADDING_MODES).default('zeros').meta({
        description:
          "what `cropPadding` pads with: zeros, or the image mirrored at its edges (torchvision's `reflect`)",
      }),
      randomResizedCrop: z.boolean().default(false).meta({
        description:
          "cut out 8 to 100 % of the image and scale it (GoogLeNet's crop); only for image files that stay on disk",
      }),
      horizontalFlip: z.union([z.boolean(), z.literal('alternating')], "expected true, false or 'alternating'").meta({
        values: 'true, false, `alternating`',
        description:
          'mirror half of the images, at random; `alternating`: drawn for the first epoch, and from then on each image is mirrored in every other epoch',
      }),
      sharedDraws: z.boolean().meta({
        description:
          'layers share their random draws: each sees the same views of the images in the same order; with `views` the views are shared in any case',
      }),
      views: epochs.nullable().default(null).meta({
        flag: 'views',
        description:
          'augmented views of each image, the same for all layers, whose features are kept (default: always new ones)',
      }),
    }),
    training: z.strictObject({
      schedule: z.enum(SCHEDULES).meta({
        flag: 'schedule',
        description:
          'layer by layer (Algorithm 1); all layers at once, each by its own head without a gradient from above; or all layers as one network',
      }),
      blocks: blocks.nullable().default(null).meta({
        flag: 'blocks',
        values: '1 to 1,024, a list of 1 to 512, null',
        description:
          'consecutive layers are grouped into so many blocks, or into blocks of so many layers each (as a flag: 2,1), each trained as one with the head of its last layer (default: each layer by itself)',
      }),
      epochs: epochs.meta({ flag: 'epochs', description: 'epochs of each layer, or block' }),
      batchSize: batch.meta({ flag: 'batch-size', description: 'images in a step' }),
      microBatchSize: batch.nullable().default(null).meta({
        flag: 'micro-batch',
        description:
          'images that go through the network at once; gradients are summed over the batch (default: the whole batch; a number of at least the batch leaves it whole, too)',
      }),
      syncBatchNorm: z.enum(['auto', 'on', 'off']).default('auto').meta({
        flag: 'sync-batch-norm',
        description:
          "with several processes, batch norm's statistics: `on`: of the whole batch; `off`: of each process's images, and running ones averaged; `auto`: `on` where a process has fewer than 32",
      }),
      optimizer: z.enum(['sgd', 'adamw', 'muon']).default('sgd').meta({
        flag: 'optimizer',
        description:
          '`muon` steps filters of convolutions, and weights of linear layers of blocks; SGD steps everything else, linear layers of heads too. Another optimiser than that of the preset brings values of its own: `adamw` `learningRate` 1e-3, `weightDecay` 1e-2 and `momentum` 0; `muon` 0.05, 0.03 and 0.9, with `nesterov`; `sgd` those of the data set',
      }),
      learningRate: z.number().positive().meta({
        flag: 'learning-rate',
        description: 'initial learning rate; of `one-cycle` the highest',
      }),
      rateSchedule: z.enum(RATE_SCHEDULES).default('multi-step').meta({
        flag: 'rate-schedule',
        description:
          '`multi-step`: drops at `milestones`; `cosine`: half a cosine down to 0 over all steps; `one-cycle`: up for 3 tenths of the steps, then down. The last two remove the milestones of a preset',
      }),
      warmupEpochs: z.int().min(0).max(100_000).default(0).meta({
        flag: 'warmup-epochs',
        description:
          'first epochs, in which the rate rises linearly, step by step, from 1 % of `learningRate`; less than `epochs`',
      }),
      milestones: z
        .array(epochs)
        .refine((epochs) => epochs.every((epoch, i) => i === 0 || epoch > epochs[i - 1]!), 'expected rising epochs')
        .meta({
          values: 'rising epochs, 1 to 100,000',
          description: 'epochs, counted from 0, at which the rate is multiplied by `decay`',
        }),
      decay: z.number().positive().max(1).meta({ description: 'factor of the rate at a milestone' }),
      momentum: z.number().min(0).lt(1).meta({ description: 'of SGD and Muon' }),
      nesterov: z
        .boolean()
        .default(false)
        .meta({ description: "Nesterov's momentum; of SGD and Muon with `momentum`" }),
      sgdLearningRate: z.number().positive().default(SGD_BESIDE_MUON.sgdLearningRate).meta({
        flag: 'sgd-learning-rate',
        description: 'with `muon`: initial learning rate of what SGD steps; it changes as `learningRate` does',
      }),
      sgdWeightDecay: z.number().min(0).default(SGD_BESIDE_MUON.sgdWeightDecay).meta({
        description: 'with `muon`: of what SGD steps, a penalty on its squares',
      }),
      betas: z
        .tuple([beta, beta])
        .default([...ADAMW_BETAS])
        .meta({
          values: 'two numbers from 0, less than 1',
          description: 'of AdamW: decay rates of the running averages of the gradient and of its square',
        }),
      eps: z
        .number()
        .positive()
        .default(ADAMW_EPS)
        .meta({ description: 'of AdamW: added to what a step is divided by' }),
      weightDecay: z.number().min(0).meta({
        description:
          'on all parameters, with `muon` on those that it steps; with `sgd` a penalty on their squares, with `adamw` and `muon` decoupled from the gradient',
      }),
      labelSmoothing: z.number().min(0).lt(1).default(0).meta({
        flag: 'label-smoothing',
        description: 'share of each label that is spread over all classes; in the training loss, not in tests',
      }),
      resetMomentumAtDrops: z.boolean().meta({
        description:
          "momentum, or averages of AdamW, start again at each milestone, as the authors' code does by making a new optimiser",
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
  .refine(({ dataset }) => dataset.options === undefined || dataset.name === 'own', {
    path: ['dataset', 'options'],
    error: "expected none where the data are not one's own",
  })
  .superRefine(({ augmentation, dataset, training }, { addIssue }) => {
    const refuse: Refuse = (path, message) => addIssue({ code: 'custom', path: [...path], message });
    requireAugmentation(augmentation, dataset, refuse);
    if (dataset.channels === 1) requireGreyFiles(dataset, refuse);
    if (training.schedule === 'simultaneous' && augmentation.views !== null) {
      refuse(
        ['augmentation', 'views'],
        'expected none with training.schedule simultaneous, which has no frozen layers to keep features of',
      );
    }
    if (augmentation.horizontalFlip === 'alternating' && (augmentation.views ?? 0) % 2 === 1) {
      refuse(
        ['augmentation', 'horizontalFlip'],
        'expected true or false with an odd number of augmentation.views: flips that alternate need an even one',
      );
    }
    for (const { of, expected, holds } of TRAINING_RULES) {
      if (!holds(training)) refuse(['training', of], `expected ${expected}`);
    }
  });

type Refuse = (path: readonly string[], message: string) => void;

/** Refuses augmentation that the data do not allow: any of vectors, and crops beyond an image. */
function requireAugmentation(
  augmentation: Pick<
    Recipe['augmentation'],
    'cropPadding' | 'cropPaddingMode' | 'randomResizedCrop' | 'horizontalFlip'
  >,
  { imageSize, inputShape }: Pick<Recipe['dataset'], 'imageSize' | 'inputShape'>,
  refuse: Refuse,
): void {
  if (augmentation.cropPadding === 0 && augmentation.cropPaddingMode !== 'zeros') {
    refuse(['augmentation', 'cropPaddingMode'], 'expected zeros without augmentation.cropPadding');
  }
  if (isVectors({ inputShape })) {
    for (const [name, none] of [
      ['cropPadding', 0],
      ['randomResizedCrop', false],
      ['horizontalFlip', false],
    ] as const) {
      if (augmentation[name] !== none) refuse(['augmentation', name], `expected ${none} for vectors`);
    }
  } else if (imageSize === null) {
    refuse(['dataset', 'imageSize'], 'expected pixels a side of images');
  } else if (augmentation.cropPadding >= Math.min(...sidesOf(imageSize))) {
    const least = typeof imageSize === 'number' ? '' : 'the smaller side of ';
    refuse(['augmentation', 'cropPadding'], `expected less than ${least}dataset.imageSize`);
  }
}

/** Refuses one channel for images that are not decoded from files, and for vectors. */
function requireGreyFiles({ name, inputShape }: Pick<Recipe['dataset'], 'name' | 'inputShape'>, refuse: Refuse): void {
  if (!datasetOf(name).hasImageFiles) {
    refuse(['dataset', 'channels'], `expected 3 for ${name}, which has no image files`);
  } else if (inputShape !== undefined && (inputShape.length === 1 || inputShape[0] !== 1)) {
    refuse(['dataset', 'channels'], `expected 3 beside dataset.inputShape [${inputShape.join(', ')}]`);
  }
}

/** Whether a recipe's data are vectors, and not images. */
export const isVectors = ({ inputShape }: { inputShape?: readonly number[] | undefined }): boolean =>
  inputShape?.length === 1;

function requireShape(shape: readonly number[], { addIssue }: z.core.$RefinementCtx): void {
  if (shape.length === 1) return;
  if (shape.length !== 3) {
    addIssue({ code: 'custom', message: 'expected [channels, height, width] or [length]' });
  }
  for (const [i, size] of shape.entries()) {
    for (const issue of side.safeParse(size).error?.issues ?? []) {
      addIssue({ code: 'custom', path: [i], message: issue.message });
    }
  }
}

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

/**
 * A recipe with some values replaced, checked. Later `overrides` win over earlier ones. Another optimiser or rate schedule brings
 * its own defaults for the values that go with it; values in `overrides` win over these. Throws RecipeError naming each unknown
 * key and value out of range.
 */
export function overrideRecipe(recipe: Recipe, ...overrides: readonly unknown[]): Recipe {
  const changes = overrides.reduce<Record<string, unknown>>((all, each) => {
    if (!isObject(each)) throw new RecipeError(`expected an object of recipe values, got ${shown(each)}`);
    requireParts(each);
    return merge(all, each);
  }, {});
  return parseRecipe(merge(merge(recipe, followingFrom(recipe, changes)), changes));
}

/** The values that follow from changes: of another optimiser, of another schedule of the learning rate, and of crops without padding. */
function followingFrom({ training, dataset }: Recipe, changes: Record<string, unknown>): Record<string, object> {
  const [asked, augmentation] = [changes.training, changes.augmentation].map((part) =>
    isObject(part) ? part : {},
  ) as [Record<string, unknown>, Record<string, unknown>];
  const { optimizer = training.optimizer, rateSchedule = training.rateSchedule } = asked;
  return {
    augmentation: augmentation.cropPadding === 0 ? { cropPaddingMode: 'zeros' } : {},
    training: {
      ...(optimizer === training.optimizer ? {} : defaultsOf(optimizer, dataset.name, asked)),
      ...(rateSchedule !== 'multi-step' && training.rateSchedule === 'multi-step' ? { milestones: [] } : {}),
      ...(rateSchedule === 'multi-step' && training.rateSchedule !== 'multi-step'
        ? { milestones: [...datasetOf(dataset.name).protocol.training.milestones] }
        : {}),
    },
  };
}

/** What another optimiser brings: values of its own, SGD those of the data set, and values of others as if nobody had set them. */
function defaultsOf(
  optimizer: unknown,
  dataset: Recipe['dataset']['name'],
  asked: Record<string, unknown>,
): Partial<Recipe['training']> {
  const { learningRate, weightDecay, momentum } = datasetOf(dataset).protocol.training;
  return {
    ...(optimizer === 'sgd' ? { learningRate, weightDecay, momentum, nesterov: false } : {}),
    ...(optimizer === 'adamw' || optimizer === 'muon' ? OPTIMIZER_DEFAULTS[optimizer] : {}),
    ...(optimizer === 'muon' && asked.momentum === 0 ? { nesterov: false } : {}),
    ...(optimizer === 'adamw' ? {} : { betas: [...ADAMW_BETAS], eps: ADAMW_EPS }),
    ...(optimizer === 'muon' ? {} : SGD_BESIDE_MUON),
  };
}

function requireParts(value: unknown): void {
  const problem = unfitPart(value);
  if (problem !== null) throw new RecipeError(problem);
}

/** Checks a value of unknown origin, such as a file's. */
export function parseRecipe(value: unknown): Recipe {
  requireParts(value);
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RecipeError(parsed.error.issues.map((issue) => describeIssue(issue, value)).join('; '));
}
