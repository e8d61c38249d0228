import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isRunDirectory } from './own-files.js';
import { RunDirectory } from './run-directory.js';

/** A run that has begun and not ended. */
export interface UnfinishedRun {
  readonly runDirectory: string;
  /** Why it cannot be told whether somebody is at work on it; null: nobody is. */
  readonly problem: string | null;
}

/**
 * The run directories in a folder whose runs have begun and not ended, and which nobody is at work on, as far as can be told; by
 * name.
 */
export async function interruptedRuns(folder: string): Promise<UnfinishedRun[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const paths = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
  const interrupted = paths.sort().flatMap((runDirectory): UnfinishedRun[] => {
    try {
      return RunDirectory.isInterrupted(runDirectory) ? [{ runDirectory, problem: null }] : [];
    } catch (error) {
      // Such as the lock of another user: one run must not keep others from being found.
      return [{ runDirectory, problem: (error as Error).message }];
    }
  });
  const isRun = await Promise.all(interrupted.map(({ runDirectory }) => isRunDirectory(runDirectory)));
  return interrupted.filter((_, i) => isRun[i]);
}
