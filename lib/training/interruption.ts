// How a run is stopped before its first step; from there on the trainer looks after the signal.
import { setImmediate } from 'node:timers/promises';
import type { RunDirectory } from '../run/index.js';

export interface Interruption {
  readonly signal: AbortSignal | undefined;
  /** What is thrown then. */
  readonly error: () => Error;
}

/** Does work that comes before the first step. On an abort what it is at is left alone, and its outcome is not waited for. */
export async function unlessAborted<T>({ signal, error }: Interruption, work: () => Promise<T>): Promise<T> {
  if (signal === undefined) return work();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(error());
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
  });
  try {
    const done = await Promise.race([aborted, work()]);
    // Work that never left this thread to the event loop has kept the abort from being heard.
    await Promise.race([aborted, setImmediate()]);
    return done;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Waiting for another process's lock is given up on an abort; once held, the work itself looks after the signal. */
export async function holdUnlessAborted<T>(
  directory: RunDirectory,
  { signal, error }: Interruption,
  work: () => Promise<T>,
): Promise<T> {
  return directory.hold(work, { signal }).catch((reason: unknown) => {
    throw signal?.aborted === true && reason === signal.reason ? error() : reason;
  });
}
