// What passes between a training job and its worker thread: plain data, cloned.
import type { Recipe } from '../recipe/index.js';
import type { OwnCode } from '../run/index.js';
import type { ResumeOptions, RunOptions, StartFrom, TrainingEvent, TrainingOutcome } from '../training/index.js';
import type { SentCode } from './sent-code.js';
import type { SentError } from './sent-error.js';

/** The modules of a network and data of one's own; functions cannot be given to a worker. A text is no URL. */
export type JobModules = { readonly [Name in keyof OwnCode]?: URL };

/** Options of a job: those of a run that can be cloned, `signal`, which cancels the job, and the rank of its threads. */
export type JobOptions = Pick<
  RunOptions,
  'cache' | 'checkpointSeconds' | 'cudaGraph' | 'group' | 'onBadImage' | 'signal' | 'tensorboard'
> &
  JobModules & {
    /**
     * On Linux: how far the job's threads step back behind the other threads of this process and of others, 0 to 19, as `nice` has
     * it; default: 0. The event loop beside it gets the processors sooner, and the job what is left. It changes no result.
     */
    readonly niceness?: number;
  };

/** A job's options on their way: a URL cannot be cloned. */
export type Sent<Options extends object> = Omit<Options, keyof OwnCode | 'signal'> & { readonly code: SentCode };

/** Options of a run that goes on in a worker thread: those of `resume` that can be cloned. */
export type ResumeJobOptions = JobOptions & Pick<ResumeOptions, 'dataDir' | 'device' | 'acceptChangedData'>;

export interface TrainInput {
  readonly kind: 'train';
  readonly recipe: Recipe;
  readonly out?: string;
  readonly startFrom?: StartFrom;
  readonly orResume?: boolean;
  readonly options: Sent<JobOptions>;
}

export interface ResumeInput {
  readonly kind: 'resume';
  readonly runDirectory: string;
  readonly options: Sent<ResumeJobOptions>;
}

export type JobInput = TrainInput | ResumeInput;

export type ToWorker = { readonly type: 'stop' };

export type FromWorker =
  | { readonly type: 'event'; readonly event: TrainingEvent }
  /** What LibTorch has to say. */
  | { readonly type: 'libtorch'; readonly text: string }
  | { readonly type: 'finished'; readonly outcome: TrainingOutcome }
  | { readonly type: 'failed'; readonly error: SentError };
