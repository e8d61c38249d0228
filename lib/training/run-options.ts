// What `train` and `resume` are asked for, and what they give.
import { z } from 'zod';
import { BAD_IMAGE_POLICIES, type OnBadImage } from '../data/index.js';
import type { CacheBudget } from '../features/index.js';
import type { Finished } from '../finished/index.js';
import { requireOptions } from '../options.js';
import { type Recipe, RecipeError } from '../recipe/index.js';
import { type OWN_CODE, type OwnCode, requireOwnCode } from '../run/index.js';
import { describeIssue } from '../schema.js';
import type { TrainingEvent } from './events.js';
import type { RunGroup } from './peers.js';
import type { StartFrom } from './start-from.js';

/** What `train` and `resume` share: how a run is watched, stopped, checkpointed, and what room it may take. */
export interface RunOptions {
  /**
   * Stops the run after the step in progress, with a checkpoint; between steps, as while features are made, as soon as it can
   * be, and the last checkpoint holds, if there is one. Throws TrainingInterrupted, whose message says what there is to go on
   * from.
   */
  readonly signal?: AbortSignal;
  /** Called with each event, in order. What it throws ends the run. */
  readonly onEvent?: (event: TrainingEvent) => void;
  /**
   * Bytes that features of frozen layers may take: those of the test images, and with `augmentation.views` those of every
   * view. Default: 4 GiB of a GPU, a quarter of the memory that this process can still allocate, nothing on disk. 'none'
   * computes them anew in every epoch.
   */
  readonly cache?: Partial<CacheBudget> | 'none';
  /**
   * Captures each layer's training step as a CUDA graph and launches it as a whole: of use where the host cannot give
   * kernels as fast as the GPU runs them, as with narrow networks and small batches. Default: false. RecipeError on the
   * CPU, with fp16 and with micro-batches.
   */
  readonly cudaGraph?: boolean;
  /**
   * Replaces the recipe's `dataset.onBadImage`, also in `config.json`. A run that failed with a bad image may go on with 'skip':
   * it ends as one that had 'skip' from the start.
   */
  readonly onBadImage?: OnBadImage;
  /**
   * Writes an event file for TensorBoard into the run directory: figures by layer, the filters of the first convolution as images,
   * and the recipe as hyperparameters. Default: false.
   */
  readonly tensorboard?: boolean;
  /** Seconds between checkpoints within an epoch; there is one after each epoch in any case. Default: 300. */
  readonly checkpointSeconds?: number;
  /**
   * The place of this process among several that train the run together, each on its share of every batch; all call this function with
   * the same recipe or run directory. Rank 0 writes the run, and all get its outcome. Default: this process alone. Throws
   * DistributedError where another process is lost; the run then goes on from its last checkpoint.
   */
  readonly group?: RunGroup;
}

/**
 * Options of `train`. A recipe whose `model.name` is own needs `network` or `module`, one whose `dataset.name` is own `data` or
 * `module`.
 */
export interface TrainOptions extends RunOptions, OwnCode {
  readonly recipe: Recipe;
  /** The run directory to make: new or empty. Default: a new one under runs/, named after the recipe and the time. */
  readonly out?: string;
  /** Layers to take from a finished run instead of training them. */
  readonly startFrom?: StartFrom;
  /**
   * Whether a run that has begun in `out` is gone on with, if it is one of this recipe, as when a launcher starts its processes
   * again; default: false.
   */
  readonly orResume?: boolean;
}

/** Options of `resume`: network and data that are one's own are given again. */
export interface ResumeOptions extends RunOptions, OwnCode {
  /** Where the data of the run lies now, if it has moved; it is recorded. */
  readonly dataDir?: string;
  /** Another device than the run's own; it is recorded. */
  readonly device?: Recipe['device'];
  /** Goes on, with a note, where images were replaced in place, as a damaged file is; default: false. */
  readonly acceptChangedData?: boolean;
}

/** A finished run. */
export type TrainingOutcome = Finished;

// Objects of another realm, as a test runner has, are no instances of this one's classes.
const signal = z.custom<AbortSignal>(
  (value) => typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value,
  'expected an AbortSignal',
);
const handler = z.custom((value) => typeof value === 'function', 'expected a function');

/** What values may be; what they mean is checked where they are used. */
const ofBoth = {
  signal: signal.optional(),
  onEvent: handler.optional(),
  cache: z.unknown().optional(),
  cudaGraph: z.boolean().optional(),
  onBadImage: z.enum(BAD_IMAGE_POLICIES).optional(),
  checkpointSeconds: z.number().min(0).optional(),
  tensorboard: z.boolean().optional(),
  group: z
    .strictObject({
      ...{ rank: z.int().min(0), worldSize: z.int().min(1), localRank: z.int().min(0).optional() },
      parallel: z.enum(['data', 'layers']).optional(),
      replay: z.int().min(0).max(1_024).optional(),
      backend: z.enum(['gloo', 'nccl']).optional(),
      timeoutMs: z.int().min(1).optional(),
      // Checked by `joinGroup`.
      store: z.unknown().optional(),
    })
    .optional(),
};

const startFrom = z.strictObject({
  runDirectory: z.string(),
  layers: z.number().optional(),
  head: z.enum(['new', 'taken']).optional(),
});

/** Checked by `requireOwnCode`. */
const given = {
  network: z.unknown().optional(),
  data: z.unknown().optional(),
  module: z.unknown().optional(),
} satisfies Record<(typeof OWN_CODE)[number], unknown>;

const ofTrain = {
  ...ofBoth,
  ...given,
  recipe: z.unknown().optional(),
  out: z.string().optional(),
  startFrom: startFrom.optional(),
  orResume: z.boolean().optional(),
};

/** The options of each function that trains. */
const SCHEMAS = {
  train: z.strictObject(ofTrain),
  resume: z.strictObject({
    ...ofBoth,
    ...given,
    dataDir: z.string().optional(),
    device: z.string().optional(),
    acceptChangedData: z.boolean().optional(),
  }),
  planRecipe: z.strictObject({ ...ofTrain, measured: z.boolean().optional(), onRefused: handler.optional() }).omit({
    out: true,
    signal: true,
    onEvent: true,
    checkpointSeconds: true,
    tensorboard: true,
    group: true,
    orResume: true,
  }),
} as const;

/** Throws RecipeError for an option that there is not, and for a value of the wrong kind. */
export function requireRunOptions(user: keyof typeof SCHEMAS, options: object): void {
  const schema = SCHEMAS[user];
  const refuse = (problem: string): RecipeError => new RecipeError(`${user}: ${problem}`);
  requireOptions(options, 'options', refuse, Object.keys(schema.shape));
  const { success, error } = schema.safeParse(options);
  if (!success) throw refuse(error.issues.map((issue) => describeIssue(issue, options)).join('; '));
  requireOwnCode(options, refuse);
}
