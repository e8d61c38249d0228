import { buildInfo } from '../tensor/index.js';
import { RecipeError } from './errors.js';

/** Throws RecipeError for more threads than this machine is given. */
export function requireThreads(threads: number): void {
  const { mostThreads } = buildInfo();
  if (threads > mostThreads) {
    throw new RecipeError(`threads: expected at most ${mostThreads} on this machine, got ${threads}`);
  }
}

/** As many threads as a run was made on; another machine may have fewer processors. Null where that was not recorded. */
export function recordedThreads({ threads }: { readonly threads?: number | null }): number | null {
  return typeof threads === 'number' ? Math.min(threads, buildInfo().mostThreads) : null;
}
