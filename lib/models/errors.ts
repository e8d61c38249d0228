import { LayerwiseError } from '../errors.js';

/** A model was asked for that cannot be built: which option, what was expected, what came. */
export class ModelError extends LayerwiseError {
  override readonly name = 'ModelError';
  readonly code = 'INVALID_ARGUMENT';
}
