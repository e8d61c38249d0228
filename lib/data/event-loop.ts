import { setImmediate } from 'node:timers/promises';
import { throwIfCancelled } from './errors.js';

/**
 * Lets timers, signals and messages be served between two parts of long work. Throws `DataError` (DATA_CANCELLED) once
 * `signal` is aborted.
 */
export async function serveEventLoop(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  throwIfCancelled(signal);
}
