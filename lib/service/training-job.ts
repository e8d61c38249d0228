import { EventEmitter } from 'node:events';
import { Worker } from 'node:worker_threads';
import { passLibTorchMessage } from '../tensor/messages.js';
import type { TrainingEvent, TrainingOutcome } from '../training/index.js';
import { TrainingJobError } from './errors.js';
import { resumeInput, type TrainJobOptions, trainInput } from './job-input.js';
import type { FromWorker, JobInput, ResumeJobOptions, ToWorker } from './messages.js';
import { fromSent, type SentError } from './sent-error.js';

function jobError(sent: SentError): TrainingJobError {
  const cause = fromSent(sent);
  const code = typeof cause.code === 'string' ? cause.code : 'INTERNAL';
  return new TrainingJobError(code, cause.message, { cause, at: cause.at as TrainingJobError['at'] });
}

/** Throws TrainingJobError for options of which something cannot be cloned. */
function startWorker(program: string, input: JobInput): Worker {
  try {
    return new Worker(program, { eval: true, workerData: input });
  } catch (cause) {
    if (!(cause instanceof DOMException)) throw cause;
    throw new TrainingJobError('INVALID_ARGUMENT', `expected options that can be cloned: ${cause.message}`, { cause });
  }
}

/** The events of a TrainingJob, by name, with what their listeners are given. */
export interface TrainingJobEvents {
  /** What the run tells, in order. */
  event: [TrainingEvent];
}

/**
 * A run of the trainer in a worker thread: the event loop of the caller stays free. Each job uses all processors by default:
 * give jobs that run at once their share with the recipe's `threads`.
 */
export class TrainingJob extends EventEmitter<TrainingJobEvents> {
  /** The finished run; rejects with TrainingJobError. */
  readonly outcome: Promise<TrainingOutcome>;
  readonly #worker: Worker;

  private constructor(input: JobInput) {
    super();
    // Not the file itself: a worker inherits the process's flags, and Node refuses a file under --input-type.
    const program = `import(${JSON.stringify(new URL('./worker.js', import.meta.url).href)})`;
    this.#worker = startWorker(program, input);
    this.outcome = new Promise((resolve, reject) => {
      this.#worker.on('message', (message: FromWorker) => {
        if (message.type === 'event') this.emit('event', message.event);
        else if (message.type === 'libtorch') passLibTorchMessage(message.text);
        else if (message.type === 'finished') resolve(message.outcome);
        else reject(jobError(message.error));
      });
      this.#worker.on('error', (cause) => reject(new TrainingJobError('WORKER_FAILED', cause.message, { cause })));
      this.#worker.on('exit', (code) =>
        reject(new TrainingJobError('WORKER_FAILED', `the worker thread ended with code ${code} before the run did`)),
      );
    });
    // A job whose outcome nobody has asked for yet must not end the process; who awaits it still sees the rejection.
    this.outcome.catch(() => {});
  }

  /**
   * Starts a run that makes the run directory `out` (default: a new one under runs/); `startFrom` takes layers of a finished run.
   * Relative paths are those of the working directory now. Throws TrainingJobError for options that a job does not take.
   */
  static train(options: TrainJobOptions): TrainingJob {
    return new TrainingJob(trainInput(options));
  }

  /** Goes on with an interrupted run. Paths and errors are as of `train`. */
  static resume(options: { runDirectory: string } & ResumeJobOptions): TrainingJob {
    return new TrainingJob(resumeInput(options));
  }

  /**
   * Stops after the step in progress, with a checkpoint, or before the first step with nothing written; resolves when it
   * has stopped. `outcome` then rejects with code INTERRUPTED, or has resolved if the run was over first.
   */
  async cancel(): Promise<void> {
    const message: ToWorker = { type: 'cancel' };
    this.#worker.postMessage(message);
    await this.outcome.catch(() => {});
  }
}
