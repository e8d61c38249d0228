import { LayerwiseError } from '../errors.js';

/** A run directory cannot be used: which file, and why. */
export class RunDirectoryError extends LayerwiseError {
  override readonly name = 'RunDirectoryError';
  readonly code = 'RUN_DIRECTORY';
}

/** A module of the user's own cannot be used: which file, and why. */
export class ModuleFileError extends LayerwiseError {
  override readonly name = 'ModuleFileError';
  readonly code = 'MODULE_FILE';
}

/**
 * RUN_FILE_MISSING: there is no `config.json`. RUN_FILE_CORRUPTED: a file does not hold what it should, or two of them
 * contradict each other.
 */
export type RunRecordErrorCode = 'RUN_FILE_MISSING' | 'RUN_FILE_CORRUPTED';

/** A run directory that cannot be read: `file`, and `line` (from 1) in `metrics.jsonl`, name the position. */
export class RunRecordError extends LayerwiseError {
  override readonly name = 'RunRecordError';
  readonly code: RunRecordErrorCode;
  readonly file: string;
  readonly line: number | undefined;

  constructor(code: RunRecordErrorCode, position: { file: string; line?: number }, problem: string) {
    super(`${position.file}${position.line === undefined ? '' : `:${position.line}`}: ${problem}`);
    this.code = code;
    this.file = position.file;
    this.line = position.line;
  }
}
