import { LayerwiseError } from '../errors.js';
import { Predictor, PredictorError } from '../predictor/index.js';
import { RequestError } from './errors.js';
import type { FinishedRun } from './training-runs.js';

/** How each run is opened. */
interface OpeningOptions {
  readonly threads: number;
  readonly maxPixels: number;
}

/** Predictors of finished runs, opened when one is asked for; the one that was unused for longest goes when there are too many. */
export class Predictors implements AsyncDisposable {
  readonly #most: number;
  readonly #options: OpeningOptions;
  /** By directory; the one that was used last comes last. */
  readonly #opened = new Map<string, OpenedRun>();
  #closing = Promise.resolve();

  constructor({ most, ...options }: { most: number } & OpeningOptions) {
    this.#most = most;
    this.#options = options;
  }

  /**
   * Works with the predictor of a run, which stays open until the work is done. There are never more open than may be:
   * where all are in use, this waits. Throws RequestError (409) for a run that cannot be opened, and what the work throws.
   */
  async use<Result>(finished: FinishedRun, work: (predictor: Predictor) => Promise<Result>): Promise<Result> {
    const { directory } = finished;
    const run = this.#openedOf(finished) ?? this.#open(finished);
    this.#opened.delete(directory);
    this.#opened.set(directory, run);
    try {
      return await run.use(work);
    } catch (error) {
      // The next use opens it again.
      if (run.isBroken) this.#drop(directory, run);
      throw error;
    }
  }

  /** Calls that wait, by directory. */
  get waiting(): ReadonlyMap<string, number> {
    return new Map([...this.#opened].map(([directory, run]) => [directory, run.waiting]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [directory, run] of this.#opened) this.#drop(directory, run);
    await this.#closing;
  }

  /** Lets go of an earlier run in the same directory. */
  #openedOf({ directory, startedAt }: FinishedRun): OpenedRun | undefined {
    const run = this.#opened.get(directory);
    if (run === undefined || run.startedAt === startedAt) return run;
    this.#drop(directory, run);
    return undefined;
  }

  #open({ directory, startedAt }: FinishedRun): OpenedRun {
    while (this.#opened.size >= this.#most) this.#drop(...this.#leastUsed());
    return new OpenedRun(
      startedAt,
      this.#closing.then(() => openRun(directory, this.#options)),
    );
  }

  #leastUsed(): [string, OpenedRun] {
    const entries = [...this.#opened];
    return entries.find(([, run]) => !run.isUsed) ?? entries[0]!;
  }

  #drop(directory: string, run: OpenedRun): void {
    if (this.#opened.get(directory) === run) this.#opened.delete(directory);
    const closing = run.close();
    this.#closing = this.#closing.then(() => closing);
  }
}

/** A predictor that is being opened, or is open. */
class OpenedRun {
  readonly #opening: Promise<Predictor>;
  readonly #uses = new Set<Promise<unknown>>();
  #predictor: Predictor | null = null;
  /** Whether it could not be opened, or its thread has ended. */
  isBroken = false;

  constructor(
    readonly startedAt: string,
    opening: Promise<Predictor>,
  ) {
    this.#opening = opening;
  }

  get isUsed(): boolean {
    return this.#uses.size > 0;
  }

  get waiting(): number {
    return this.#predictor?.statistics.waiting ?? 0;
  }

  async use<Result>(work: (predictor: Predictor) => Promise<Result>): Promise<Result> {
    const use = this.#work(work);
    this.#uses.add(use);
    try {
      return await use;
    } finally {
      this.#uses.delete(use);
    }
  }

  /** Resolves when all uses have ended, and nothing is left of it. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#uses);
    await this.#opening.then((predictor) => predictor.close()).catch(() => {});
  }

  async #work<Result>(work: (predictor: Predictor) => Promise<Result>): Promise<Result> {
    try {
      this.#predictor = await this.#opening;
      return await work(this.#predictor);
    } catch (error) {
      const hasFailed = error instanceof PredictorError && error.code === 'WORKER_FAILED';
      if (this.#predictor === null || hasFailed) this.isBroken = true;
      throw error;
    }
  }
}

async function openRun(directory: string, options: OpeningOptions): Promise<Predictor> {
  try {
    return await Predictor.open(directory, { ...options, everyLayer: true });
  } catch (cause) {
    if (!(cause instanceof LayerwiseError) || cause instanceof PredictorError) throw cause;
    throw new RequestError(409, 'RUN_UNUSABLE', 'the network of the run cannot be opened', { cause });
  }
}
