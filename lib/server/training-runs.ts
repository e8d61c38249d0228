import { EventEmitter } from 'node:events';
import { lstatSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Recipe } from '../recipe/index.js';
import { type LayerSummary, summariseRun } from '../report/index.js';
import { type EpochRecord, RunDirectory, type RunRecord, RunRecordError } from '../run/index.js';
import { type InterruptedRun, isFinal, JobQueue, type QueuedJob, TrainingJobError } from '../service/index.js';
import type { StartFrom, StepProgress, TrainingEvent } from '../training/index.js';
import { recipeOf } from './client-recipe.js';
import { RequestError } from './errors.js';
import type { EventStream } from './event-stream.js';
import { hiding } from './hidden-folders.js';
import type { CheckedServiceOptions } from './options.js';
import { directoryOf, RUN_ID } from './run-id.js';
import { RunRecords } from './run-records.js';
import { detailOf, type LiveFacts, type RunOutline, summaryOf } from './run-view.js';
import type { RunDetail, RunFailure, RunState, RunSummary, TrainingRequest } from './schemas.js';

/** A finished run. Another one may come to lie in its directory, which then has begun at another time. */
export interface FinishedRun {
  readonly directory: string;
  readonly startedAt: string;
}

/** A run of this process. */
interface LiveRun {
  readonly job: QueuedJob;
  /** Null of one that goes on: its recipe is on disk. */
  readonly recipe: Recipe | null;
  /** Whether it was left by an earlier process, and nobody has told it to go on yet. */
  isLeft: boolean;
  progress: StepProgress | null;
  error: RunFailure | null;
}

/** What followers of the runs are told: a run's own event, or that its state has changed. */
export type RunEvent = { readonly id: string } & (
  | { readonly type: 'event'; readonly event: TrainingEvent }
  | { readonly type: 'state'; readonly state: RunState }
);

/** The events of TrainingRuns, by name. */
interface TrainingRunsEvents {
  run: [RunEvent];
  /** Why a run failed, in full: for the server alone. */
  failure: [{ readonly id: string; readonly error: TrainingJobError }];
}

/** Runs that have ended of which this process still knows more than their directories tell, at most. */
const MOST_ENDED = 100;

/** Followers at once, at most. */
const MOST_FOLLOWERS = 1_000;

/** The runs in a folder: those of this process, and those that earlier ones left. */
export class TrainingRuns extends EventEmitter<TrainingRunsEvents> {
  readonly #folder: string;
  readonly #dataRoot: string | null;
  readonly #maxQueued: number;
  readonly #hide: (message: string) => string;
  readonly #queue: JobQueue;
  readonly #records = new RunRecords();
  readonly #live = new Map<string, LiveRun>();
  /** The oldest first. */
  readonly #ended: [id: string, run: LiveRun][] = [];
  /** Names of runs that are being started or resumed. */
  readonly #coming = new Set<string>();
  readonly #followers = new Set<EventStream>();
  #isClosing = false;

  private constructor({ runs, dataRoot, maxQueued }: CheckedServiceOptions, queue: JobQueue) {
    super();
    this.#folder = runs;
    this.#dataRoot = dataRoot;
    this.#maxQueued = maxQueued;
    this.#hide = hiding(dataRoot === null ? [runs] : [runs, dataRoot]);
    this.#queue = queue;
    // Each follower listens.
    this.setMaxListeners(0);
    for (const job of queue.jobs) this.#follow(idOf(job), job, { recipe: null, isLeft: job.state === 'paused' });
  }

  /** Throws TrainingJobError where another process has the folder. */
  static async open(options: CheckedServiceOptions): Promise<TrainingRuns> {
    const { runs, concurrency, threads, resumeInterrupted } = options;
    await mkdir(runs, { recursive: true });
    const recover = resumeInterrupted ? 'resume' : 'pause';
    const queue = await JobQueue.open({ runs, concurrency, threads: Math.max(threads, concurrency), recover });
    return new TrainingRuns(options, queue);
  }

  /** Whether it takes no more work. */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** Runs that an earlier process left and that cannot come back as they are. */
  get leftOut(): readonly InterruptedRun[] {
    return this.#queue.interrupted.filter(({ problem }) => problem !== null);
  }

