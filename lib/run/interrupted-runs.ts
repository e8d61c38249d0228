import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isRunDirectory } from './own-files.js';
import { RunDirectory } from './run-directory.js';

/** The run directories in a folder whose runs have begun and not ended, and which nobody is at work on; by name. */
export async function interruptedRuns(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const paths = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
  const interrupted = paths.sort().filter((path) => RunDirectory.isInterrupted(path));
  const isRun = await Promise.all(interrupted.map(isRunDirectory));
  return interrupted.filter((_, i) => isRun[i]);
}
