import { EXIT, InterruptedError } from './exit.js';
import { onOutputFailure, outputFailure } from './output.js';
import { giveSignalsBack, ONE_WISH_MILLISECONDS, SIGNALS, takeSignals } from './signals.js';

export interface Interrupt {
  readonly signal: AbortSignal;
  /**
   * The error to report for a command that failed with `error`: InterruptedError after a signal, OutputError after a failure of
   * standard output, else `error`.
   */
  explain(error: unknown, sentence: string): unknown;
  release(): void;
}

/**
 * The first Ctrl-C (or SIGTERM, or SIGHUP) aborts the signal; a second one ends the process by `exit`, at once. Standard
 * output that cannot be written to aborts the signal too. Where a signal came while the command was being loaded, it is
 * aborted from the start.
 */
export function abortOnInterrupt(
  onFirst: () => void = () => {},
  exit: (code: number) => void = process.exit,
): Interrupt {
  const controller = new AbortController();
  let first: number | null = null;
  const begin = (now: number): void => {
    first = now;
    onFirst();
    controller.abort();
  };
  const handle = (): void => {
    const now = performance.now();
    if (first === null) begin(now);
    else if (now - first > ONE_WISH_MILLISECONDS) exit(EXIT.interrupted);
  };
  const early = takeSignals();
  if (early !== null) begin(early);
  for (const name of SIGNALS) process.on(name, handle);
  const forgetOutput = onOutputFailure(() => controller.abort());
  return {
    signal: controller.signal,
    explain: (error, sentence) => {
      if (!controller.signal.aborted) return error;
      // A terminal that has gone takes no output either: the signal counts.
      return first === null ? outputFailure() : new InterruptedError(sentence);
    },
    release: () => {
      for (const name of SIGNALS) process.off(name, handle);
      giveSignalsBack();
      forgetOutput();
    },
  };
}
