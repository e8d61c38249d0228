import { rm } from 'node:fs/promises';
import { writeReport } from '../report/index.js';
import type { RunDirectory, RunResult } from '../run/index.js';

/** A finished run: where it is, and its result. */
export interface Finished {
  readonly runDirectory: string;
  /** Path of report.html. */
  readonly report: string;
  readonly result: RunResult;
}

/** Finishes a run whose network is saved: writes its result, and completes it as `completeRun` does. */
export async function finishRun(directory: RunDirectory, result: RunResult): Promise<Finished> {
  await directory.writeResult(result);
  return completeRun(directory, result);
}

/**
 * Completes a run that has a result: removes its checkpoint, since the network has files of its own, and kept images, and writes
 * the report.
 */
export async function completeRun(directory: RunDirectory, result: RunResult): Promise<Finished> {
  for (const path of [directory.checkpoint, directory.images]) await rm(path, { recursive: true, force: true });
  return { runDirectory: directory.path, report: await writeReport(directory.path), result };
}
