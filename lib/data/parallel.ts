import { usableProcessors } from '../../scripts/support/limits.mjs';
import { throwIfCancelled } from './errors.js';

/** Files read at once: sharp decodes on its own threads, and a few at a time keep them busy without holding many images. */
export const FILES_AT_ONCE = 2 * usableProcessors();

/**
 * Calls `work` for each index below `count`, some at once, in order. After a failure or on `signal` no other is started;
 * rejects with the first failure, or DATA_CANCELLED, when those under way have ended.
 */
export async function forEachIndex(
  count: number,
  work: (index: number) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  let next = 0;
  let failed = false;
  const inTurn = async (): Promise<void> => {
    try {
      while (next < count && !failed) {
        throwIfCancelled(signal);
        await work(next++);
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: FILES_AT_ONCE }, inTurn));
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure) throw failure.reason;
}
