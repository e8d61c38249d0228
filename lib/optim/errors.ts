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

/** Throws OptimizerError for a number that is not finite, or out of the range that `expected` tells. */
export function requireNumber(
  user: string,
  name: string,
  value: number,
  expected: string,
  isInRange: (value: number) => boolean,
): void {
  if (Number.isFinite(value) && isInRange(value)) return;
  throw new OptimizerError(`${user}: expected ${expected} for ${name}, got ${String(value)}`);
}

/** Throws OptimizerError for options that are no object, or not `known`; `user` is what they are given to. */
export function optionsOf<T extends object>(user: string, options: T, known: readonly (keyof T & string)[]): T {
  requireOptions(options, 'options', (problem) => new OptimizerError(`${user}: ${problem}`), known);
  return options;
}
