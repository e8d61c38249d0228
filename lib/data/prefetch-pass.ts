import { DataError } from './errors.js';

export interface PrefetchPassOptions {
  /** Indices of the samples of a batch, by its number; empty after the last. */
  readonly indicesOf: (batch: number) => Int32Array;
  /** The number of the batch to begin with. */
  readonly first: number;
  /** Gives the bytes of a sample, such as an image or a row of features, by its index. */
  readonly read: (index: number) => Promise<Uint8Array>;
  /** The same for all samples. */
  readonly sampleBytes: number;
  /** Batches that are read beyond the one that was asked for last. */
  readonly ahead: number;
  /** Samples read at once. */
  readonly concurrency: number;
}

/** The samples of a batch, one after the other. */
export interface PrefetchedBatch {
  readonly indices: Int32Array;
  readonly bytes: Uint8Array;
}

/**
 * Reads the samples of one pass in order, some at once, ahead of their use. The result depends neither on how far ahead nor on
 * how many at once: a batch has its samples in order, and fails with the first of them that cannot be read.
 */
export class PrefetchPass {
  readonly #options: PrefetchPassOptions;
  /** Batches that were begun and not yet given out. */
  readonly #begun: BatchInProgress[] = [];
  /** The one whose samples are being started. */
  #current: BatchInProgress | null = null;
  #next: number;
  #asked: number;
  #running = 0;
  #stopped = false;
  #whenIdle: (() => void)[] = [];

  /** Nothing is read before the first batch is asked for. */
  constructor(options: PrefetchPassOptions) {
    this.#options = options;
    this.#next = options.first;
    this.#asked = options.first - 1;
  }

  /** The next batch; null after the last. Rejects with the error of `read`, or DATA_CANCELLED after `stop`. */
  async next(): Promise<PrefetchedBatch | null> {
    this.#asked++;
    this.#start();
    if (this.#stopped) throw stopped();
    // A batch is begun only after the one before it was started whole, so this is the one asked for.
    const batch = this.#begun[0];
    if (batch === undefined) return null;
    await batch.done;
    this.#begun.shift();
    return batch;
  }

  /** Starts no further sample; resolves when those being read are done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const batch of this.#begun) batch.settle(stopped());
    if (this.#running > 0) await new Promise<void>((idle) => this.#whenIdle.push(idle));
  }

  #start(): void {
    while (!this.#stopped && this.#running < this.#options.concurrency) {
      if (this.#current === null || this.#current.isStarted) {
        this.#current = this.#begin();
        if (this.#current === null) return;
      }
      void this.#readNext(this.#current);
    }
  }

  #begin(): BatchInProgress | null {
    if (this.#next > this.#asked + this.#options.ahead) return null;
    const indices = this.#options.indicesOf(this.#next);
    if (indices.length === 0) return null;
    this.#next++;
    const batch = new BatchInProgress(indices, this.#options.sampleBytes);
    this.#begun.push(batch);
    return batch;
  }

  async #readNext(batch: BatchInProgress): Promise<void> {
    const at = batch.takeNext();
    this.#running++;
    try {
      batch.put(at, await this.#options.read(batch.indices[at]!));
    } catch (error) {
      batch.fail(at, error);
    }
    this.#running--;
    this.#start();
    if (this.#running === 0) for (const idle of this.#whenIdle.splice(0)) idle();
  }
}

class BatchInProgress implements PrefetchedBatch {
  readonly indices: Int32Array;
  readonly bytes: Uint8Array;
  readonly done: Promise<void>;
  /** Ends it, with an error or without; the first call counts. */
  settle!: (error?: unknown) => void;
  #started = 0;
  #finished = 0;
  #failure: { readonly at: number; readonly error: unknown } | null = null;

  constructor(indices: Int32Array, sampleBytes: number) {
    this.indices = indices;
    this.bytes = Buffer.allocUnsafeSlow(indices.length * sampleBytes);
    this.done = new Promise((resolve, reject) => {
      this.settle = (error) => (error === undefined ? resolve() : reject(error));
    });
    // It may fail long before it is asked for, or never be asked for.
    this.done.catch(() => {});
  }

  get isStarted(): boolean {
    return this.#started === this.indices.length;
  }

  takeNext(): number {
    return this.#started++;
  }

  put(at: number, sample: Uint8Array): void {
    this.bytes.set(sample, at * sample.length);
    this.#finishOne();
  }

  fail(at: number, error: unknown): void {
    if (this.#failure === null || at < this.#failure.at) this.#failure = { at, error };
    this.#finishOne();
  }

  #finishOne(): void {
    if (++this.#finished === this.indices.length) this.settle(this.#failure?.error);
  }
}

function stopped(): DataError {
  return new DataError('DATA_CANCELLED', 'reading ahead was stopped');
}
