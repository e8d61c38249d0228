/** A run directory cannot be used: which file, and why. */
export class RunDirectoryError extends Error {
  override readonly name = 'RunDirectoryError';
  readonly code = 'RUN_DIRECTORY';
}

export type RunRecordErrorCode = 'RUN_FILE_MISSING' | 'RUN_FILE_CORRUPTED';

/** A run directory that cannot be read: `file`, and `line` (from 1) in `metrics.jsonl`, name the place. */
export class RunRecordError extends Error {
  override readonly name = 'RunRecordError';
  readonly code: RunRecordErrorCode;
  readonly file: string;
  readonly line: number | undefined;

  constructor(code: RunRecordErrorCode, place: { file: string; line?: number }, problem: string) {
    super(`${place.file}${place.line === undefined ? '' : `:${place.line}`}: ${problem}`);
    this.code = code;
    this.file = place.file;
    this.line = place.line;
  }
}
