import type { Worker } from 'node:worker_threads';
import { endSoon, fromSent, startThread } from '../service/index.js';
import { passLibTorchMessage } from '../tensor/messages.js';
import { PredictorError } from './errors.js';
import type { Answer, BatchRequest, FromWorker, NetworkFacts, NetworkRequest, ToWorker } from './messages.js';

/** What a message of the worker is the answer to. */
interface Waiting<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** A network in a worker thread, which computes a batch at a time. */
export class LoadedNetwork {
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  #loading: Waiting<NetworkFacts> | null = null;
  #computing: Waiting<Answer> | null = null;
  #facts: NetworkFacts | null = null;
  #failure: PredictorError | null = null;
  #isClosing = false;
  /** Told once where the thread ends by itself. */
  onFailure: (error: PredictorError) => void = () => {};

  private constructor(request: NetworkRequest) {
    this.#worker = startThread(new URL('./worker.js', import.meta.url), request);
    this.#worker.on('message', (message: FromWorker) => this.#receive(message));
    this.#worker.on('error', (cause) => this.#fail(`its thread ended: ${cause.message}`, { cause }));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#fail(`its thread ended with code ${code}`);
        resolve();
      });
    });
  }

  /** Rejects with what `TrainedRun.open` throws, and PredictorError (WORKER_FAILED). */
  static async load(request: NetworkRequest): Promise<LoadedNetwork> {
    const network = new LoadedNetwork(request);
    try {
      network.#facts = await new Promise<NetworkFacts>((resolve, reject) => {
        network.#loading = { resolve, reject };
      });
      return network;
    } catch (error) {
      endSoon(network.#worker);
      await network.#exited;
      throw error;
    }
  }

  get facts(): NetworkFacts {
    return this.#facts!;
  }

  /** Why it computes no more; null while it does. */
  get failure(): PredictorError | null {
    return this.#failure;
  }

  /** Rejects with what the network throws, and PredictorError (WORKER_FAILED). Only when the batch before is answered. */
  compute(batch: BatchRequest): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) return reject(this.#failure);
      this.#computing = { resolve, reject };
      this.#send({ type: 'batch', batch }, [batch.inputs.buffer]);
    });
  }

  /** Ends the thread when it is idle. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#send({ type: 'close' });
    await this.#exited;
  }

  #send(message: ToWorker, transferred: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transferred);
  }

  #receive(message: FromWorker): void {
    if (message.type === 'libtorch') {
      passLibTorchMessage(message.text);
      return;
    }
    if (message.type === 'closed') {
      endSoon(this.#worker);
      return;
    }
    const [loading, computing] = [this.#loading, this.#computing];
    this.#loading = null;
    this.#computing = null;
    if (message.type === 'loaded') loading?.resolve(message.facts);
    else if (message.type === 'answer') computing?.resolve(message.answer);
    else (loading ?? computing)?.reject(fromSent(message.error));
  }

  #fail(problem: string, options?: ErrorOptions): void {
    if (this.#failure !== null || this.#isClosing) return;
    this.#failure = new PredictorError('WORKER_FAILED', `the predictor computes no more: ${problem}`, options);
    (this.#loading ?? this.#computing)?.reject(this.#failure);
    this.onFailure(this.#failure);
  }
}
