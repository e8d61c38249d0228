// What a command shows while it works: a bar on a terminal, a line now and then elsewhere.
import { Presets, SingleBar } from 'cli-progress';

/** A bar in one line, which is gone when it is stopped. Whoever starts it stops it, also before the process is ended. */
export function newBar(format: string, stream: NodeJS.WriteStream): SingleBar {
  return new SingleBar(
    {
      ...{ format, stream, barsize: 24, fps: 5 },
      ...{ hideCursor: true, clearOnComplete: true, linewrap: false, gracefulExit: false },
    },
    Presets.shades_classic,
  );
}

/** Is due at most once in so many seconds, for the first time when the first of them are over. */
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
