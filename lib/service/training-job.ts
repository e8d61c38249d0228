import { EventEmitter } from 'node:events';
import { resolve } from 'node:path';
import { type TrainingEvent, TrainingInterrupted, type TrainingOutcome } from '../training/index.js';
import { jobError, type TrainingJobError } from './errors.js';
import { EventBuffer } from './event-buffer.js';
import { type JobRequest, resumeRequest, type TrainJobOptions, trainRequest } from './job-input.js';
import { JobThread, type ThreadEnd, workerFailed } from './job-thread.js';
import type { JobInput, ResumeJobOptions } from './messages.js';

/**
 * Where a job is. `queued`: it waits in a JobQueue for its turn; `pausing`: it is asked to pause and still writes its checkpoint;
 * `finished`, `failed` and `cancelled` are final.
 */
export type JobState = 'queued' | 'running' | 'pausing' | 'paused' | 'finished' | 'failed' | 'cancelled';

/** Whether a job in this state is over. */
export const isFinal = (state: JobState): boolean =>
  state === 'finished' || state === 'failed' || state === 'cancelled';

/** The events of a TrainingJob, by name, with what their listeners are given. */
export interface TrainingJobEvents {
  /** What the run tells, in order. After a pause a `start` comes again, with `resumedFrom`. */
  event: [TrainingEvent];
  /** The job's new state. */
  state: [JobState];
}

/** Who says when a job has its thread. */
export interface JobSchedule {
  /** The job wants a thread: `start` gives it one, now or later. */
  enter(start: () => void): void;
  /** The job's thread has ended, or it does not want one any more. */
  leave(): void;
}

const AT_ONCE: JobSchedule = { enter: (start) => start(), leave: () => {} };

/**
 * A run of the trainer in a worker thread: the event loop of the caller stays free. Each job uses all processors by default:
 * give jobs that run at once their share with the recipe's `threads`, or let a JobQueue do it.
 *
 * A listener that throws is an uncaught exception, as with any EventEmitter; where the program goes on, so does the job.
 */
export class TrainingJob extends EventEmitter<TrainingJobEvents> implements AsyncDisposable {
  /** The finished run, however often it was paused; rejects with TrainingJobError. Nothing of its thread is left then. */
  readonly outcome: Promise<TrainingOutcome>;
  readonly #schedule: JobSchedule;
  readonly #buffers = new Set<EventBuffer>();
  /** Resolves and rejects `outcome`. */
  #settle!: (end: ThreadEnd) => void;
  #stopListening: () => void = () => {};
  #state: JobState = 'queued';
  /** What the next thread is given. */
  #input: JobInput;
  #thread: JobThread | null = null;
  #whenThreadEnds: Promise<void> = Promise.resolve();
  #runDirectory: string | null;
  #isCancelled = false;

  /** @internal */
  protected constructor({ input, signal }: JobRequest, schedule: JobSchedule = AT_ONCE) {
    super();
    this.#input = input;
    this.#schedule = schedule;
    this.#runDirectory = input.kind === 'resume' ? input.runDirectory : null;
    this.outcome = new Promise((resolve, reject) => {
      this.#settle = (end) => ('outcome' in end ? resolve(end.outcome) : reject(end.error));
    });
    // A job whose outcome nobody has asked for yet must not end the process; who awaits it still sees the rejection.
    this.outcome.catch(() => {});
    if (signal?.aborted === true) this.#finish('cancelled', { error: this.#interruption() });
    else {
      this.#cancelOnAbort(signal);
      this.#enter();
    }
  }

  /**
   * Starts a run that makes the run directory `out` (default: a new one under runs/); `startFrom` takes layers of a finished run.
   * Relative paths are those of the working directory now. Throws TrainingJobError for options that a job does not take.
   */
  static train(options: TrainJobOptions): TrainingJob {
    return new TrainingJob(trainRequest('TrainingJob.train', options));
  }

  /** Goes on with an interrupted run. Paths and errors are as of `train`. */
  static resume(options: { runDirectory: string } & ResumeJobOptions): TrainingJob {
    return new TrainingJob(resumeRequest('TrainingJob.resume', options));
  }

  /** Where the job is. */
  get state(): JobState {
    return this.#state;
  }

  /** The whole path of the run directory, once there is one that can be resumed; null before. */
  get runDirectory(): string | null {
    return this.#runDirectory;
  }

