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

/** Makes a run whose network is saved a finished one: its result is written, then as `completeRun`. */
export async function finishRun(directory: RunDirectory, result: RunResult): Promise<Finished> {
  await directory.writeResult(result);
  return completeRun(directory, result);
}

/** What is left to do once there is a result: the checkpoint goes, since the network has files of its own; the report is written. */
export async function completeRun(directory: RunDirectory, result: RunResult): Promise<Finished> {
  await rm(directory.checkpoint, { recursive: true, force: true });
  return { runDirectory: directory.path, report: await writeReport(directory.path), result };
}
