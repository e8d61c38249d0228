// What a queue is asked for.
import { usableProcessors } from '#scripts/support/limits.mjs';
import { requireOptions } from '../options.js';
import { shown } from '../schema.js';
import { refusal } from './errors.js';

/** How much a JobQueue may do at once. */
export interface JobQueueOptions {
  /** Jobs at once, at most; default: 1. */
  readonly concurrency?: number;
  /**
   * Threads of all jobs together; default: the processors that this process may use, and at least `concurrency`. A job whose
   * recipe names no `threads` gets `threads` / `concurrency`, rounded down.
   */
  readonly threads?: number;
}

/** Options of `JobQueue.open`. */
export interface OpenQueueOptions extends JobQueueOptions {
  /** The folder for run directories, and for `queue.json`, where the queue keeps the jobs that are not over. */
  readonly runs: string;
  /** Whether jobs that an earlier process left come back to go on, or paused; default: 'resume'. */
  readonly recover?: 'resume' | 'pause';
  /** Whether such jobs may run the modules that `queue.json` names; default: false. */
  readonly trustModules?: boolean;
}

/** What `JobQueue.add` and `JobQueue.resume` take beside the options of a job. */
export interface QueueOptions {
  /** A whole number; jobs of a higher one start first. Default: 0. */
  readonly priority?: number;
}

/** How a queue is closed. */
export interface CloseOptions {
  /** Milliseconds after which what still runs is ended without a checkpoint of its own; default: none. */
  readonly deadlineMs?: number;
}

/** An unfinished run in the folder of a queue that the queue does nothing with. */
export interface InterruptedRun {
  readonly runDirectory: string;
  /** Of a job that cannot come back as it is; null: of no job of the queue. */
  readonly id: string | null;
  /** Why the job cannot come back, or why nobody can tell whether the run is at work; null: it can be resumed. */
  readonly problem: string | null;
}

/** Throws TrainingJobError for what is no object, has other options than `known`, or numbers out of range. */
export function limitsOf(
  user: string,
  options: JobQueueOptions,
  known: readonly string[] = ['concurrency', 'threads'],
): Required<JobQueueOptions> {
  requireOptions(options, 'options', (problem) => refusal(user, problem), known);
  const { concurrency = 1 } = options;
  requireCount(user, 'concurrency', concurrency, 1);
  const { threads = Math.max(concurrency, usableProcessors()) } = options;
  requireCount(user, 'threads', threads, concurrency, ', one for each of the jobs at once');
  return { concurrency, threads };
}

/** The same, of `JobQueue.open`. */
export function openOptionsOf(options: OpenQueueOptions): Required<OpenQueueOptions> {
  const user = 'JobQueue.open';
  const limits = limitsOf(user, options, ['concurrency', 'threads', 'runs', 'recover', 'trustModules']);
  const { runs, recover = 'resume', trustModules = false } = options;
  if (typeof runs !== 'string' || runs === '') throw refusal(user, `runs: expected a path, got ${shown(runs)}`);
  if (recover !== 'resume' && recover !== 'pause') {
    throw refusal(user, `recover: expected resume or pause, got ${shown(recover)}`);
  }
  if (typeof trustModules !== 'boolean') {
    throw refusal(user, `trustModules: expected true or false, got ${shown(trustModules)}`);
  }
  return { ...limits, runs, recover, trustModules };
}

/** The options of a job, and its priority in the queue. */
export function splitPriority<Options extends object>(
  user: string,
  options: Options & QueueOptions,
): { priority: number; others: Options } {
  requireOptions(options, 'options', (problem) => refusal(user, problem));
  const { priority = 0, ...others } = options;
  if (!Number.isSafeInteger(priority)) throw refusal(user, `priority: expected a whole number, got ${shown(priority)}`);
  return { priority, others: others as unknown as Options };
}

/** Of a timer of Node's: a longer one would be over at once. */
export const LONGEST_DEADLINE_MS = 2 ** 31 - 1;

/** Throws TrainingJobError for what is no time. */
export function requireDeadline(user: string, { deadlineMs }: CloseOptions): void {
  if (deadlineMs === undefined) return;
  if (Number.isFinite(deadlineMs) && deadlineMs >= 0 && deadlineMs <= LONGEST_DEADLINE_MS) return;
  throw refusal(user, `deadlineMs: expected milliseconds from 0 to ${LONGEST_DEADLINE_MS}, got ${shown(deadlineMs)}`);
}

function requireCount(user: string, name: string, value: unknown, least: number, why = ''): void {
  if (Number.isSafeInteger(value) && (value as number) >= least) return;
  throw refusal(user, `${name}: expected a whole number of at least ${least}${why}, got ${shown(value)}`);
}
