import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { asWriteError, writeWhole } from '#scripts/support/files.mjs';
import { describeHolder, type HeldLock, withLock } from '#scripts/support/lock.mjs';
import { makeDirectory } from '#scripts/support/make-directory.mjs';
import { shown } from '../schema.js';
import { readJsonFile, TextFileError } from '../text-file.js';
import { RunDirectoryError, RunRecordError } from './errors.js';
import { readRunRecord } from './read-record.js';
import type { EpochRecord, RunConfig, RunRecord, RunResult } from './record.js';

const LOCK_FILE = 'run.lock';
/** Is there while a finished run is being made in one go: nothing beside it is anybody's yet. */
const UNFINISHED_FILE = '.layerwise-unfinished';

/** A file that was being written when its process died, as `writeWhole` names it. */
const isPartial = (entry: string): boolean => /\.[0-9a-f]{8}\.partial$/.test(entry);

/** What a process that died can leave before its first file. */
const isLeftover = (entry: string): boolean => entry.startsWith(LOCK_FILE) || isPartial(entry);

/** The directory that holds a run: its recipe, its metrics, its checkpoint, its result. */
export class RunDirectory {
  #lock: HeldLock | null = null;
  readonly #isNew: boolean;

  private constructor(
    readonly path: string,
    { isNew }: { isNew: boolean },
  ) {
    this.#isNew = isNew;
  }

  /** Makes a new one. Throws RunDirectoryError where the directory exists and is not empty. */
  static async create(path: string): Promise<RunDirectory> {
    requirePath(path);
    await makeDirectory(path);
    await requireEmpty(path);
    return new RunDirectory(path, { isNew: true });
  }

  /** Makes a new one of this name; where there is one already, of this name with a number. */
  static async createNumbered(path: string): Promise<RunDirectory> {
    await makeDirectory(dirname(path));
    for (let number = 1; ; number++) {
      const numbered = number === 1 ? path : `${path}-${number}`;
      try {
        await mkdir(numbered);
        return new RunDirectory(numbered, { isNew: true });
      } catch (error) {
        // Another process was faster.
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw asWriteError(numbered, error, 'made');
      }
    }
  }

  /**
   * Makes a finished run in one go. Where `fill` fails, or the process ends in its middle, what it wrote does not count: the
   * same can be tried again. Throws as `create` and `hold` do.
   */
  static async fill<T>(path: string, fill: (directory: RunDirectory) => Promise<T>): Promise<T> {
    const directory = await RunDirectory.create(path);
    return directory.hold(async () => {
      try {
        await directory.#write(UNFINISHED_FILE, '');
        const filled = await fill(directory);
        directory.requireHeld();
        await rm(join(path, UNFINISHED_FILE));
        return filled;
      } catch (error) {
        directory.requireHeld();
        await clear(path);
        throw error;
      }
    });
  }

  /** Opens an existing one. Throws RunDirectoryError where there is no run. */
  static open(path: string): RunDirectory {
    requirePath(path);
    if (!existsSync(join(path, 'config.json'))) {
      throw new RunDirectoryError(`${path}: expected a run directory, but there is no config.json in it`);
    }
    return new RunDirectory(path, { isNew: false });
  }

