// What a command shows while it works: a bar on a terminal, a line now and then elsewhere.
import { Presets, SingleBar } from 'cli-progress';

/** A one-line bar that disappears when it is stopped. The caller that starts it must stop it, also before it ends the process. */
export function newBar(format: string, stream: NodeJS.WriteStream): SingleBar {
  return new SingleBar(
    {
      ...{ format, stream, barsize: 24, fps: 5 },
      ...{ hideCursor: true, clearOnComplete: true, linewrap: false, gracefulExit: false },
    },
    Presets.shades_classic,
  );
}

/** Is due at most once in so many seconds, the first time after that many. */
export class Throttle {
  #last = performance.now();

  constructor(readonly seconds: number) {}

  get due(): boolean {
    const now = performance.now();
    if (now - this.#last < this.seconds * 1000) return false;
    this.#last = now;
    return true;
  }
}
