// What passes between a training job and its worker thread: plain data, cloned.
import type { Recipe } from '../recipe/index.js';
import type { ResumeOptions, RunOptions, StartFrom, TrainingEvent, TrainingOutcome } from '../training/index.js';
import type { SentError } from './sent-error.js';

/** Options of a run that can be cloned. */
export type JobOptions = Pick<RunOptions, 'cache' | 'checkpointSeconds' | 'cudaGraph' | 'onBadImage'>;

/** Options of a run that goes on in a worker thread: those of `resume` that can be cloned. */
export type ResumeJobOptions = JobOptions & Pick<ResumeOptions, 'dataDir' | 'device' | 'acceptChangedData'>;

export type JobInput =
  | {
      readonly kind: 'train';
      readonly recipe: Recipe;
      readonly out?: string;
      readonly startFrom?: StartFrom;
      readonly options: JobOptions;
    }
  | { readonly kind: 'resume'; readonly runDirectory: string; readonly options: ResumeJobOptions };

export type ToWorker = { readonly type: 'cancel' };

export type FromWorker =
  | { readonly type: 'event'; readonly event: TrainingEvent }
  /** What LibTorch has to say. */
  | { readonly type: 'libtorch'; readonly text: string }
  | { readonly type: 'finished'; readonly outcome: TrainingOutcome }
  | { readonly type: 'failed'; readonly error: SentError };
