import { type Classified, type ClassPrediction, type LayerSelection, predictionsOf } from '../finished/index.js';
import type { InputReader } from './image-input.js';
import type { Answer } from './messages.js';

/** What a call is answered with. */
export interface Classification {
  /** The likeliest classes, the likeliest first. */
  readonly predictions: readonly ClassPrediction[];
  /** What answered: a layer, from 0, or the ensemble. */
  readonly layer: LayerSelection;
  /** The same of the head of every layer that has one, from the first on; only with `everyLayer`. */
  readonly byLayer?: readonly Classification[];
}

/** A call of `classify`, from when it is accepted until it is answered. */
export class Call {
  readonly answered: Promise<Classification>;
  /** What the network reads, once it is there. */
  input: Uint8Array | null = null;
  /** When it was, in milliseconds. */
  readyAt = 0;
  #isSettled = false;
  #settle!: { resolve: (value: Classification) => void; reject: (error: unknown) => void };
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.reject(this.#signal!.reason);

  constructor(
    readonly read: InputReader,
    /** Classes to name. */
    readonly top: number,
    signal: AbortSignal | undefined,
  ) {
    this.answered = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort);
  }

  /** Answered, failed or aborted: nothing more is to be done for it. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Takes its part of what a batch came to; it was number `at` in it. */
  answer({ chosen, byLayer }: Answer, at: number, classes: readonly string[]): void {
    const told = (classified: Classified): Classification => ({
      predictions: predictionsOf(classified, { row: at, classes, top: this.top }),
      layer: classified.layers === null ? 'ensemble' : classified.layers[at]!,
    });
    const answer = byLayer === null ? told(chosen) : { ...told(chosen), byLayer: byLayer.map(told) };
    if (this.#end()) this.#settle.resolve(answer);
  }

  reject(error: unknown): void {
    if (this.#end()) this.#settle.reject(error);
  }

  #end(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}
