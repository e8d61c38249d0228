import { LayerwiseError } from '../errors.js';

/** Features of the frozen layers cannot be kept: they do not fit, or a file of them cannot be used. */
export class FeatureCacheError extends LayerwiseError {
  override readonly name = 'FeatureCacheError';

  constructor(
    readonly code: 'CACHE_BUDGET' | 'CACHE_FILE',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
