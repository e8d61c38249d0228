import { EventEmitter } from 'node:events';
import { Worker } from 'node:worker_threads';
import { LayerwiseError } from '../errors.js';
import type { Recipe } from '../recipe/index.js';
import { passLibTorchMessage } from '../tensor/messages.js';
import type { StartFrom, TrainingEvent, TrainingOutcome } from '../training/index.js';
import type { FromWorker, JobInput, JobOptions, ResumeJobOptions, ToWorker } from './messages.js';
import { fromSent, type SentError } from './sent-error.js';

/**
 * A job that did not end well. `code` is that of the trainer's error, such as INTERRUPTED or LOSS_NOT_FINITE; INTERNAL where
 * it has none, and WORKER_FAILED where the worker thread itself ended. `cause` is the trainer's error, of its class, with its stack and
 * fields; `at`, where it has one, says where in the training it was.
 */
export class TrainingJobError extends LayerwiseError {
  override readonly name: string = 'TrainingJobError';
  /** Such as `{ layer, epoch, step }`, each from 0. */
  readonly at: Readonly<Record<string, unknown>> | undefined;

  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions & { at?: Readonly<Record<string, unknown>> | undefined },
  ) {
    super(message, options);
    this.at = options?.at;
  }
}

function jobError(sent: SentError): TrainingJobError {
  const cause = fromSent(sent);
  const code = typeof cause.code === 'string' ? cause.code : 'INTERNAL';
  return new TrainingJobError(code, cause.message, { cause, at: cause.at as TrainingJobError['at'] });
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
    this.#worker = new Worker(program, { eval: true, workerData: input });
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

  /** Starts a run that makes the run directory `out` (default: a new one under runs/); `startFrom` takes layers of a finished run. */
  static train(input: { recipe: Recipe; out?: string; startFrom?: StartFrom } & JobOptions): TrainingJob {
    const { recipe, out, startFrom, ...options } = input;
    return new TrainingJob({
      kind: 'train',
      recipe,
      ...(out === undefined ? {} : { out }),
      ...(startFrom === undefined ? {} : { startFrom }),
      options,
    });
  }

  /** Goes on with an interrupted run. */
  static resume({ runDirectory, ...options }: { runDirectory: string } & ResumeJobOptions): TrainingJob {
    return new TrainingJob({ kind: 'resume', runDirectory, options });
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
