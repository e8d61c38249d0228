import { randomUUID } from 'node:crypto';
import { constants } from 'node:os';
import { join, resolve } from 'node:path';
import { LayerwiseError } from '../errors.js';
import { parseRecipe, type Recipe } from '../recipe/index.js';
import { interruptedRuns, RunDirectory } from '../run/index.js';
import { shown } from '../schema.js';
import { jobError, refusal, TrainingJobError } from './errors.js';
import { resumeRequest, type TrainJobOptions, trainRequest } from './job-input.js';
import { JobJournal, type JobRecord } from './job-journal.js';
import type { JobInput, ResumeJobOptions } from './messages.js';
import {
  type CloseOptions,
  type InterruptedRun,
  type JobQueueOptions,
  limitsOf,
  type OpenQueueOptions,
  openOptionsOf,
  type QueueOptions,
  requireDeadline,
  splitPriority,
} from './queue-options.js';
import { QueuedJob, QueuePlace } from './queued-job.js';
import { ThreadBudget } from './thread-budget.js';
import { isFinal, type JobState } from './training-job.js';

/**
 * Runs jobs in worker threads: at most `concurrency` at once, on `threads` threads together. They start in order of priority, then
 * of their coming; none overtakes another that waits for more threads. One queue should own the threads of a process: it knows
 * nothing of other queues, nor of jobs outside.
 *
 * `new JobQueue()` forgets its jobs when the process ends. One of `JobQueue.open` keeps them in a folder and has them again.
 */
export class JobQueue implements AsyncDisposable {
  readonly #budget: ThreadBudget;
  readonly #jobs = new Map<string, QueuedJob>();
  /** Run directories of jobs that are not over, and of those that are being taken. */
  readonly #directories = new Set<string>();
  /** Jobs that are being taken. */
  readonly #coming = new Set<Promise<unknown>>();
  #runs: string | null = null;
  #journal: JobJournal | null = null;
  #interrupted: readonly InterruptedRun[] = [];
  #closed: Promise<void> | null = null;
  #stopListening: () => void = () => {};

  /** Throws TrainingJobError for options that there are not, and numbers out of range. */
  constructor(options: JobQueueOptions = {}) {
    this.#budget = new ThreadBudget(limitsOf('JobQueue', options));
  }

  /**
   * A queue that keeps its jobs in the folder `runs`, which it makes where there is none; a job without `out` gets a directory
   * there. Jobs that an earlier process left, killed or closed, come back under their ids and go on from their run directories.
   * Throws TrainingJobError where another queue has the folder (QUEUE_HELD), and for a damaged `queue.json` (QUEUE_FILE).
   */
  static async open(options: OpenQueueOptions): Promise<JobQueue> {
    const { runs, concurrency, threads, ...comeBack } = openOptionsOf(options);
    const queue = new JobQueue({ concurrency, threads });
    const folder = resolve(runs);
    const journal = await JobJournal.open(folder);
    queue.#runs = folder;
    queue.#journal = journal;
    try {
      await queue.#recover(folder, journal.records, comeBack);
    } catch (error) {
      await journal.close();
      throw error;
    }
    return queue;
  }

