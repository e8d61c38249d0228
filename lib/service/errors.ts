import { LayerwiseError } from '../errors.js';

/**
 * A job that did not end well. `code` is that of the trainer's error, such as INTERRUPTED or LOSS_NOT_FINITE; INTERNAL where
 * it has none; WORKER_FAILED where the worker thread itself ended; INVALID_ARGUMENT, thrown at once, for options that a job does
 * not take. Of a JobQueue: QUEUE_CLOSED where it takes no more jobs, QUEUE_HELD where another has its folder, QUEUE_FILE where its
 * file there is damaged. `cause` is the trainer's error, of its class, with its stack and fields; `at`, where it has one, says where in the
 * training it was.
 */
export class TrainingJobError extends LayerwiseError {
  override readonly name: string = 'TrainingJobError';
  /** Such as `{ layer, epoch, step }`, each from 0. */
  readonly at: Readonly<Record<string, unknown>> | undefined;

  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions & { at?: Readonly<Record<string, unknown>> | undefined },
  ) {
    super(message, options);
    this.at = options?.at;
  }
}

/** The trainer's error as that of a job. */
export function jobError(cause: Error): TrainingJobError {
  const { code, at } = cause as { code?: unknown; at?: TrainingJobError['at'] };
  return new TrainingJobError(typeof code === 'string' ? code : 'INTERNAL', cause.message, { cause, at });
}

/** A refusal of what `user`, a function, was given. */
export const refusal = (user: string, problem: string): TrainingJobError =>
  new TrainingJobError('INVALID_ARGUMENT', `${user}: ${problem}`);
