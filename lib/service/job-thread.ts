// The worker thread of a job, from its start to its end.
import type { Worker } from 'node:worker_threads';
import { passLibTorchMessage } from '../tensor/messages.js';
import type { TrainingEvent, TrainingOutcome } from '../training/index.js';
import { jobError, TrainingJobError } from './errors.js';
import type { FromWorker, JobInput, ToWorker } from './messages.js';
import { endSoon, startThread } from './module-thread.js';
import { fromSent } from './sent-error.js';

/** How a thread's work ended. */
export type ThreadEnd = { readonly outcome: TrainingOutcome } | { readonly error: TrainingJobError };

/** Called in the thread of the caller. */
export interface ThreadListeners {
  readonly onEvent: (event: TrainingEvent) => void;
  /** Called once, last, when nothing of the thread is left. */
  readonly onEnd: (end: ThreadEnd) => void;
}

/** A run in a worker thread. */
export class JobThread {
  readonly #worker: Worker;
  #end: ThreadEnd | null = null;

  /** Throws the system's error where it gives no thread. */
  constructor(input: JobInput, { onEvent, onEnd }: ThreadListeners) {
    this.#worker = startThread(new URL('./worker.js', import.meta.url), input);
    this.#worker.on('message', (message: FromWorker) => {
      if (message.type === 'event') onEvent(message.event);
      else if (message.type === 'libtorch') passLibTorchMessage(message.text);
      else {
        this.#end ??= endOf(message);
        endSoon(this.#worker);
      }
    });
    this.#worker.on('error', (cause: unknown) => {
      this.#end ??= { error: workerFailed(cause instanceof Error ? cause.message : String(cause), cause) };
    });
    this.#worker.on('exit', (code) => {
      onEnd(
        this.#end ?? { error: workerFailed(`the worker thread ended with code ${code} before the run did`, undefined) },
      );
    });
  }

  /** Stops the run as soon as it can be with what it has done written. */
  stop(): void {
    const message: ToWorker = { type: 'stop' };
    this.#worker.postMessage(message);
  }

  /** Ends the thread at once, but for a call of native code, which ends first. */
  terminate(error: TrainingJobError): void {
    this.#end ??= { error };
    void this.#worker.terminate();
  }
}

const endOf = (message: Exclude<FromWorker, { type: 'event' | 'libtorch' }>): ThreadEnd =>
  message.type === 'finished' ? { outcome: message.outcome } : { error: jobError(fromSent(message.error)) };

export const workerFailed = (problem: string, cause: unknown): TrainingJobError =>
  new TrainingJobError('WORKER_FAILED', problem, { cause });
