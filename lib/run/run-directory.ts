import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { asWriteError, writeWhole } from '#scripts/support/files.mjs';
import { describeHolder, type HeldLock, holderOf, LockLostError, withLock } from '#scripts/support/lock.mjs';
import { makeDirectory } from '#scripts/support/make-directory.mjs';
import { shown } from '../schema.js';
import { readJsonFile, TextFileError } from '../text-file.js';
import { RunDirectoryError, RunRecordError } from './errors.js';
import { readRunRecord } from './read-record.js';
import type { EarlyExitRecord, EpochRecord, RunConfig, RunRecord, RunResult } from './record.js';

const CONFIG_FILE = 'config.json';
const LOCK_FILE = 'run.lock';
/** Is there while a finished run is being made in one go: the other files do not count yet. */
const UNFINISHED_FILE = '.layerwise-unfinished';

/** A file that was being written when its process died, as `writeWhole` names it. */
const isPartial = (entry: string): boolean => /\.[0-9a-f]{8}\.partial$/.test(entry);

/** Pixels that are kept while a run goes on. They may be there before its first file. */
const IMAGES_FOLDER = '.layerwise-images';

/** What a process that died can leave before its first file. */
const isLeftover = (entry: string): boolean => entry.startsWith(LOCK_FILE) || isPartial(entry);

/** Whether a folder holds nothing but pixels as a run keeps them. */
async function holdsPixelsAlone(path: string): Promise<boolean> {
  const entries = await readdir(path).catch(() => ['']);
  return entries.every((entry) => /^(train|test)\.pixels(\.[0-9a-f]{8}\.partial)?$/.test(entry));
}

/** The directory that holds a run: its recipe, its metrics, its checkpoint, its result. */
export class RunDirectory {
  #lock: HeldLock | null = null;
  /** Whether the lock was held and given back. */
  #isOver = false;
  readonly #isNew: boolean;
  /** Directories that were made for it, itself first. */
  readonly #made: readonly string[];
  /** Of a process that does not write the run, the folder of its own files; else null. */
  readonly #scratch: string | null;

  private constructor(
    readonly path: string,
    { isNew, made = [], scratch = null }: { isNew: boolean; made?: readonly string[]; scratch?: string | null },
  ) {
    this.#isNew = isNew;
    this.#made = made;
    this.#scratch = scratch;
  }

  /** Makes a new one. Throws RunDirectoryError where the directory exists and is not empty. */
  static async create(path: string): Promise<RunDirectory> {
    requirePath(path);
    const made = missing(path);
    const directory = new RunDirectory(path, { isNew: true, made });
    return directory.beginWith(async () => {
      await makeDirectory(path);
      await requireEmpty(path);
      return directory;
    });
  }

