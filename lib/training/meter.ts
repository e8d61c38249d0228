import type { MeterState } from '../run/index.js';
import { keep, scope, stack, type Tensor } from '../tensor/index.js';

export interface StepLoss {
  readonly step: number;
  /** Which of the problems that are solved at once; 0 where there is one. */
  readonly problem: number;
  readonly loss: number;
}

/**
 * Sums loss and hits over the steps of an epoch, of one problem or of each of several. The values stay on the device and are read only
 * once in `everySeconds`: a read waits for everything the device was given.
 */
export class EpochMeter {
  readonly #everySeconds: number;
  readonly #now: () => number;
  #lastRead: number;
  readonly #pending: { step: number; images: number; loss: Tensor; correct: Tensor }[] = [];
  readonly #states: readonly MeterState[];
  readonly #first: number;

  /** `first` is the number of the first problem, where there are others before it. `now` tells the time in seconds. */
  constructor(options: {
    everySeconds: number;
    problems?: number;
    first?: number;
    states?: readonly MeterState[];
    now?: () => number;
  }) {
    this.#everySeconds = options.everySeconds;
    this.#now = options.now ?? (() => performance.now() / 1000);
    this.#lastRead = this.#now();
    this.#first = options.first ?? 0;
    this.#states = Array.from({ length: options.problems ?? 1 }, (_, problem) => ({
      ...(options.states?.[problem] ?? { lossSum: 0, correct: 0, images: 0 }),
    }));
  }

  /**
   * Takes a step's mean loss and number of hits, both scalars on the device, or [problems] where there are several. Returns the losses
   * it has now read.
   */
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
      return pending.flatMap(({ step, images, loss, correct }, i) => {
        loss.dispose();
        correct.dispose();
        return this.#states.map((state, problem) => {
          const at = i * this.#states.length + problem;
          state.lossSum += losses[at]! * images;
          state.correct += Number(hits[at]);
          state.images += images;
          return { step, problem: this.#first + problem, loss: losses[at]! };
        });
      });
    });
  }

  /** The sums of what has been read, of each problem; flush first for all of it. */
  get states(): readonly Readonly<MeterState>[] {
    return this.#states;
  }

  /** Mean loss an image, of what has been read; NaN before that. Default: of the last problem. */
  loss(problem = this.#states.length - 1): number {
    const { lossSum, images } = this.#states[problem]!;
    return lossSum / images;
  }

  /** Percentage of hits, of what has been read; NaN before that. Default: of the last problem. */
  top1(problem = this.#states.length - 1): number {
    const { correct, images } = this.#states[problem]!;
    return (100 * correct) / images;
  }

  /** Whether anything has been read. */
  get hasRead(): boolean {
    return this.#states[0]!.images > 0;
  }

  dispose(): void {
    for (const { loss, correct } of this.#pending.splice(0)) {
      loss.dispose();
      correct.dispose();
    }
  }
}
