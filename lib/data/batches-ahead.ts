import { DataError } from './errors.js';

/** A batch that is being made. */
export interface BatchAtWork<T> {
  readonly batch: Promise<T>;
  /** Ends the work on it as soon as can be; `batch` settles when nothing is at work any more. */
  cancel(): void;
}

export interface BatchesAheadOptions<T> {
  /** Begins the batch of a number; null after the last. */
  readonly begin: (batch: number) => BatchAtWork<T> | null;
  /** The number of the batch to begin with. */
  readonly first: number;
  /** Batches that are made beyond the one that was asked for last. */
  readonly ahead: number;
  /** Frees a batch that was made and not given out. */
  readonly drop: (batch: T) => void;
}

/** Makes batches in order, some ahead of the one that is used. */
export class BatchesAhead<T> {
  readonly #options: BatchesAheadOptions<T>;
  /** Begun, and not yet given out. */
  readonly #begun: BatchAtWork<T>[] = [];
  #next: number;
  #asked: number;
  #isWhole = false;
  #stopped: Promise<void> | null = null;
  #refuse!: (error: DataError) => void;
  readonly #refusal: Promise<never>;

  /** Nothing is begun before the first batch is asked for. */
  constructor(options: BatchesAheadOptions<T>) {
    this.#options = options;
    this.#next = options.first;
    this.#asked = options.first - 1;
    this.#refusal = new Promise((_, reject) => {
      this.#refuse = reject;
    });
    this.#refusal.catch(() => {});
  }

  /** The next batch; null after the last. Rejects with the error of the batch, or DATA_CANCELLED after `stop`. */
  async next(): Promise<T | null> {
    if (this.#stopped !== null) throw stopped();
    this.#asked++;
    this.#begin();
    const first = this.#begun[0];
    if (first === undefined) return null;
    const batch = await Promise.race([first.batch, this.#refusal]);
    // Stopped just as it was made: `stop` frees it.
    if (this.#stopped !== null) throw stopped();
    this.#begun.shift();
    return batch;
  }

  /** Begins no further batch; resolves when nothing is at work on those that were begun, and what they made is freed. */
  stop(): Promise<void> {
    this.#stopped ??= this.#end();
    return this.#stopped;
  }

  #begin(): void {
    while (!this.#isWhole && this.#next <= this.#asked + this.#options.ahead) {
      const batch = this.#options.begin(this.#next);
      if (batch === null) {
        this.#isWhole = true;
        return;
      }
      this.#next++;
      // It may fail long before it is asked for, or never be asked for.
      batch.batch.catch(() => {});
      this.#begun.push(batch);
    }
  }

  async #end(): Promise<void> {
    this.#refuse(stopped());
    for (const batch of this.#begun) batch.cancel();
    for (const made of await Promise.allSettled(this.#begun.map(({ batch }) => batch))) {
      if (made.status === 'fulfilled') this.#options.drop(made.value);
    }
  }
}

const stopped = (): DataError => new DataError('DATA_CANCELLED', 'reading ahead was stopped');
