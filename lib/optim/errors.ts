import { LayerwiseError } from '../errors.js';
import { requireOptions } from '../options.js';

/** `INVALID_ARGUMENT` is a bad option; `OBJECTIVE_NOT_FINITE` a function that is infinite or NaN where it is minimised. */
export type OptimizerErrorCode = 'INVALID_ARGUMENT' | 'OBJECTIVE_NOT_FINITE';

/** A hyper-parameter of an optimiser or schedule is out of range, or what is minimised is not finite. */
export class OptimizerError extends LayerwiseError {
  override readonly name = 'OptimizerError';
  readonly code: OptimizerErrorCode;

  constructor(message: string, code: OptimizerErrorCode = 'INVALID_ARGUMENT') {
    super(message);
    this.code = code;
  }
}

/** Throws OptimizerError for options that are no object; `user` is what they are given to. */
export function optionsOf<T>(user: string, options: T): T {
  requireOptions(options, 'options', (problem) => new OptimizerError(`${user}: ${problem}`));
  return options;
}
