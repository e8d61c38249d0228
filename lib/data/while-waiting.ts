/** After a run was told to stop: a batch that is ready, or almost, is still taken. */
const GRACE_MILLISECONDS = 1_000;

/**
 * Gives out batches as they come. Where `signal` is aborted and none comes for a second, `stop` is called, which throws to end the run;
 * what is waited for is then given up: a source, such as a web server that is silent, may take minutes.
 */
export async function* stoppingWhileWaiting<T>(
  batches: AsyncIterable<T>,
  signal: AbortSignal | undefined,
  stop: () => Promise<void>,
): AsyncGenerator<T> {
  const iterator = batches[Symbol.asyncIterator]();
  let isGivenUp = false;
  try {
    for (;;) {
      const pending = iterator.next();
      const first = signal === undefined ? await pending : await unlessLate(pending, signal);
      isGivenUp = first === null;
      if (isGivenUp) await stop();
      const next = first ?? (await pending);
      isGivenUp = false;
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    const ended = iterator.return?.();
    // It would wait for the batch, too.
    if (isGivenUp) ended?.catch(() => {});
    else await ended;
  }
}

/** Null where `pending` has not come a while after the abort. */
async function unlessLate<T>(pending: Promise<T>, signal: AbortSignal): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  let begin = (): void => {};
  const late = new Promise<null>((resolve) => {
    begin = () => {
      timer = setTimeout(() => resolve(null), GRACE_MILLISECONDS);
    };
  });
  signal.addEventListener('abort', begin);
  if (signal.aborted) begin();
  try {
    return await Promise.race([pending, late]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', begin);
  }
}
