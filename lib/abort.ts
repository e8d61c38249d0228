// Work that is abandoned when a signal is aborted.

/**
 * Resolves or rejects as `work` does. Rejects with `reason()` as soon as `signal` is aborted; the work then goes on unobserved,
 * and its outcome is ignored.
 */
export async function unlessAborted<T>(
  signal: AbortSignal | undefined,
  reason: () => unknown,
  work: () => Promise<T>,
): Promise<T> {
  if (signal === undefined) return work();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(reason());
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
  });
  try {
    return await Promise.race([aborted, work()]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
