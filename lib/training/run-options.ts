// What `train` and `resume` are asked for, and what they give.
import type { OnBadImage } from '../data/index.js';
import type { CacheBudget } from '../features/index.js';
import type { Finished } from '../finished/index.js';
import type { Recipe } from '../recipe/index.js';
import type { TrainingEvent } from './events.js';
import type { StartFrom } from './start-from.js';

/** What `train` and `resume` share: how a run is watched, stopped, checkpointed, and what room it may take. */
export interface RunOptions {
  /**
   * Stops the run after the step in progress, with a checkpoint; between steps, as while features are made, as soon as it can
   * be, and the last checkpoint holds, if there is one. Throws TrainingInterrupted, whose message says what there is to go on
   * from.
   */
  readonly signal?: AbortSignal;
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
   * In place of the recipe's `dataset.onBadImage`, and kept in `config.json`. A run that failed with a bad image may go on
   * with 'skip': it ends as one that had 'skip' from the start.
   */
  readonly onBadImage?: OnBadImage;
  /** Seconds between checkpoints within an epoch; there is one after each epoch in any case. Default: 300. */
  readonly checkpointSeconds?: number;
}

/** Options of `train`. */
export interface TrainOptions extends RunOptions {
  readonly recipe: Recipe;
  /** The run directory to make: new or empty. Default: a new one under runs/, named after the recipe and the time. */
  readonly out?: string;
  /** Layers to take from a finished run instead of training them. */
  readonly startFrom?: StartFrom;
}

/** Options of `resume`. */
export interface ResumeOptions extends RunOptions {
  /** Where the data of the run lies now, if it has moved; it is recorded. */
  readonly dataDir?: string;
  /** Another device than the run's own; it is recorded. */
  readonly device?: Recipe['device'];
  /** Goes on, with a note, where images were replaced in place, as a damaged file is; default: false. */
  readonly acceptChangedData?: boolean;
}

/** A finished run. */
export type TrainingOutcome = Finished;