  /**
   * What the run tells from now on, in order, over pauses, up to its end; then throws the job's error where it has one. Whoever
   * reads slowly misses nothing but steps: of steps that wait one after another only the last is kept. A reader that waits for the
   * next event is let go with it, or at the end of the job.
   */
  events(): AsyncGenerator<TrainingEvent, void, void> {
    const buffer = new EventBuffer();
    if (this.#isOver) buffer.end();
    else this.#buffers.add(buffer);
    const events = this.#read(buffer);
    // A generator that was never asked for a value runs no `finally`.
    const end = events.return.bind(events);
    events.return = (value) => {
      this.#buffers.delete(buffer);
      return end(value);
    };
    return events;
  }

  /** As `events()`. */
  [Symbol.asyncIterator](): AsyncGenerator<TrainingEvent, void, void> {
    return this.events();
  }

  /**
   * Stops after the step in progress, with a checkpoint, or before the first step with nothing written, and ends the thread with
   * all its memory; resolves then, or when the run is over before. The run directory is not held meanwhile: another program may
   * go on with it, and `resume` then goes on from there.
   */
  async pause(): Promise<void> {
    if (this.#state === 'queued') {
      this.#schedule.leave();
      this.#become('paused');
    }
    if (this.#state === 'running') {
      this.#thread?.stop();
      this.#become('pausing');
    }
    await this.#whenThreadEnds;
  }

  /**
   * Goes on after a pause, to the same bits as without it; resolves when it does, or waits for it in its queue. Of a job that is
   * not paused, as one that was over first, it does nothing.
   */
  async resume(): Promise<void> {
    if (this.#state === 'pausing') await this.#whenThreadEnds;
    if (this.#state === 'paused') this.#enter();
  }

  /**
   * Stops after the step in progress, with a checkpoint, or before the first step with nothing written; resolves when it
   * has stopped. `outcome` then rejects with code INTERRUPTED, or has resolved if the run was over first.
   */
  async cancel(): Promise<void> {
    await this.stop();
  }

  /**
   * Ends the thread in the middle of its work, but for a call of native code, which ends first; resolves when it has ended. The
   * last checkpoint holds. `outcome` then rejects with code INTERRUPTED.
   */
  async terminate(): Promise<void> {
    await this.stop({ atOnce: true });
  }

  /** Cancels, and waits until nothing of the job is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }

  /**
   * What `cancel` and, at once, `terminate` do.
   * @internal
   */
  protected async stop({ atOnce = false } = {}): Promise<void> {
    this.#isCancelled = true;
    if (this.#thread !== null) {
      if (atOnce) this.#thread.terminate(this.#interruption());
      else this.#thread.stop();
    } else if (!this.#isOver) {
      this.#schedule.leave();
      this.#finish('cancelled', { error: this.#interruption() });
    }
    await this.outcome.catch(() => {});
  }

  get #isOver(): boolean {
    return isFinal(this.#state);
  }

  #cancelOnAbort(signal: AbortSignal | undefined): void {
    const cancel = (): void => void this.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    this.#stopListening = () => signal?.removeEventListener('abort', cancel);
  }

  #enter(): void {
    this.#schedule.enter(() => this.#start());
    if (this.#state === 'paused') this.#become('queued');
  }

  #start(): void {
    const { promise, resolve } = withResolver();
    this.#whenThreadEnds = promise;
    const onEnd = (end: ThreadEnd): void => {
      this.#thread = null;
      // First: a listener may tell the job to go on, which takes another place.
      this.#schedule.leave();
      resolve();
      this.#afterThread(end);
    };
    try {
      this.#thread = new JobThread(this.#input, { onEvent: (event) => this.#tell(event), onEnd });
    } catch (cause) {
      onEnd({ error: workerFailed((cause as Error).message, cause) });
    }
    if (this.#thread !== null) this.#become('running');
  }

  #tell(event: TrainingEvent): void {
    if (event.type === 'start') this.#runDirectory = resolve(event.runDirectory);
    for (const buffer of this.#buffers) buffer.push(event);
    this.emit('event', event);
  }

  #afterThread(end: ThreadEnd): void {
    if ('outcome' in end) this.#finish('finished', end);
    else if (!(end.error.cause instanceof TrainingInterrupted)) this.#finish('failed', end);
    else {
      this.#rememberRun(end.error.cause);
      if (this.#isCancelled) this.#finish('cancelled', end);
      else this.#become('paused');
    }
  }

  /** What has begun goes on from its run directory. */
  #rememberRun({ runDirectory }: TrainingInterrupted): void {
    if (runDirectory === null) return;
    this.#runDirectory = resolve(runDirectory);
    this.#input = { kind: 'resume', runDirectory: this.#runDirectory, options: this.#input.options };
  }

  #finish(state: JobState, end: ThreadEnd): void {
    this.#state = state;
    this.#stopListening();
    this.#settle(end);
    for (const buffer of this.#buffers) buffer.end();
    this.#tellState();
  }

  #become(state: JobState): void {
    this.#state = state;
    this.#tellState();
  }

  /** What a listener throws is no failure of whoever pauses or cancels the job: it is an uncaught exception. */
  #tellState(): void {
    try {
      this.emit('state', this.#state);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #interruption(): TrainingJobError {
    return jobError(new TrainingInterrupted(this.#runDirectory));
  }

  async *#read(buffer: EventBuffer): AsyncGenerator<TrainingEvent, void, void> {
    try {
      yield* buffer.read();
      await this.outcome;
    } finally {
      this.#buffers.delete(buffer);
    }
  }
}

function withResolver(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
