import { systemReason } from '#scripts/support/errors.mjs';
import { LayerwiseError } from '../errors.js';

/** Standard output took no more: its disk is full, or whoever read it has stopped, as in `| head`. */
export class OutputError extends LayerwiseError {
  override readonly name = 'OutputError';
  readonly code = 'OUTPUT';
  readonly isClosed: boolean;

  /** `consequence`: what became of the command's work. */
  constructor(
    override readonly cause: NodeJS.ErrnoException,
    readonly consequence?: string,
  ) {
    const problem =
      cause.code === 'EPIPE'
        ? 'standard output was closed'
        : `standard output could not be written: ${systemReason(cause)}`;
    super(consequence === undefined ? problem : `${problem}; ${consequence}`);
    this.isClosed = cause.code === 'EPIPE';
  }
}

let failure: OutputError | null = null;
const listeners = new Set<() => void>();

/**
 * From now on a failure of standard output calls the listeners, which stop what is going on; without any it ends the process by
 * `end`.
 */
export function watchOutput(end: (error: OutputError) => void): void {
  process.stdout.on('error', (error) => {
    if (failure !== null) return;
    failure = new OutputError(error);
    if (listeners.size === 0) end(failure);
    for (const listener of listeners) listener();
  });
  // There is nobody left to tell.
  process.stderr.on('error', () => {});
}

/** Calls `listener` when standard output fails; returns a function that removes it. */
export function onOutputFailure(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const outputFailure = (): OutputError | null => failure;
