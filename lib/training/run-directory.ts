import { existsSync } from 'node:fs';
import { appendFile, open, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { withLock } from '../../scripts/support/lock.mjs';
import { makeDirectory } from '../../scripts/support/make-directory.mjs';
import {
  type RunConfig,
  type RunRecord,
  RunRecordError,
  type RunResult,
  readRunRecord,
} from '../evaluation/report/index.js';
import { readJsonFile, TextFileError } from '../text-file.js';
import { RunDirectoryError } from './errors.js';
import type { EpochRecord } from './events.js';

/** Writes a file that appears whole or not at all, and is on the disk when this returns. */
export async function writeWhole(file: string, text: string): Promise<void> {
  const partial = `${file}.partial`;
  const handle = await open(partial, 'w');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(partial, file);
}

const LOCK_FILE = 'run.lock';

/** The directory that holds a run: its recipe, its metrics, its checkpoint, its result. */
export class RunDirectory {
  private constructor(readonly path: string) {}

  /** Makes a new one. Throws RunDirectoryError where the directory exists and is not empty. */
  static async create(path: string): Promise<RunDirectory> {
    await makeDirectory(path);
    // A process that died between making the directory and its first file leaves its lock.
    const entries = (await readdir(path)).filter((entry) => entry !== LOCK_FILE);
    if (entries.includes('config.json')) {
      throw new RunDirectoryError(`${path} already holds a run: go on with --resume ${path}, or give another --out`);
    }
    if (entries.length > 0) {
      throw new RunDirectoryError(
        `${path}: expected an empty or new directory for --out, got one with ${entries[0]} in it`,
      );
    }
    return new RunDirectory(path);
  }

  /** Opens an existing one. Throws RunDirectoryError where there is no run. */
  static open(path: string): RunDirectory {
    if (!existsSync(join(path, 'config.json'))) {
      throw new RunDirectoryError(`${path}: expected a run directory, but there is no config.json in it`);
    }
    return new RunDirectory(path);
  }

  /**
   * Runs `work` while nobody else writes to this run. Throws RunDirectoryError, at once, where another process (or another
   * worker of this one) does; the lock of a process that was killed is taken over.
   */
  hold<T>(work: () => Promise<T>): Promise<T> {
    return withLock(join(this.path, LOCK_FILE), work, {
      onWait: (holder) => {
        const owner = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`;
        throw new RunDirectoryError(`${this.path}: ${owner} is training this run`);
      },
    });
  }

  /** Files of features, while the run goes on. */
  get features(): string {
    return join(this.path, 'features');
  }

  /** Image files that others stood in for. */
  get badImages(): string {
    return join(this.path, 'bad-images.jsonl');
  }

  get checkpoint(): string {
    return join(this.path, 'checkpoint');
  }

  get model(): string {
    return join(this.path, 'model.safetensors');
  }

  get auxiliaryHeads(): string {
    return join(this.path, 'auxiliary-heads.safetensors');
  }

  async writeConfig(config: RunConfig): Promise<void> {
    await writeWhole(join(this.path, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  }

  /** Config, metrics and result. Throws RunDirectoryError with file and field for what is not as a run writes it. */
  async readRecord(): Promise<RunRecord> {
    try {
      return await readRunRecord(this.path);
    } catch (error) {
      if (!(error instanceof RunRecordError)) throw error;
      throw new RunDirectoryError(error.message, { cause: error });
    }
  }

  async readConfig(): Promise<RunConfig> {
    return (await this.readRecord()).config;
  }

  /** Replaces all metrics that there are. */
  async writeMetrics(records: readonly EpochRecord[]): Promise<void> {
    await writeWhole(join(this.path, 'metrics.jsonl'), records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  }

  async appendMetrics(record: EpochRecord): Promise<void> {
    await appendFile(join(this.path, 'metrics.jsonl'), `${JSON.stringify(record)}\n`);
  }

  /** The records before a position; what was written after it (by a run that was killed) is taken out of the file. */
  async rewindMetrics(before: { layer: number; epoch: number }): Promise<EpochRecord[]> {
    const { epochs, incompleteLine } = await this.readRecord();
    const earlier = (epochs as EpochRecord[]).filter(
      (e) => e.layer < before.layer || (e.layer === before.layer && e.epoch < before.epoch),
    );
    // Also where only the end of the last line is missing, to which the next record would be joined.
    if (epochs.length > 0 || incompleteLine !== undefined) await this.writeMetrics(earlier);
    return earlier;
  }

  async writeResult(result: RunResult): Promise<void> {
    await writeWhole(join(this.path, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
  }

  /** The result of a finished run, or null. */
  async readResult(): Promise<RunResult | null> {
    return (await this.readRecord()).result ?? null;
  }
}

/** Reads a JSON file; throws RunDirectoryError, naming it and the place in it, when it is not there or not JSON. */
export async function readJson(file: string): Promise<unknown> {
  try {
    return await readJsonFile(file);
  } catch (error) {
    if (!(error instanceof TextFileError)) throw error;
    const { problem, place } = error;
    const where = place === null ? '' : `line ${place.line}, column ${place.column}: `;
    throw new RunDirectoryError(`${file}: ${where}${problem}`, { cause: error });
  }
}
