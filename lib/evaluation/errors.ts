import { LayerwiseError } from '../errors.js';
import { requireOptions } from '../options.js';

/** Scores, labels, counts or options that no metric can be computed from: which, what was expected, what came. */
export class MetricError extends LayerwiseError {
  override readonly name = 'MetricError';
  readonly code = 'INVALID_ARGUMENT';
}

/** Throws MetricError for options that are no object, or not `known`; `user` is what they are given to. */
export function optionsOf<T extends object>(user: string, options: T, known: readonly (keyof T & string)[]): T {
  requireOptions(options, 'options', (problem) => new MetricError(`${user}: ${problem}`), known);
  return options;
}
