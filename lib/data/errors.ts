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
export class DataError extends Error {
  readonly code: DataErrorCode;

  constructor(code: DataErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DataError';
    this.code = code;
  }
}

/** Throws `DataError` (DATA_CANCELLED) once the signal is aborted. */
export function throwIfCancelled(signal: AbortSignal | undefined, action = 'loading the data set'): void {
  if (signal?.aborted) throw new DataError('DATA_CANCELLED', `${action} was cancelled`, { cause: signal.reason });
}
