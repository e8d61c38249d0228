// The jobs of a queue that are not over, on disk, so that they outlive the process.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { writeWhole } from '#scripts/support/files.mjs';
import { describeHolder, type HeldLock, type LockHolder, withLock } from '#scripts/support/lock.mjs';
import { makeDirectory } from '#scripts/support/make-directory.mjs';
import { describeIssue, shown } from '../schema.js';
import { readJsonFile } from '../text-file.js';
import { TrainingJobError } from './errors.js';
import type { JobInput } from './messages.js';

const FILE = 'queue.json';
const LOCK_FILE = 'queue.lock';

/** A job as it is kept. */
export interface JobRecord {
  readonly id: string;
  readonly priority: number;
  readonly isPaused: boolean;
  readonly input: JobInput;
}

/** Looked at by the trainer, as if the job were new. */
const options = z.looseObject({ code: z.record(z.string(), z.string()) });

const input = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('train'),
    recipe: z.looseObject({}),
    out: z.string(),
    startFrom: z.looseObject({}).optional(),
    options,
  }),
  z.strictObject({ kind: z.literal('resume'), runDirectory: z.string(), options }),
]);

const schema = z.strictObject({
  package: z.literal('layerwise'),
  formatVersion: z.literal(1),
  jobs: z.array(z.strictObject({ id: z.string(), priority: z.number(), isPaused: z.boolean(), input })),
});

/** The journal of a folder of runs, which one queue holds at a time. */
export class JobJournal {
  readonly #file: string;
  readonly #lock: HeldLock;
  readonly #records: Map<string, JobRecord>;
  readonly #release: () => Promise<void>;
  #lastWrite: Promise<void> = Promise.resolve();
  #nextWrite: Promise<void> | null = null;

  private constructor(file: string, lock: HeldLock, records: readonly JobRecord[], release: () => Promise<void>) {
    this.#file = file;
    this.#lock = lock;
    this.#records = new Map(records.map((record) => [record.id, record]));
    this.#release = release;
  }

  /**
   * Makes the folder where there is none. Throws TrainingJobError with code QUEUE_HELD where another queue has it, and with code
   * QUEUE_FILE where its file is damaged.
   */
  static async open(folder: string): Promise<JobJournal> {
    await makeDirectory(folder);
    const file = join(folder, FILE);
    let close = (): void => {};
    const closed = new Promise<void>((resolve) => {
      close = resolve;
    });
    return new Promise((resolve, reject) => {
      const release = async (): Promise<void> => {
        close();
        await held;
      };
      const hold = async (lock: HeldLock): Promise<void> => {
        resolve(new JobJournal(file, lock, await readRecords(file), release));
        await closed;
      };
      const onWait = (holder: LockHolder): never => {
        const problem = `${folder}: another queue has this folder (${describeHolder(holder)}): close it first`;
        throw new TrainingJobError('QUEUE_HELD', problem);
      };
      const held = withLock(join(folder, LOCK_FILE), hold, { onWait });
      held.catch(reject);
    });
  }

  get records(): readonly JobRecord[] {
    return [...this.#records.values()];
  }

  /**
   * Resolves when the record is on the disk. Throws TrainingJobError for what JSON cannot hold, such as Infinity; WriteError, and
   * LockLostError where another has taken over the folder: the record is then as it was.
   */
  async put(record: JobRecord): Promise<void> {
    requireJson(record.input.options, 'options');
    if (record.input.kind === 'train') requireJson(record.input.startFrom, 'startFrom');
    const before = this.#records.get(record.id);
    this.#records.set(record.id, record);
    await this.#writeOr(() => {
      if (before === undefined) this.#records.delete(record.id);
      else this.#records.set(record.id, before);
    });
  }

  /** Notes whether a job that there is waits for someone to go on with it. Throws as `put` does. */
  async putPaused(id: string, isPaused: boolean): Promise<void> {
    const record = this.#records.get(id);
    if (record !== undefined && record.isPaused !== isPaused) await this.put({ ...record, isPaused });
  }

  /** Throws as `put` does. */
  async delete(id: string): Promise<void> {
    const before = this.#records.get(id);
    if (before === undefined) return;
    this.#records.delete(id);
    await this.#writeOr(() => this.#records.set(id, before));
  }

  /** Waits for what is being written, and lets go of the folder. */
  async close(): Promise<void> {
    await this.#lastWrite.catch(() => {});
    await this.#release();
  }

  async #writeOr(takeBack: () => void): Promise<void> {
    try {
      await this.#write();
    } catch (error) {
      takeBack();
      throw error;
    }
  }

  /** One write at a time; what changes during one goes into the next. */
  #write(): Promise<void> {
    this.#nextWrite ??= this.#lastWrite
      .catch(() => {})
      .then(() => {
        this.#nextWrite = null;
        this.#lock.requireHeld();
        const text = { package: 'layerwise', formatVersion: 1, jobs: this.records };
        return writeWhole(this.#file, `${JSON.stringify(text, null, 2)}\n`);
      });
    this.#lastWrite = this.#nextWrite;
    return this.#lastWrite;
  }
}

async function readRecords(file: string): Promise<readonly JobRecord[]> {
  if (!existsSync(file)) return [];
  const value = await readJsonFile(file).catch((cause: Error) => {
    throw new TrainingJobError('QUEUE_FILE', cause.message, { cause });
  });
  const { success, data, error } = schema.safeParse(value);
  if (success) return data.jobs as readonly JobRecord[];
  throw new TrainingJobError('QUEUE_FILE', `${file}: ${describeIssue(error.issues[0]!, value)}`);
}

/** JSON would silently make something else of it. */
function requireJson(value: unknown, name: string): void {
  if (Array.isArray(value) || Object.prototype.toString.call(value) === '[object Object]') {
    for (const [key, part] of Object.entries(value as object)) requireJson(part, `${name}.${key}`);
  } else if (!['string', 'boolean', 'undefined'].includes(typeof value) && value !== null && !Number.isFinite(value)) {
    throw new TrainingJobError(
      'INVALID_ARGUMENT',
      `${name}: expected a value of JSON, which is kept, got ${shown(value)}`,
    );
  }
}
