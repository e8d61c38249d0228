import { EventEmitter } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Recipe, StartFrom, TrainingEvent, TrainingOutcome } from '../training/index.js';
import type { FromWorker, JobInput, JobOptions, ResumeJobOptions, ToWorker } from './messages.js';

/** A job that did not end well. `code` is that of the trainer's error, such as INTERRUPTED or LOSS_NOT_FINITE. */
export class TrainingJobError extends Error {
  override readonly name: string = 'TrainingJobError';

  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

interface JobEvents {
  /** What the run tells, in order. */
  event: [TrainingEvent];
}

/**
 * A run of the trainer in a worker thread: the event loop of the caller stays free. The threads of the CPU's kernels are
 * a budget of the whole process, so give concurrent jobs their share with the recipe's `threads`.
 */
export class TrainingJob extends EventEmitter<JobEvents> {
  /** The finished run; rejects with TrainingJobError. */
  readonly outcome: Promise<TrainingOutcome>;
  readonly #worker: Worker;

  private constructor(input: JobInput) {
    super();
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: input });
    this.outcome = new Promise((resolve, reject) => {
      this.#worker.on('message', (message: FromWorker) => {
        if (message.type === 'event') this.emit('event', message.event);
        else if (message.type === 'finished') resolve(message.outcome);
        else reject(new TrainingJobError(message.error.code, message.error.message, { cause: message.error.stack }));
      });
      this.#worker.on('error', (cause) => reject(new TrainingJobError('WORKER_FAILED', cause.message, { cause })));
      this.#worker.on('exit', (code) =>
        reject(new TrainingJobError('WORKER_FAILED', `the worker thread ended with code ${code} before the run did`)),
      );
    });
    // A job whose outcome nobody has asked for yet must not end the process; who awaits it still sees the rejection.
    this.outcome.catch(() => {});
  }

  /** Starts a run that makes the run directory `out`, with layers taken from a finished run where told. */
  static train(input: { recipe: Recipe; out: string; startFrom?: StartFrom } & JobOptions): TrainingJob {
    const { recipe, out, startFrom, ...options } = input;
    return new TrainingJob({ kind: 'train', recipe, out, ...(startFrom === undefined ? {} : { startFrom }), options });
  }

  /** Goes on with an interrupted run. */
  static resume({ runDirectory, ...options }: { runDirectory: string } & ResumeJobOptions): TrainingJob {
    return new TrainingJob({ kind: 'resume', runDirectory, options });
  }

  /**
   * Stops after the step in progress, with a checkpoint; resolves when it has stopped. `outcome` then rejects with code
   * INTERRUPTED, or has resolved if the run was over first.
   */
  async cancel(): Promise<void> {
    const message: ToWorker = { type: 'cancel' };
    this.#worker.postMessage(message);
    await this.outcome.catch(() => {});
  }
}
