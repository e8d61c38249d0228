import { usableProcessors } from '#scripts/support/limits.mjs';
import { throwIfCancelled } from './errors.js';

/** Images are decoded on the threads of Node's pool: a few at a time keep them busy without holding many images. */
const IMAGES_AT_ONCE = 2 * usableProcessors();

/**
 * Calls `work` for each index below `count`, in order, `atOnce` of them at a time. After a failure or on `signal` no other
 * is started; rejects with the first failure, or DATA_CANCELLED, when those under way have ended.
 */
export async function forEachIndex(
  count: number,
  work: (index: number) => Promise<void>,
  { signal, atOnce = IMAGES_AT_ONCE }: { signal: AbortSignal | undefined; atOnce?: number },
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
  const outcomes = await Promise.allSettled(Array.from({ length: atOnce }, inTurn));
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure) throw failure.reason;
}
