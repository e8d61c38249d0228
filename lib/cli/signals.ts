// Signals, from the first moment of the process to its last: Node itself would die of them without a word. It imports
// nothing, so that nothing has to be loaded before it.

/** Ctrl-C, what service managers send, and the end of the terminal. */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * A terminal sends Ctrl-C to every process of the group, and npm passes it on once more: signals this close together
 * are one wish.
 */
export const ONE_WISH_MILLISECONDS = 500;

const INTERRUPTED = 130;

let isCommandListening = false;
/** When the first signal came that no command has taken; null where there is none. */
let waiting: number | null = null;

/**
 * From here on a signal waits for the command that is being loaded. One that no command takes any more ends the process with
 * 130 and a sentence, and so does a second one at once.
 */
export function watchSignals(): void {
  const handle = (): void => {
    if (isCommandListening) return;
    const now = performance.now();
    waiting ??= now;
    if (now - waiting > ONE_WISH_MILLISECONDS) process.exit();
  };
  for (const name of SIGNALS) process.on(name, handle);
  process.on('exit', () => {
    if (waiting === null) return;
    process.stderr.write('layerwise: interrupted while no command was at work\n');
    process.exitCode = INTERRUPTED;
  });
}

/** A command takes the signals from here on. Returns when the one that waited for it came; null where none did. */
export function takeSignals(): number | null {
  const came = waiting;
  waiting = null;
  isCommandListening = true;
  return came;
}

/** The command is over. */
export function giveSignalsBack(): void {
  isCommandListening = false;
}
