import { LayerwiseError } from '../errors.js';
import { shownLines } from '../format.js';
import { OutputError } from './output.js';

/** The exit codes of the command line. */
export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** A command was given arguments that do not go together or are out of range. */
export class UsageError extends LayerwiseError {
  override readonly name = 'UsageError';
  readonly code = 'USAGE';
}

/** A signal ended a command; the message says what becomes of its work. */
export class InterruptedError extends LayerwiseError {
  override readonly name = 'InterruptedError';
  readonly code = 'INTERRUPTED';
}

/** Codes of errors that the user's own words caused. */
const USAGE_CODES = new Set(['USAGE', 'INVALID_RECIPE', 'INVALID_ARGUMENT', 'DATA_ARGUMENT', 'CACHE_BUDGET']);

const codeOf = (error: unknown): string | undefined => {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
};

export function exitCodeOf(error: unknown): number {
  const code = codeOf(error);
  if (code === 'INTERRUPTED' || code === 'DATA_CANCELLED') return EXIT.interrupted;
  return code !== undefined && USAGE_CODES.has(code) ? EXIT.usage : EXIT.failed;
}

/** An error that has a code speaks for itself; of any other, the stack tells more. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // A fault of the program's own, in the thread that trains: its stack came along.
  if (codeOf(error) === 'INTERNAL') return messageOf(error.cause);
  return codeOf(error) === undefined ? (error.stack ?? error.message) : `layerwise: ${shownLines(error.message)}`;
}

/** Tells an error on standard error. Whoever closed the output, as `| head` does, is told only what became of a run. */
export function tell(error: unknown): void {
  if (error instanceof OutputError && error.isClosed && error.consequence === undefined) return;
  process.stderr.write(`${messageOf(error)}\n`);
}