  /** The jobs that are not over, in the order in which they came. */
  get jobs(): readonly QueuedJob[] {
    return [...this.#jobs.values()];
  }

  /** The job of this id, as long as it is not over. */
  job(id: string): QueuedJob | undefined {
    return this.#jobs.get(id);
  }

  /** Unfinished runs that were found in the folder when the queue was opened, and that it does nothing with. */
  get interrupted(): readonly InterruptedRun[] {
    return this.#interrupted;
  }

  /** Lets go of a job that could not come back, which `interrupted` names; its run directory stays. Throws as `add`. */
  async forget(id: string): Promise<void> {
    this.#requireOpen();
    if (!this.#jobs.has(id)) await this.#journal?.delete(id);
    this.#interrupted = this.#interrupted.filter((one) => one.id !== id);
  }

  /**
   * Takes a new job; resolves when it is kept on disk, where the queue does that. Options and paths are as of
   * `TrainingJob.train`; the recipe is checked now. Throws TrainingJobError, and WriteError where the disk is full.
   */
  async add(options: Omit<TrainJobOptions, 'orResume'> & QueueOptions): Promise<QueuedJob> {
    const { priority, others } = splitPriority<TrainJobOptions>('JobQueue.add', options);
    if (others.orResume !== undefined) {
      throw refusal(
        'JobQueue.add',
        `orResume: expected none, a run that has begun is for JobQueue.resume; got ${shown(others.orResume)}`,
      );
    }
    const { input, signal } = trainRequest('JobQueue.add', others);
    const recipe = checkedRecipe(input.recipe);
    const id = newId();
    const out = input.out ?? (this.#runs === null ? undefined : join(this.#runs, id));
    if (out !== undefined && RunDirectory.exists(out)) {
      throw new TrainingJobError('RUN_DIRECTORY', `${out} already holds a run: resume it, or give another out`);
    }
    const record = {
      id,
      priority,
      isPaused: false,
      input: { ...input, recipe, ...(out === undefined ? {} : { out }) },
    };
    return this.#take('JobQueue.add', record, signal);
  }

  /**
   * Takes a run that goes on, on the threads that it was started with. Options and errors are as of `TrainingJob.resume`, and of
   * `add`.
   */
  async resume(options: { runDirectory: string } & ResumeJobOptions & QueueOptions): Promise<QueuedJob> {
    const { priority, others } = splitPriority<{ runDirectory: string } & ResumeJobOptions>('JobQueue.resume', options);
    const { input, signal } = resumeRequest('JobQueue.resume', others);
    return this.#take('JobQueue.resume', { id: newId(), priority, isPaused: false, input }, signal);
  }

  /**
   * Takes no more jobs, and stops those that there are: each that runs writes its checkpoint, and what has not stopped within the
   * deadline is ended where it is, so that its last checkpoint holds. All their outcomes reject with code INTERRUPTED. Jobs that
   * were not cancelled before come back where the queue is opened again. Resolves when nothing of the jobs is left; a call of
   * native code, as a training step makes, ends first.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    requireDeadline('JobQueue.close', options);
    this.#closed ??= this.#stopAll();
    const endAll = (): void => {
      for (const job of this.jobs) void job.stopForNow({ atOnce: true });
    };
    const deadline = options.deadlineMs === undefined ? undefined : setTimeout(endAll, options.deadlineMs);
    try {
      await this.#closed;
    } finally {
      clearTimeout(deadline);
    }
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Closes the queue when the process gets one of the signals. The process then ends by that signal, unless the program listens
   * for it, too. Nothing listens any more once the queue is closed.
   */
  closeOnSignal(signals: readonly NodeJS.Signals[], options: CloseOptions = {}): void {
    this.#requireOpen();
    requireDeadline('JobQueue.closeOnSignal', options);
    if (!Array.isArray(signals) || !signals.every((signal) => Object.hasOwn(constants.signals, signal))) {
      throw refusal('JobQueue.closeOnSignal', `signals: expected names of signals, got ${shown(signals)}`);
    }
    const onSignal = (signal: NodeJS.Signals): void => {
      const end = (): void => {
        if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
      };
      this.close(options).then(end, end);
    };
    for (const signal of signals) process.on(signal, onSignal);
    const stopBefore = this.#stopListening;
    this.#stopListening = () => {
      stopBefore();
      for (const signal of signals) process.removeListener(signal, onSignal);
    };
  }

  /** The jobs of an earlier process again, and what else lies unfinished in the folder. */
  async #recover(
    folder: string,
    records: readonly JobRecord[],
    { recover, trustModules }: Pick<Required<OpenQueueOptions>, 'recover' | 'trustModules'>,
  ): Promise<void> {
    const known = new Set(records.map(({ input }) => directoryOf(input)));
    const others = (await interruptedRuns(folder)).filter(({ runDirectory }) => !known.has(runDirectory));
    const left: InterruptedRun[] = others.map((run) => ({ ...run, id: null }));
    // No event of theirs comes before whoever opens the queue can listen; the first are `running` by then.
    await this.#budget.halt(async () => {
      for (const record of records) {
        const problem = await this.#comeBack(record, {
          isPaused: recover === 'pause' || record.isPaused,
          trustModules,
        });
        if (problem !== null) left.push({ runDirectory: directoryOf(record.input)!, id: record.id, problem });
      }
    });
    this.#interrupted = left;
  }

  /** Why the job cannot come back; null: it has. */
  async #comeBack(record: JobRecord, how: { isPaused: boolean; trustModules: boolean }): Promise<string | null> {
    const modules = Object.values(record.input.options.code);
    if (modules.length > 0 && !how.trustModules) {
      return `it needs ${modules.join(', ')}, which ${modules.length === 1 ? 'is' : 'are'} not run without trustModules`;
    }
    const directory = directoryOf(record.input)!;
    const { options } = record.input;
    const input: JobInput = RunDirectory.exists(directory)
      ? { kind: 'resume', runDirectory: directory, options }
      : record.input;
    try {
      const threads = await this.#threadsOf('JobQueue.open', input);
      this.#directories.add(directory);
      this.#admit({ ...record, input }, { threads, isPaused: how.isPaused });
      return null;
    } catch (error) {
      if (error instanceof LayerwiseError) return error.message;
      throw error;
    }
  }

  async #take(user: string, record: JobRecord, signal: AbortSignal | undefined): Promise<QueuedJob> {
    const taking = this.#tryToTake(user, record, signal);
    this.#coming.add(taking);
    try {
      return await taking;
    } finally {
      this.#coming.delete(taking);
    }
  }

  async #tryToTake(user: string, record: JobRecord, signal: AbortSignal | undefined): Promise<QueuedJob> {
    this.#requireOpen();
    const directory = directoryOf(record.input);
    if (directory !== null && this.#directories.has(directory)) {
      throw refusal(user, `${directory} is the run directory of another job of the queue`);
    }
    if (directory !== null) this.#directories.add(directory);
    try {
      const threads = await this.#threadsOf(user, record.input);
      await this.#journal?.put(record);
      if (this.#closed === null) return this.#admit(record, { threads, signal });
      await this.#journal?.delete(record.id);
      throw queueClosed();
    } catch (error) {
      if (directory !== null && !this.#jobs.has(record.id)) this.#directories.delete(directory);
      throw error;
    }
  }

  #admit(
    record: JobRecord,
    { threads, signal, isPaused = false }: { threads: number; signal?: AbortSignal | undefined; isPaused?: boolean },
  ): QueuedJob {
    const place = new QueuePlace({ ...record, threads, directory: directoryOf(record.input), budget: this.#budget });
    const job = new QueuedJob({ input: onThreads(record.input, threads), signal }, place);
    this.#jobs.set(record.id, job);
    // Not kept: whoever opens the queue the next time may decide otherwise.
    if (isPaused) void job.pause();
    const follow = (state: JobState): void => this.#follow(record, place, state);
    job.on('state', follow);
    // It is over already where its signal is aborted.
    if (job.state === 'cancelled') {
      place.isGivenUp = true;
      follow(job.state);
    }
    return job;
  }

  /** Keeps on disk what is to come back. */
  #follow(record: JobRecord, place: QueuePlace, state: JobState): void {
    const saved = isFinal(state)
      ? this.#forget(record, { isToComeBack: state === 'cancelled' && !place.isGivenUp })
      : this.#journal?.putPaused(record.id, state === 'pausing' || state === 'paused');
    // The job itself is as it is. What is not on disk comes back in vain: a finished run, or one to be cancelled again.
    saved?.catch((error: Error) => process.emitWarning(error));
  }

  async #forget({ id, input }: JobRecord, { isToComeBack }: { isToComeBack: boolean }): Promise<void> {
    this.#jobs.delete(id);
    const directory = directoryOf(input);
    if (directory !== null) this.#directories.delete(directory);
    if (!isToComeBack) await this.#journal?.delete(id);
  }

  async #stopAll(): Promise<void> {
    // The jobs are cancelled by the queue, not given up.
    try {
      await Promise.all(this.jobs.map((job) => job.stopForNow()));
      await Promise.allSettled(this.#coming);
      await this.#journal?.close();
    } finally {
      this.#stopListening();
    }
  }

  /** Throws TrainingJobError where a job wants more than there are, or its run directory cannot be read. */
  async #threadsOf(user: string, input: JobInput): Promise<number> {
    const { share, threads: all } = this.#budget;
    const threads = input.kind === 'train' ? (input.recipe.threads ?? share) : ((await threadsOfRun(input)) ?? all);
    if (threads <= all) return threads;
    throw refusal(user, `threads: expected at most ${all}, those of the queue, got ${threads}`);
  }

  #requireOpen(): void {
    if (this.#closed !== null) throw queueClosed();
  }
}

const queueClosed = (): TrainingJobError =>
  new TrainingJobError('QUEUE_CLOSED', 'the queue is closed: it takes no more jobs');

const newId = (): string =>
  `${new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-')}-${randomUUID().slice(0, 8)}`;

/** The whole path of the run directory; null: it is named when the run begins. */
const directoryOf = (input: JobInput): string | null =>
  input.kind === 'train' ? (input.out ?? null) : input.runDirectory;

/** Of a run that goes on the threads are in its record. */
const onThreads = (input: JobInput, threads: number): JobInput =>
  input.kind === 'train' ? { ...input, recipe: { ...input.recipe, threads } } : input;

/** Null where an older version did not record them. */
async function threadsOfRun({ runDirectory }: { runDirectory: string }): Promise<number | null> {
  try {
    return (await RunDirectory.open(runDirectory).readConfig()).threads ?? null;
  } catch (error) {
    throw error instanceof LayerwiseError ? jobError(error) : error;
  }
}

function checkedRecipe(recipe: Recipe): Recipe {
  try {
    return parseRecipe(recipe);
  } catch (error) {
    throw error instanceof LayerwiseError ? jobError(error) : error;
  }
}
