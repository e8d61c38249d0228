// Signals, from the first moment of the process to its last: by default they end Node without a message. It imports nothing, so
// that it is loaded first.

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
 * From now on a signal waits for the command that is being loaded. If no command takes it, the process ends with 130 and a
 * message; a second signal ends it so at once.
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

/** From now on a command handles the signals. Returns when the waiting signal came; null where there is none. */
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
