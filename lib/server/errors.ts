import { LayerwiseError } from '../errors.js';

/**
 * What a client asked for cannot be done: `statusCode` is HTTP's, 499 where the client does not wait for an answer any more; `code`
 * says why, such as RUN_UNKNOWN or RUN_NOT_FINISHED.
 */
export class RequestError extends LayerwiseError {
  override readonly name = 'RequestError';

  constructor(
    readonly statusCode: 400 | 403 | 404 | 409 | 429 | 499 | 503,
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A server was asked for with options that there are not. */
export class ServerError extends LayerwiseError {
  override readonly name = 'ServerError';
  readonly code = 'INVALID_ARGUMENT';
}
