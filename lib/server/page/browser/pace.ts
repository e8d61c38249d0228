/**
 * A function that has work done soon after it is called, however often that is: a piece of work begins when the one before has ended,
 * and at least so many milliseconds after that one began. It resolves, or rejects, as the work that has begun after the call.
 */
export function atMostEvery(ms: number, work: () => Promise<void>): () => Promise<void> {
  let next: Promise<void> | null = null;
  let last: Promise<unknown> = Promise.resolve();
  let began = Number.NEGATIVE_INFINITY;
  const workInTime = async (): Promise<void> => {
    await last;
    await new Promise((resolve) => setTimeout(resolve, began + ms - performance.now()));
    next = null;
    began = performance.now();
    const working = work();
    last = working.catch(() => {});
    await working;
  };
  return () => {
    next ??= workInTime();
    return next;
  };
}
