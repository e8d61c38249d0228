import { EXIT } from './exit.js';

/**
 * A terminal sends Ctrl-C to every process of the group, and npm passes it on once more: signals this close together
 * are one wish.
 */
const ONE_WISH_MILLISECONDS = 500;

/** The first Ctrl-C (or SIGTERM) aborts the signal; a second one ends the process by `exit`, at once. */
export function abortOnInterrupt(
  onFirst: () => void,
  exit: (code: number) => void = process.exit,
): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  let first: number | null = null;
  const handle = (): void => {
    const now = performance.now();
    if (first === null) {
      first = now;
      onFirst();
      controller.abort();
    } else if (now - first > ONE_WISH_MILLISECONDS) {
      exit(EXIT.interrupted);
    }
  };
  process.on('SIGINT', handle).on('SIGTERM', handle);
  return {
    signal: controller.signal,
    release: () => process.off('SIGINT', handle).off('SIGTERM', handle),
  };
}
