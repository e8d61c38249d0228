import { usableProcessors } from '#scripts/support/limits.mjs';
import { throwIfCancelled } from './errors.js';

/** A training step blocks the event loop: the pool must have work for as long as the step takes. */
const WORK_A_THREAD = 16;

/** Images to decode at once: sixteen for each thread of libuv's pool, of which there are 4 where the environment names no other number. */
export function decodesAtOnce(): number {
  const named = Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? '', 10);
  return WORK_A_THREAD * (named >= 1 ? Math.min(named, 1024) : 4);
}

/** Images are read, and some decoded, on the threads of Node's pool: a few at a time keep them busy without holding many images. */
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

/**
 * What `work` gives for each index below `count`, in order, `atOnce` of them begun at a time and not yet given out. Throws the failure
 * of the first index that fails, or DATA_CANCELLED, when those under way have ended.
 */
export async function* inOrder<T>(
  count: number,
  work: (index: number) => Promise<T>,
  { signal, atOnce }: { signal: AbortSignal | undefined; atOnce: number },
): AsyncGenerator<T> {
  const begun: Promise<T>[] = [];
  try {
    for (let next = 0; next < count || begun.length > 0; ) {
      for (; next < count && begun.length < atOnce; next++) {
        const one = work(next);
        // It may fail long before its turn, or never have one.
        one.catch(() => {});
        begun.push(one);
      }
      throwIfCancelled(signal);
      yield await begun.shift()!;
    }
  } finally {
    await Promise.allSettled(begun);
  }
}