  /**
   * Runs `work` while nobody else writes to this run. Throws RunDirectoryError, at once, where another process (or another
   * worker of this one) does. The lock of one that is gone is taken over: at once on this machine, after 15 seconds
   * without a heartbeat where it cannot be seen from here. Throws the signal's reason where that stops the waiting.
   */
  hold<T>(work: () => Promise<T>, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<T> {
    const file = join(this.path, LOCK_FILE);
    const hold = async (lock: HeldLock): Promise<T> => {
      // Another process may have been here since `create` looked.
      if (this.#isNew) {
        await requireEmpty(this.path);
        await clear(this.path);
      } else {
        requireFinished(this.path);
        await removePartials(this.path);
      }
      this.#lock = lock;
      try {
        return await work();
      } finally {
        this.#lock = null;
      }
    };
    return withLock(file, hold, {
      signal,
      onWait: (holder) => {
        throw new RunDirectoryError(
          `${this.path}: another program is at work on this run (${describeHolder(holder)}): wait for it, ` +
            `or remove ${file} if you are sure that it has ended`,
        );
      },
    });
  }

  /** Throws LockLostError where another has taken over this run in the meantime. To be asked before anything is written. */
  readonly requireHeld = (): void => this.#lock?.requireHeld();

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
    await this.#write('config.json', `${JSON.stringify(config, null, 2)}\n`);
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
    await this.#write('metrics.jsonl', records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  }

  async appendMetrics(record: EpochRecord): Promise<void> {
    const file = join(this.path, 'metrics.jsonl');
    this.requireHeld();
    await appendFile(file, `${JSON.stringify(record)}\n`).catch((error: unknown) => {
      throw asWriteError(file, error);
    });
  }

  /** The records before a position; what was written after it (by a run that was killed) is taken out of the file. */
  async rewindMetrics(before: { layer: number; epoch: number }): Promise<EpochRecord[]> {
    const { epochs, incompleteLine } = await this.readRecord();
    const earlier = epochs.filter(
      (e) => e.layer < before.layer || (e.layer === before.layer && e.epoch < before.epoch),
    );
    // Also where only the end of the last line is missing, to which the next record would be joined.
    if (epochs.length > 0 || incompleteLine !== undefined) await this.writeMetrics(earlier);
    return earlier;
  }

  async writeResult(result: RunResult): Promise<void> {
    await this.#write('result.json', `${JSON.stringify(result, null, 2)}\n`);
  }

  async #write(name: string, text: string): Promise<void> {
    this.requireHeld();
    await writeWhole(join(this.path, name), text);
  }
}

/** Callers may come without types; an empty path would be that of the working directory. */
function requirePath(path: unknown): asserts path is string {
  if (typeof path === 'string' && path !== '') return;
  throw new RunDirectoryError(`expected the path of a run directory, got ${shown(path)}`);
}

/** A run that was not made to its end does not count. */
async function requireEmpty(path: string): Promise<void> {
  const entries = (await readdir(path)).filter((entry) => !isLeftover(entry));
  if (entries.includes(UNFINISHED_FILE)) return;
  if (entries.includes('config.json')) {
    throw new RunDirectoryError(`${path} already holds a run: go on with --resume ${path}, or give another --out`);
  }
  if (entries.length > 0) {
    throw new RunDirectoryError(
      `${path}: expected an empty or new directory for --out, got one with ${entries[0]} in it`,
    );
  }
}

function requireFinished(path: string): void {
  if (!existsSync(join(path, UNFINISHED_FILE))) return;
  throw new RunDirectoryError(`${path}: the command that makes this run has not come to its end: give it again`);
}

/** Removes all but the lock; what says that the rest does not count goes last. */
async function clear(path: string): Promise<void> {
  const entries = (await readdir(path)).filter((entry) => !entry.startsWith(LOCK_FILE) && entry !== UNFINISHED_FILE);
  for (const entry of [...entries, UNFINISHED_FILE]) await rm(join(path, entry), { recursive: true, force: true });
}

async function removePartials(path: string): Promise<void> {
  const entries = await readdir(path);
  for (const entry of entries.filter(isPartial)) await rm(join(path, entry), { force: true });
}

/** Reads a JSON file; throws RunDirectoryError, naming it and the position in it, when it is not there or not JSON. */
export async function readJson(file: string): Promise<unknown> {
  try {
    return await readJsonFile(file);
  } catch (error) {
    if (!(error instanceof TextFileError)) throw error;
    const { problem, position } = error;
    const where = position === null ? '' : `line ${position.line}, column ${position.column}: `;
    throw new RunDirectoryError(`${file}: ${where}${problem}`, { cause: error });
  }
}
