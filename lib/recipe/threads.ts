import { buildInfo, setThreads } from '../tensor/index.js';
import { RecipeError } from './errors.js';
import type { Recipe } from './recipe.js';

/** Computes on as many threads as a recipe says. Throws RecipeError where that is too many for this machine. */
export function useThreads({ threads }: Recipe): void {
  if (threads === null) return;
  const { mostThreads } = buildInfo();
  if (threads > mostThreads) {
    throw new RecipeError(`threads: expected at most ${mostThreads} on this machine, got ${threads}`);
  }
  setThreads(threads);
}

/** Computes on as many threads as a run did; another machine may have fewer processors. */
export function useRecordedThreads({ threads }: { threads?: number | null }): void {
  if (typeof threads === 'number') setThreads(Math.min(threads, buildInfo().mostThreads));
}
