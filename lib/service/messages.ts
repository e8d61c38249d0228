// What passes between a training job and its worker thread: plain data, cloned.
import type {
  Recipe,
  ResumeOptions,
  RunOptions,
  StartFrom,
  TrainingEvent,
  TrainingOutcome,
} from '../training/index.js';

/** Options of a run that can be cloned. */
export type JobOptions = Pick<RunOptions, 'cache' | 'checkpointSeconds' | 'cudaGraph' | 'onBadImage'>;

export type ResumeJobOptions = JobOptions & Pick<ResumeOptions, 'dataDir' | 'device' | 'acceptChangedData'>;

export type JobInput =
  | {
      readonly kind: 'train';
      readonly recipe: Recipe;
      readonly out: string;
      readonly startFrom?: StartFrom;
      readonly options: JobOptions;
    }
  | { readonly kind: 'resume'; readonly runDirectory: string; readonly options: ResumeJobOptions };

export type ToWorker = { readonly type: 'cancel' };

export type FromWorker =
  | { readonly type: 'event'; readonly event: TrainingEvent }
  | { readonly type: 'finished'; readonly outcome: TrainingOutcome }
  | {
      readonly type: 'failed';
      readonly error: {
        readonly name: string;
        readonly message: string;
        readonly code: string;
        readonly stack: string;
      };
    };