  /** The newest first. */
  async list(): Promise<RunSummary[]> {
    const ids = new Set([...this.#live.keys(), ...(await this.#onDisk())]);
    const summaries = (await Promise.all([...ids].map((id) => this.#listed(id)))).flat();
    return summaries.sort((a, b) => (b.startedAt ?? '9').localeCompare(a.startedAt ?? '9') || a.id.localeCompare(b.id));
  }

  /** Throws RequestError: 404 for a run that there is not, 409 for one whose record is damaged. */
  async summary(id: string): Promise<RunSummary> {
    const outline = await this.#outline(id);
    return summaryOf(id, this.#factsOf(id, outline), outline);
  }

  /** With its epochs. Throws as `summary` does. */
  async detail(id: string): Promise<RunDetail> {
    const record = await this.#record(id);
    return detailOf(id, this.#factsOf(id, record && standingOf(record)), record);
  }

  /** What charts are drawn of. */
  async curves(
    id: string,
  ): Promise<{ epochs: EpochRecord[]; layers: LayerSummary[]; plannedEpochs: number | undefined }> {
    const record = await this.#record(id);
    this.#factsOf(id, record && standingOf(record));
    if (record === null) return { epochs: [], layers: [], plannedEpochs: undefined };
    const { layers, planned } = summariseRun(record);
    return { epochs: record.epochs, layers, plannedEpochs: planned.epochs };
  }

  /** Throws RequestError: 404, or 409 while the run is not finished. */
  async finished(id: string): Promise<FinishedRun> {
    const outline = await this.#outline(id);
    this.#factsOf(id, outline);
    if (!outline?.isFinished) throw new RequestError(409, 'RUN_NOT_FINISHED', `run ${id} is not finished`);
    return { directory: directoryOf(this.#folder, id), startedAt: outline.startedAt };
  }

  countByState(): Record<string, number> {
    const counts: Record<string, number> = { queued: 0, running: 0, paused: 0, finished: 0, failed: 0, cancelled: 0 };
    for (const run of this.#live.values()) {
      const state = stateOf(run);
      counts[state] = (counts[state] ?? 0) + 1;
    }
    return counts;
  }

  /** Throws RequestError: 400 for what cannot be trained, 409 for a name that is taken, 429 where too many wait. */
  async start(request: TrainingRequest): Promise<RunSummary> {
    this.#requireOpen();
    const recipe = await recipeOf(request, this.#dataRoot);
    const id = request.id ?? this.#freeId(recipe);
    const out = directoryOf(this.#folder, id);
    if (this.#isTaken(id)) throw new RequestError(409, 'RUN_EXISTS', `there is a run ${id} already`);
    const { startFrom } = request;
    await this.#admit(id, recipe, async () => {
      const from = startFrom === undefined ? {} : { startFrom: await this.#takenFrom(startFrom) };
      return this.#queue.add({ recipe, out, ...from });
    });
    return this.summary(id);
  }

  async pause(id: string): Promise<RunSummary> {
    await this.#atWork(id, 'be paused').job.pause();
    return this.summary(id);
  }

  /** Goes on with a paused run, or with one that stopped, failed or was left by an earlier process. */
  async resume(id: string): Promise<RunSummary> {
    this.#requireOpen();
    const live = this.#live.get(id);
    if (live !== undefined && (live.job.state === 'paused' || live.job.state === 'pausing')) {
      await this.#resumePaused(id, live);
      return this.summary(id);
    }
    const outline = await this.#outline(id);
    const { state } = this.#factsOf(id, outline);
    if (state === 'finished' || state === 'running' || state === 'queued') throw conflict(id, state, 'be resumed');
    if (outline === null) throw conflict(id, `${state} before it began`, 'be resumed');
    const runDirectory = directoryOf(this.#folder, id);
    await this.#admit(id, null, () => this.#queue.resume({ runDirectory }));
    return this.summary(id);
  }

  async #resumePaused(id: string, live: LiveRun): Promise<void> {
    // Whoever else resumes it has a place for it.
    if (this.#coming.has(id)) return live.job.resume();
    this.#requireRoom();
    this.#coming.add(id);
    try {
      live.isLeft = false;
      await live.job.resume();
    } finally {
      this.#coming.delete(id);
    }
  }

  /** Stops it with a checkpoint; resolves when it has. */
  async cancel(id: string): Promise<RunSummary> {
    await this.#atWork(id, 'be cancelled').job.cancel();
    return this.summary(id);
  }

  /** `listen` is told of all runs until the stream is closed. Throws RequestError where there are too many followers. */
  follow(stream: EventStream, listen: (event: RunEvent) => void): void {
    this.#requireOpen();
    if (this.#followers.size >= MOST_FOLLOWERS) {
      throw new RequestError(429, 'FOLLOWERS', `expected at most ${MOST_FOLLOWERS} followers, got one more`);
    }
    this.#followers.add(stream);
    this.on('run', listen);
    stream.onEnd(() => {
      this.#followers.delete(stream);
      this.off('run', listen);
    });
  }

  /** As `follow`, of one run: the stream begins with how it stands, and misses nothing from there on. Throws as `summary`, too. */
  async followRun(id: string, stream: EventStream, listen: (event: RunEvent) => void): Promise<void> {
    const outline = await this.#outline(id);
    // From here to the end in one go.
    const summary = summaryOf(id, this.#factsOf(id, outline), outline);
    this.follow(stream, (event) => event.id === id && listen(event));
    stream.send('run', summary);
  }

  /**
   * Takes no more work, and ends all streams of events, which would keep connections open; what is at work writes its checkpoint within
   * so many milliseconds, or is ended where it is.
   */
  async close({ deadlineMs }: { deadlineMs: number }): Promise<void> {
    this.#isClosing = true;
    for (const stream of this.#followers) stream.end();
    await this.#queue.close({ deadlineMs });
  }

  /** How a run stands whose record, where it has one, has just been read. Throws RequestError (404) for a run that there is not. */
  #factsOf(id: string, outline: Pick<RunOutline, 'isFinished'> | null): LiveFacts {
    const live = this.#live.get(id);
    // Its directory may have been deleted since it finished, and another program may have gone on with one that was stopped.
    const isGone = live?.job.state === 'finished' && outline === null;
    const isElsewhere = live?.job.state === 'cancelled' && outline?.isFinished === true;
    if (live !== undefined && !isGone && !isElsewhere) return { ...live, state: stateOf(live) };
    if (outline === null) throw new RequestError(404, 'RUN_UNKNOWN', `there is no run ${id}`);
    return { state: outline.isFinished ? 'finished' : 'interrupted' };
  }

  /** A damaged record takes nothing from the list but itself. Empty for a run that has been deleted meanwhile. */
  async #listed(id: string): Promise<RunSummary[]> {
    try {
      return [await this.summary(id)];
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (error.statusCode === 404) return [];
      return [summaryOf(id, { state: 'failed', error: { code: error.code, message: error.message } }, null)];
    }
  }

  #outline(id: string): Promise<RunOutline | null> {
    return this.#read(id, (directory) => this.#records.outline(directory));
  }

  #record(id: string): Promise<RunRecord | null> {
    return this.#read(id, (directory) => this.#records.record(directory));
  }

  /** What the run directory holds; null where nothing is written yet. */
  async #read<Read>(id: string, read: (directory: string) => Promise<Read>): Promise<Read | null> {
    const directory = directoryOf(this.#folder, id);
    if (!this.#isOnDisk(id)) return null;
    try {
      return await read(directory);
    } catch (error) {
      if (!(error instanceof RunRecordError)) throw error;
      if (!this.#isOnDisk(id)) return null;
      throw new RequestError(409, 'RUN_DAMAGED', this.#hide(error.message), { cause: error });
    }
  }

  /** Of a link to a directory elsewhere this folder knows nothing. */
  #isOnDisk(id: string): boolean {
    const directory = directoryOf(this.#folder, id);
    const found = lstatSync(directory, { throwIfNoEntry: false });
    return found?.isDirectory() === true && RunDirectory.exists(directory);
  }

  /** A job that has not ended. */
  #atWork(id: string, action: string): LiveRun {
    const live = this.#live.get(id);
    if (live === undefined) {
      if (!this.#isOnDisk(id)) throw new RequestError(404, 'RUN_UNKNOWN', `there is no run ${id}`);
      throw conflict(id, 'not at work', action);
    }
    if (isOver(live)) throw conflict(id, live.job.state, action);
    return live;
  }

  /** Gives the queue a job under a name that nobody else is given meanwhile. Throws RequestError. */
  async #admit(id: string, recipe: Recipe | null, add: () => Promise<QueuedJob>): Promise<void> {
    if (this.#coming.has(id)) throw conflict(id, 'being started', 'be started again');
    this.#requireRoom();
    this.#requireFewPaused();
    this.#coming.add(id);
    try {
      this.#follow(id, await add(), { recipe, isLeft: false });
    } catch (error) {
      throw error instanceof TrainingJobError ? this.#refusal(error) : error;
    } finally {
      this.#coming.delete(id);
    }
  }

  #requireOpen(): void {
    if (this.#isClosing) throw closing();
  }

  #requireRoom(): void {
    const waiting = this.#queue.jobs.filter(({ state }) => state === 'queued').length + this.#coming.size;
    if (waiting < this.#maxQueued) return;
    throw new RequestError(429, 'QUEUE_FULL', `expected at most ${this.#maxQueued} trainings that wait, got one more`);
  }

  /** Those of clients: they wait for nothing, and else would be as many as one likes. */
  #requireFewPaused(): void {
    const paused = [...this.#live.values()].filter(
      ({ job: { state }, isLeft }) => (state === 'paused' || state === 'pausing') && !isLeft,
    );
    if (paused.length < this.#maxQueued) return;
    const problem = `expected at most ${this.#maxQueued} trainings that are paused, got as many: go on with one, or cancel it`;
    throw new RequestError(429, 'QUEUE_FULL', problem);
  }

  #refusal(error: TrainingJobError): RequestError {
    if (error.code === 'QUEUE_CLOSED') return closing();
    return new RequestError(error.code === 'INVALID_ARGUMENT' ? 400 : 409, error.code, this.#hide(error.message));
  }

  #follow(id: string, job: QueuedJob, { recipe, isLeft }: Pick<LiveRun, 'recipe' | 'isLeft'>): void {
    const run: LiveRun = { job, recipe, isLeft, progress: null, error: null };
    this.#live.set(id, run);
    const tell = (): void => {
      this.emit('run', { id, type: 'state', state: stateOf(run) });
      if (isOver(run)) this.#keepEnded(id, run);
    };
    job.on('event', (event) => {
      if (event.type === 'step') run.progress = event;
      this.emit('run', { id, type: 'event', event });
    });
    job.on('state', tell);
    job.outcome.catch((error: TrainingJobError) => {
      // A stop is no failure.
      if (run.job.state !== 'failed') return;
      const message =
        error.code === 'INTERNAL' ? 'the training failed; the log of the server has the reason' : error.message;
      run.error = { code: error.code, message: this.#hide(message) };
      this.emit('failure', { id, error });
    });
    tell();
  }

  /** Of the oldest only what is on disk is known from then on. */
  #keepEnded(id: string, run: LiveRun): void {
    this.#ended.push([id, run]);
    if (this.#ended.length <= MOST_ENDED) return;
    const [oldest, ended] = this.#ended.shift()!;
    if (this.#live.get(oldest) === ended) this.#live.delete(oldest);
  }

  async #takenFrom({ run, layers, head }: NonNullable<TrainingRequest['startFrom']>): Promise<StartFrom> {
    return {
      runDirectory: (await this.finished(run)).directory,
      ...(layers === undefined ? {} : { layers }),
      ...(head === undefined ? {} : { head }),
    };
  }

  async #onDisk(): Promise<string[]> {
    const names = await readdir(this.#folder);
    return names.filter((name) => RUN_ID.test(name) && this.#isOnDisk(name));
  }

  /** A run that failed or was stopped before it began has left nothing but its name. */
  #isTaken(id: string): boolean {
    const live = this.#live.get(id);
    const isLive = this.#coming.has(id) || (live !== undefined && !isOver(live));
    return isLive || lstatSync(join(this.#folder, id), { throwIfNoEntry: false }) !== undefined;
  }

  #freeId({ preset, dataset }: Recipe): string {
    const time = new Date().toISOString().slice(0, 19).replaceAll(':', '').replace('T', '-');
    const name = `${preset}-${dataset.name}-${time}`;
    for (let number = 1; ; number++) {
      const id = number === 1 ? name : `${name}-${number}`;
      if (!this.#isTaken(id)) return id;
    }
  }
}

/** A job's state; one that was left by an earlier process is interrupted until it goes on. */
const stateOf = ({ job, isLeft }: LiveRun): RunState => (isLeft && job.state === 'paused' ? 'interrupted' : job.state);

const isOver = ({ job }: LiveRun): boolean => isFinal(job.state);

const standingOf = ({ result }: RunRecord): Pick<RunOutline, 'isFinished'> => ({ isFinished: result !== undefined });

/** The name of a job's run. */
const idOf = ({ id, directory, runDirectory }: QueuedJob): string => basename(directory ?? runDirectory ?? id);

const conflict = (id: string, state: string, action: string): RequestError =>
  new RequestError(409, 'RUN_STATE', `run ${id} is ${state}: it cannot ${action}`);

const closing = (): RequestError =>
  new RequestError(503, 'CLOSING', 'the service is being closed: it takes no more work');
