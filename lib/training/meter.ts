import type { MeterState } from '../run/index.js';
import { keep, scope, stack, type Tensor } from '../tensor/index.js';

export interface StepLoss {
  readonly step: number;
  readonly loss: number;
}

/**
 * Sums loss and hits over the steps of an epoch. The values stay on the device and are read only once in `everySeconds`:
 * a read waits for everything the device was given.
 */
export class EpochMeter {
  readonly #everySeconds: number;
  readonly #now: () => number;
  #lastRead: number;
  readonly #pending: { step: number; images: number; loss: Tensor; correct: Tensor }[] = [];
  readonly #state: MeterState;

  /** `now` tells the time in seconds. */
  constructor(options: { everySeconds: number; state?: MeterState; now?: () => number }) {
    this.#everySeconds = options.everySeconds;
    this.#now = options.now ?? (() => performance.now() / 1000);
    this.#lastRead = this.#now();
    this.#state = { ...(options.state ?? { lossSum: 0, correct: 0, images: 0 }) };
  }

  /** Takes a step's mean loss and number of hits, both scalars on the device. Returns the losses it has now read. */
  add(step: number, images: number, loss: Tensor, correct: Tensor): StepLoss[] {
    this.#pending.push({ step, images, loss: keep(loss.detach()), correct: keep(correct) });
    return this.#now() - this.#lastRead >= this.#everySeconds ? this.flush() : [];
  }

  /** Reads what is pending. */
  flush(): StepLoss[] {
    this.#lastRead = this.#now();
    if (this.#pending.length === 0) return [];
    const pending = this.#pending.splice(0);
    return scope(() => {
      const losses = stack(pending.map(({ loss }) => loss.to({ dtype: 'float64' }))).toTypedArray() as Float64Array;
      const hits = stack(pending.map(({ correct }) => correct)).toTypedArray() as BigInt64Array;
      return pending.map(({ step, images, loss, correct }, i) => {
        loss.dispose();
        correct.dispose();
        this.#state.lossSum += losses[i]! * images;
        this.#state.correct += Number(hits[i]);
        this.#state.images += images;
        return { step, loss: losses[i]! };
      });
    });
  }

  /** The sums of what has been read; flush first for all of it. */
  get state(): Readonly<MeterState> {
    return this.#state;
  }

  /** Mean loss an image, of what has been read; NaN before that. */
  get loss(): number {
    return this.#state.lossSum / this.#state.images;
  }

  /** Percentage of hits, of what has been read; NaN before that. */
  get top1(): number {
    return (100 * this.#state.correct) / this.#state.images;
  }

  /** Whether anything has been read. */
  get hasRead(): boolean {
    return this.#state.images > 0;
  }

  dispose(): void {
    for (const { loss, correct } of this.#pending.splice(0)) {
      loss.dispose();
      correct.dispose();
    }
  }
}
