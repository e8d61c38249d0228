// Runs beside each other in one thread of Node take turns, a step at a time: the number of threads that LibTorch computes on
// belongs to the thread, and the bits of a run depend on it.
import { setImmediate } from 'node:timers/promises';
import { RecipeError, requireThreads } from '../recipe/index.js';
import { getThreads, setThreads } from '../tensor/index.js';

/** The end of the last turn that is taken or waited for. */
let lastTurn: Promise<void> = Promise.resolve();
/** Runs that have begun and not ended. */
let runs = 0;
/** Whether one of them waits for other processes. */
let isTaken = false;
/** What the caller computes on, before the first of them and after the last. */
let callersThreads = 1;

/** A run's right to compute. */
export class Turn {
  readonly #threads: number;
  #release: () => void = () => {};

  private constructor(threads: number) {
    this.#threads = threads;
  }

  /**
   * Runs `work` in turns with others. Throws RecipeError for more threads than there are; null: those that the caller computes on. A run
   * that waits for other processes has no others beside it in its thread: each could wait for the other's turn, for ever.
   */
  static async during<T>(
    threads: number | null,
    work: (turn: Turn) => Promise<T>,
    { waitsForOthers = false }: { waitsForOthers?: boolean } = {},
  ): Promise<T> {
    if (isTaken || (waitsForOthers && runs > 0)) {
      throw new RecipeError(
        'group: a run of several processes cannot be beside another run in one thread; take a TrainingJob, which has its own',
      );
    }
    isTaken = waitsForOthers;
    try {
      const turn = await Turn.#begin(threads);
      try {
        return await work(turn);
      } finally {
        turn.#end();
      }
    } finally {
      if (waitsForOthers) isTaken = false;
    }
  }

  static async #begin(threads: number | null): Promise<Turn> {
    if (threads !== null) requireThreads(threads);
    if (runs++ === 0) callersThreads = getThreads();
    const turn = new Turn(threads ?? callersThreads);
    await turn.#take();
    return turn;
  }

  /** Lets the event loop and other runs have theirs. */
  async pause(): Promise<void> {
    this.#release();
    await setImmediate();
    await this.#take();
  }

  #end(): void {
    if (--runs === 0) use(callersThreads);
    this.#release();
  }

  async #take(): Promise<void> {
    const before = lastTurn;
    lastTurn = new Promise((resolve) => {
      this.#release = resolve;
    });
    await before;
    use(this.#threads);
  }
}

/** Setting them takes a while, also where nothing changes. */
function use(threads: number): void {
  if (getThreads() !== threads) setThreads(threads);
}
