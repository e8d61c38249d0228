import { LayerwiseError } from '../errors.js';

/** What went wrong with a data set: `DATA_ARGUMENT` is a bad option, the others are about what lies on disk or on the network. */
export type DataErrorCode =
  | 'DATA_ARGUMENT'
  | 'DATA_NOT_FOUND'
  | 'DATA_CORRUPT'
  | 'DATA_UNSUPPORTED'
  | 'DATA_UNREADABLE'
  | 'DATA_DOWNLOAD'
  | 'DATA_CANCELLED';

/** Thrown by every reader, generator and downloader of data sets. The message names the file or the option. */
export class DataError extends LayerwiseError {
  readonly code: DataErrorCode;
  /** The file or folder that is at fault; null where it is an option, or more than one. */
  readonly path: string | null;

  constructor(code: DataErrorCode, message: string, options?: ErrorOptions & { path?: string }) {
    super(message, options);
    this.name = 'DataError';
    this.code = code;
    this.path = options?.path ?? null;
  }
}

/** Throws `DataError` (DATA_CANCELLED) once the signal is aborted. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new DataError('DATA_CANCELLED', 'loading the data set was cancelled', { cause: signal.reason });
  }
}
