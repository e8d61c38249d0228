import { decodesAtOnce } from '../data/index.js';
import type { Call } from './call.js';
import type { LoadedNetwork } from './loaded-network.js';

/** How calls become batches. */
export interface BatchingOptions {
  /** Inputs that are computed together, at most. */
  readonly maxBatchSize: number;
  /** Milliseconds that an input waits for others to fill the batch while nothing is computed. */
  readonly maxWaitMs: number;
}

/** What has been computed since a predictor was opened. */
export interface BatchCounts {
  batches: number;
  images: number;
  largestBatch: number;
}

/**
 * The calls that one network is to answer: their inputs are decoded in order, some at a time, and whatever is ready when the batch before
 * is done is the next one.
 */
export class CallQueue {
  /** Not begun. */
  readonly #undecoded: Call[] = [];
  readonly #decoding = new Set<Call>();
  readonly #ready: Call[] = [];
  #running: readonly Call[] = [];
  /** Of the time when the batch goes however small it is. */
  #timer: NodeJS.Timeout | null = null;
  #next: NodeJS.Immediate | null = null;
  #whenEmpty: (() => void)[] = [];

  constructor(
    readonly network: LoadedNetwork,
    readonly options: BatchingOptions,
    readonly counts: BatchCounts,
  ) {
    network.onFailure = (error) => {
      for (const call of [...this.#undecoded, ...this.#decoding, ...this.#ready]) call.reject(error);
      this.#dropSettled();
    };
  }

  /** Calls that are not in a batch yet. */
  get waiting(): number {
    return this.#undecoded.length + this.#decoding.size + this.#ready.length;
  }

  /** Calls in the batch that is being computed. */
  get running(): number {
    return this.#running.length;
  }

  add(call: Call): void {
    this.#undecoded.push(call);
    call.answered.catch(() => this.#dropSettled());
    this.#decode();
  }

  /** Resolves when all calls are settled; none waits for others any more. */
  async drain(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#whenEmpty.push(resolve);
      this.#proceed();
    });
  }

  /** Aborted ones leave room at once. What is being decoded cannot be stopped, and holds its place until it is. */
  #dropSettled(): void {
    for (const calls of [this.#undecoded, this.#ready]) {
      const open = calls.filter((call) => !call.isSettled);
      calls.splice(0, calls.length, ...open);
    }
    this.#proceed();
  }

  #decode(): void {
    while (this.#undecoded.length > 0 && this.#decoding.size < decodesAtOnce()) {
      void this.#decodeOne(this.#undecoded.shift()!);
    }
  }

  async #decodeOne(call: Call): Promise<void> {
    this.#decoding.add(call);
    try {
      call.input = await call.read();
      call.readyAt = performance.now();
      if (!call.isSettled) this.#ready.push(call);
    } catch (error) {
      call.reject(error);
    }
    this.#decoding.delete(call);
    this.#decode();
    this.#proceed();
  }

  /** Whatever becomes ready in one turn of the event loop goes together. */
  #proceed(): void {
    this.#next ??= setImmediate(() => {
      this.#next = null;
      this.#begin();
    });
  }

  #begin(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.waiting + this.running === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve();
    if (this.running > 0 || this.#ready.length === 0) return;
    const waitMs = this.#stillToWait();
    if (waitMs > 0) this.#timer = setTimeout(() => this.#begin(), waitMs);
    else void this.#run(this.#ready.splice(0, this.options.maxBatchSize));
  }

  #stillToWait(): number {
    const { maxBatchSize, maxWaitMs } = this.options;
    if (this.#ready.length >= maxBatchSize || this.#whenEmpty.length > 0) return 0;
    return this.#ready[0]!.readyAt + maxWaitMs - performance.now();
  }

  async #run(batch: readonly Call[]): Promise<void> {
    this.#running = batch;
    this.counts.batches++;
    this.counts.images += batch.length;
    this.counts.largestBatch = Math.max(this.counts.largestBatch, batch.length);
    try {
      const top = Math.max(...batch.map((call) => call.top));
      const answer = await this.network.compute({ inputs: joined(batch), count: batch.length, top });
      for (const [at, call] of batch.entries()) call.answer(answer, at, this.network.facts.classes);
    } catch (error) {
      for (const call of batch) call.reject(error);
    }
    this.#running = [];
    this.#proceed();
  }
}

function joined(batch: readonly Call[]): Uint8Array<ArrayBuffer> {
  const length = batch[0]!.input!.length;
  const inputs = new Uint8Array(batch.length * length);
  for (const [at, { input }] of batch.entries()) inputs.set(input!, at * length);
  return inputs;
}
