import { requireOptions } from '../options.js';
import { shown } from '../schema.js';
import { Call, type Classification } from './call.js';
import { type BatchCounts, CallQueue } from './call-queue.js';
import { invalidArgument, PredictorError } from './errors.js';
import { inputReader, type PredictorInput } from './image-input.js';
import { LoadedNetwork } from './loaded-network.js';
import { type CheckedOptions, checkedOptions, checkedPath, type PredictorOptions } from './options.js';

/** What `classify` is asked for. */
export interface ClassifyOptions {
  /** Classes to name, the likeliest first; default: 5. There are never more than the network has. */
  readonly top?: number;
  /** Gives the call up: it rejects at once with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What a predictor is at, and what it has done since it was opened. */
export interface PredictorStatistics extends Readonly<BatchCounts> {
  /** Calls that wait: for their image to be decoded, and for their batch. */
  readonly waiting: number;
  /** Calls in a batch that is being computed. */
  readonly running: number;
}

/**
 * A finished run that answers calls. Images are decoded in threads of the addon's and of Node's pool, the network runs in a worker thread, and the event
 * loop of the caller stays free. Calls that come while a batch is computed form the next one; an image's probabilities are those of
 * `layerwise predict` to rounding, whatever it is computed with. Close it, or declare it with `await using`: until then it keeps the
 * process alive.
 */
export class Predictor {
  readonly #options: CheckedOptions;
  readonly #counts: BatchCounts = { batches: 0, images: 0, largestBatch: 0 };
  #queue: CallQueue;
  /** Of networks that another one has replaced and that still have calls. */
  readonly #retiring = new Map<CallQueue, Promise<void>>();
  /** The last reload that was asked for. */
  #reloading: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | null = null;

  private constructor(network: LoadedNetwork, options: CheckedOptions) {
    this.#options = options;
    this.#queue = new CallQueue(network, options, this.#counts);
  }

  /**
   * Opens a run directory, or a file of `layerwise export`, in a worker thread. Rejects with PredictorError (INVALID_ARGUMENT) for options
   * that there are not, and with what `TrainedRun.open` throws, such as RunDirectoryError.
   */
  static async open(path: string, options: PredictorOptions = {}): Promise<Predictor> {
    const checked = checkedOptions(options);
    const network = await LoadedNetwork.load({ ...checked.request, path: checkedPath('Predictor.open', path) });
    return new Predictor(network, checked);
  }

  /** By label. As all that follows, of the network that takes new calls now. */
  get classes(): readonly string[] {
    return this.#queue.network.facts.classes;
  }

  /** [channels, height, width] of pixels, or [length] of vectors. */
  get inputShape(): readonly number[] {
    return this.#queue.network.facts.inputShape;
  }

  get layers(): number {
    return this.#queue.network.facts.layers;
  }

  /** cpu or cuda:N. */
  get device(): string {
    return this.#queue.network.facts.device;
  }

  /** fp32, bf16 or fp16. */
  get precision(): string {
    return this.#queue.network.facts.precision;
  }

  /** What is to be said wherever results are shown, such as that a module has changed since. */
  get notes(): readonly string[] {
    return this.#queue.network.facts.notes;
  }

  get statistics(): PredictorStatistics {
    const queues = new Set([this.#queue, ...this.#retiring.keys()]);
    const sum = (count: 'waiting' | 'running'): number => [...queues].reduce((total, queue) => total + queue[count], 0);
    return { ...this.#counts, waiting: sum('waiting'), running: sum('running') };
  }

  /**
   * The likeliest classes of an image, or a vector. What `input` points to may be used for something else at once. Rejects with
   * PredictorError: INVALID_ARGUMENT for what this network does not take, QUEUE_FULL, CLOSED, WORKER_FAILED; with DataError for an image
   * file that cannot be used, which fails this call alone; with the reason of `signal`; with what the network itself throws, as do all
   * calls of its batch.
   */
  async classify(input: PredictorInput, options: ClassifyOptions = {}): Promise<Classification> {
    const { top, signal } = checkedClassifyOptions(options);
    signal?.throwIfAborted();
    this.#requireOpen();
    const { network } = this.#queue;
    if (network.failure !== null) throw network.failure;
    this.#requireRoom();
    const read = inputReader(input, { facts: network.facts, maxPixels: this.#options.maxPixels });
    const call = new Call(read, top, signal);
    this.#queue.add(call);
    return call.answered;
  }

  /**
   * Loads another run, with the options of `open`, beside the one in use, and then takes its place: calls that have been made are answered
   * by the old one, which goes when it has none left. Where the new one cannot be opened, it rejects as `open` does, and the old one
   * stays. A predictor whose thread has failed works again. Of several reloads the last one counts.
   */
  async reload(path: string): Promise<void> {
    this.#requireOpen();
    const request = { ...this.#options.request, path: checkedPath('reload', path) };
    const reloading = this.#reloading.then(async () => {
      this.#requireOpen();
      const network = await LoadedNetwork.load(request);
      if (this.#closing !== null) await network.close();
      this.#requireOpen();
      this.#retire(this.#queue);
      this.#queue = new CallQueue(network, this.#options, this.#counts);
    });
    this.#reloading = reloading.catch(() => {});
    return reloading;
  }

  /** Takes no calls from now on; resolves when those that have been made are answered, and the threads have ended. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** As `close`, at the end of an `await using` declaration. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    await Promise.all([this.#reloading, this.#retire(this.#queue), ...this.#retiring.values()]);
  }

  #retire(queue: CallQueue): Promise<void> {
    const retired = queue
      .drain()
      .then(() => queue.network.close())
      .finally(() => this.#retiring.delete(queue));
    this.#retiring.set(queue, retired);
    return retired;
  }

  #requireOpen(): void {
    if (this.#closing !== null) throw new PredictorError('CLOSED', 'the predictor was closed: it takes no calls');
  }

  #requireRoom(): void {
    const { maxQueue } = this.#options;
    let { waiting } = this.#queue;
    for (const queue of this.#retiring.keys()) if (queue !== this.#queue) waiting += queue.waiting;
    if (waiting < maxQueue) return;
    throw new PredictorError('QUEUE_FULL', `expected at most ${maxQueue} calls that wait (maxQueue), got one more`);
  }
}

function checkedClassifyOptions(options: ClassifyOptions): { top: number; signal: AbortSignal | undefined } {
  requireOptions(options, 'options', (problem) => invalidArgument('classify', problem), ['top', 'signal']);
  const { top = 5, signal } = options;
  if (!(Number.isSafeInteger(top) && top >= 1)) {
    throw invalidArgument('classify', `top: expected an integer from 1, got ${shown(top)}`);
  }
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
    throw invalidArgument('classify', `signal: expected an AbortSignal, got ${shown(signal)}`);
  }
  return { top, signal };
}