  /** Makes a new one of this name; where there is one already, of this name with a number. */
  static async createNumbered(path: string): Promise<RunDirectory> {
    const above = missing(dirname(path));
    await makeDirectory(dirname(path));
    for (let number = 1; ; number++) {
      const numbered = number === 1 ? path : `${path}-${number}`;
      try {
        await mkdir(numbered);
        return new RunDirectory(numbered, { isNew: true, made: [numbered, ...above] });
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

  /**
   * Does all the work of a new run. Where it fails before there is a `config.json`, the directory, and those above it that were
   * made for it, are gone again.
   */
  async beginWith<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!this.hasConfig) {
        // What is not empty is not only this run's.
        for (const path of this.#made) await rmdir(path).catch(() => {});
      }
      throw error;
    }
  }

  /** Whether a run has begun in a directory: its recipe is written. */
  static exists(path: string): boolean {
    return existsSync(join(path, CONFIG_FILE));
  }

  /** As `exists`, of this one. */
  get hasConfig(): boolean {
    return this.#scratch === null && RunDirectory.exists(this.path);
  }

  /** Opens an existing one. Throws RunDirectoryError where there is no run. */
  static open(path: string): RunDirectory {
    requirePath(path);
    if (!RunDirectory.exists(path)) {
      throw new RunDirectoryError(`${path}: expected a run directory, but there is no config.json in it`);
    }
    return new RunDirectory(path, { isNew: false });
  }

  /**
   * The directory for a process that trains the run together with the one that writes it: it may be on another machine, and nothing is
   * written there. Files that are needed while the run goes on lie in the folder `scratch`.
   */
  static besideWriter(path: string, scratch: string): RunDirectory {
    return new RunDirectory(path, { isNew: false, scratch });
  }

  /** Whether a run here has begun and not ended, and nobody is at work on it. */
  static isInterrupted(path: string): boolean {
    const has = (name: string): boolean => existsSync(join(path, name));
    const hasBegun = RunDirectory.exists(path) && !has('result.json') && !has(UNFINISHED_FILE);
    return hasBegun && holderOf(join(path, LOCK_FILE)) === undefined;
  }

  /**
   * Runs `work` while nobody else writes to this run. Throws RunDirectoryError, at once, where another process (or another worker
   * of this one) does. The lock of a holder that is gone is taken over: at once on this machine, and after 15 seconds without a
   * heartbeat where the holder cannot be seen from here. Throws the signal's reason where that stops the waiting.
   */
  hold<T>(work: () => Promise<T>, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<T> {
    if (this.#scratch !== null) return work();
    const file = join(this.path, LOCK_FILE);
    const hold = async (lock: HeldLock): Promise<T> => {
      // Another process may have been here since `create` looked.
      if (this.#isNew) {
        await requireEmpty(this.path);
        await clear(this.path);
      } else {
        requireFinished(this.path);
        await removePartials(this.path);
        // Of a process that was killed: nobody reads them again, and another may keep none.
        await rm(this.features, { recursive: true, force: true });
      }
      this.#lock = lock;
      this.#isOver = false;
      try {
        return await work();
      } finally {
        this.#lock = null;
        this.#isOver = true;
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

  /** Throws LockLostError where another may have taken over this run in the meantime. Call it before each write. */
  readonly requireHeld = (): void => {
    // What was begun under the lock and abandoned, as by a signal, may come here after it.
    if (this.#isOver) throw new LockLostError(join(this.path, LOCK_FILE), undefined);
    this.#lock?.requireHeld();
  };

  /** Files of features, while the run goes on. */
  get features(): string {
    return join(this.#scratch ?? this.path, 'features');
  }

  /** Pixels of data of one's own that are kept in files, while the run goes on. */
  get images(): string {
    return join(this.#scratch ?? this.path, IMAGES_FOLDER);
  }

  /** Image files that others stood in for. */
  get badImages(): string {
    return join(this.#scratch ?? this.path, 'bad-images.jsonl');
  }

  get config(): string {
    return join(this.path, CONFIG_FILE);
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
    await this.#write(CONFIG_FILE, `${JSON.stringify(config, null, 2)}\n`);
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

  async appendMetrics(...records: readonly EpochRecord[]): Promise<void> {
    if (this.#scratch !== null) return;
    const file = join(this.path, 'metrics.jsonl');
    this.requireHeld();
    const lines = records.map((record) => `${JSON.stringify(record)}\n`);
    // On the disk before a checkpoint that counts on it.
    await appendFile(file, lines.join(''), { flush: true }).catch((error: unknown) => {
      throw asWriteError(file, error);
    });
  }

  /**
   * The records before an epoch of some layers, which are trained at once; what was written after it (by a run that was killed) is
   * taken out of the file.
   */
  async rewindMetrics(before: { layers: { first: number; last: number }; epoch: number }): Promise<EpochRecord[]> {
    const { epochs, incompleteLine } = await this.readRecord();
    const { first, last } = before.layers;
    const earlier = epochs.filter(({ layer, epoch }) => layer < first || (layer <= last && epoch < before.epoch));
    // Also where only the end of the last line is missing, to which the next record would be joined.
    if (epochs.length > 0 || incompleteLine !== undefined) await this.writeMetrics(earlier);
    return earlier;
  }

  async writeResult(result: RunResult): Promise<void> {
    await this.#write('result.json', `${JSON.stringify(result, null, 2)}\n`);
  }

  /** Replaces what there is. */
  async writeEarlyExit(record: EarlyExitRecord): Promise<void> {
    await this.#write('early-exit.json', `${JSON.stringify(record, null, 2)}\n`);
  }

  async #write(name: string, text: string): Promise<void> {
    if (this.#scratch !== null) return;
    this.requireHeld();
    await writeWhole(join(this.path, name), text);
  }
}

/** A directory that is not there, and those above it that are not. */
function missing(path: string): string[] {
  return existsSync(path) || dirname(path) === path ? [] : [path, ...missing(dirname(path))];
}

/** Callers may come without types; an empty path would be that of the working directory. */
function requirePath(path: unknown): asserts path is string {
  if (typeof path === 'string' && path !== '') return;
  throw new RunDirectoryError(`expected the path of a run directory, got ${shown(path)}`);
}

/** A run that was not made to its end does not count. */
async function requireEmpty(path: string): Promise<void> {
  const hasOnlyPixels = await holdsPixelsAlone(join(path, IMAGES_FOLDER));
  const entries = (await readdir(path)).filter(
    (entry) => !isLeftover(entry) && !(entry === IMAGES_FOLDER && hasOnlyPixels),
  );
  if (entries.includes(UNFINISHED_FILE)) return;
  if (entries.includes(CONFIG_FILE)) {
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
  throw new RunDirectoryError(`${path}: the command that makes this run did not finish: give it again`);
}

/** Removes all but the lock; the mark of an unfinished run goes last. */
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
