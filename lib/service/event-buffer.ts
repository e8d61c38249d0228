import type { TrainingEvent } from '../training/index.js';

/** Events between a job and a reader that takes them one by one. A step that still waits gives way to the next one. */
export class EventBuffer {
  readonly #events: TrainingEvent[] = [];
  #isOver = false;
  #wake: () => void = () => {};

  push(event: TrainingEvent): void {
    if (event.type === 'step' && this.#events.at(-1)?.type === 'step') this.#events.pop();
    this.#events.push(event);
    this.#wake();
  }

  /** No event comes any more. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** All events, those that are still to come too, up to the end. For one reader. */
  async *read(): AsyncGenerator<TrainingEvent, void, void> {
    for (;;) {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) yield event;
      if (this.#isOver) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
