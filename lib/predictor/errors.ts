import { LayerwiseError } from '../errors.js';

/**
 * `QUEUE_FULL`: more calls wait than the predictor holds. `CLOSED`: it takes no calls any more. `WORKER_FAILED`: its thread ended; every
 * call fails until `reload`. `INVALID_ARGUMENT`: an option or an input that it does not take.
 */
export type PredictorErrorCode = 'QUEUE_FULL' | 'CLOSED' | 'WORKER_FAILED' | 'INVALID_ARGUMENT';

/** A predictor, and not the image or the run, is why a call failed. */
export class PredictorError extends LayerwiseError {
  override readonly name = 'PredictorError';

  constructor(
    readonly code: PredictorErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export const invalidArgument = (user: string, problem: string): PredictorError =>
  new PredictorError('INVALID_ARGUMENT', `${user}: ${problem}`);
