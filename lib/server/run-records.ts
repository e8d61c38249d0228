import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RECORD_FILES, type RunRecord, readRunRecord } from '../run/index.js';
import { outlineOf, type RunOutline } from './run-view.js';

/** Of records together, as text; in memory they are some times as large. One alone may be larger. */
const MOST_BYTES = 16 * 2 ** 20;

/** An outline takes some hundred bytes. */
const MOST_OUTLINES = 10_000;

/** The files of a record as they lie on disk. */
interface Stamp {
  /** Is another where one of them is. */
  readonly text: string;
  readonly bytes: number;
}

interface KeptRecord {
  readonly stamp: Stamp;
  readonly record: Promise<RunRecord>;
}

/** The records of run directories, which are read again when a file of theirs has changed. Whoever asks must not change them. */
export class RunRecords {
  /** By directory, as below; the one that was asked for last comes last. */
  readonly #records = new Map<string, KeptRecord>();
  readonly #outlines = new Map<string, { readonly stamp: Stamp; readonly outline: RunOutline }>();
  #bytes = 0;
  /** One after another, since the text and the record of a large run lie in memory together. */
  #last: Promise<unknown> = Promise.resolve();

  /** Throws RunRecordError. */
  async record(directory: string): Promise<RunRecord> {
    return this.#recordAt(directory, await stampOf(directory));
  }

  /** What a list tells of a run. Throws RunRecordError. */
  async outline(directory: string): Promise<RunOutline> {
    const stamp = await stampOf(directory);
    const kept = this.#outlines.get(directory);
    const outline = kept?.stamp.text === stamp.text ? kept.outline : outlineOf(await this.#recordAt(directory, stamp));
    this.#outlines.delete(directory);
    this.#outlines.set(directory, { stamp, outline });
    if (this.#outlines.size > MOST_OUTLINES) this.#outlines.delete(oldestOf(this.#outlines));
    return outline;
  }

  #recordAt(directory: string, stamp: Stamp): Promise<RunRecord> {
    const kept = this.#records.get(directory);
    const record = kept?.stamp.text === stamp.text ? kept.record : this.#read(directory);
    this.#drop(directory);
    this.#records.set(directory, { stamp, record });
    this.#bytes += stamp.bytes;
    while (this.#bytes > MOST_BYTES && this.#records.size > 1) this.#drop(oldestOf(this.#records));
    return record;
  }

  #read(directory: string): Promise<RunRecord> {
    const record = this.#last.then(() => readRunRecord(directory));
    this.#last = record.catch(() => {
      if (this.#records.get(directory)?.record === record) this.#drop(directory);
    });
    return record;
  }

  #drop(directory: string): void {
    this.#bytes -= this.#records.get(directory)?.stamp.bytes ?? 0;
    this.#records.delete(directory);
  }
}

async function stampOf(directory: string): Promise<Stamp> {
  const stats = await Promise.all(RECORD_FILES.map((name) => stat(join(directory, name)).catch(() => null)));
  return {
    text: stats.map((one) => (one === null ? 'none' : `${one.mtimeMs}:${one.size}:${one.ino}`)).join(' '),
    bytes: stats.reduce((sum, one) => sum + (one?.size ?? 0), 0),
  };
}

const oldestOf = (map: ReadonlyMap<string, unknown>): string => map.keys().next().value!;
