// What passes between a training job and its worker thread: plain data, cloned.
import type { Recipe } from '../recipe/index.js';
import type { ResumeOptions, RunOptions, StartFrom, TrainingEvent, TrainingOutcome } from '../training/index.js';

/** Options of a run that can be cloned. */
export type JobOptions = Pick<RunOptions, 'cache' | 'checkpointSeconds' | 'cudaGraph' | 'onBadImage'>;

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

/** An error as it passes between threads. Cloning an Error itself would lose its name, its code and its other fields. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly stack: string;
  /** What else the error tells and can be cloned, such as its code and `at`, the layer and the epoch. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export function toSend(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), stack: '', fields: {} };
  const { name, message, stack = '' } = error;
  const fields = Object.entries(error).filter(([key, value]) => key !== 'name' && isCloneable(value));
  return { name, message, stack, fields: Object.fromEntries(fields) };
}

/** The error again, but for its class. */
export function fromSent({ name, message, stack, fields }: SentError): Error & Record<string, unknown> {
  const error = Object.assign(new Error(message), fields);
  for (const [key, value] of Object.entries({ name, stack })) {
    Object.defineProperty(error, key, { value, configurable: true, writable: true });
  }
  return error as Error & Record<string, unknown>;
}

function isCloneable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}
