// How a run is stopped before its first step; from there on the trainer looks after the signal.
import { setImmediate } from 'node:timers/promises';
import { unlessAborted } from '../abort.js';
import type { RunDirectory } from '../run/index.js';

export interface Interruption {
  readonly signal: AbortSignal | undefined;
  /** What is thrown then. */
  readonly error: () => Error;
}

/** Does work that comes before the first step. On an abort the work is abandoned: its outcome is not waited for. */
export function unlessInterrupted<T>({ signal, error }: Interruption, work: () => Promise<T>): Promise<T> {
  return unlessAborted(signal, error, async () => {
    const done = await work();
    // Work that never yielded to the event loop has kept the abort from being noticed.
    await setImmediate();
    return done;
  });
}

/** An abort ends the wait for another process's lock. Once the lock is held, the work itself looks after the signal. */
export async function holdUnlessAborted<T>(
  directory: RunDirectory,
  { signal, error }: Interruption,
  work: () => Promise<T>,
): Promise<T> {
  return directory.hold(work, { signal }).catch((reason: unknown) => {
    throw signal?.aborted === true && reason === signal.reason ? error() : reason;
  });
}
