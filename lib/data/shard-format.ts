// The files of prepared data: `index.json`, and of each shard the archive and the index of its images.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { describeIssue, shown, upTo } from '../schema.js';
import { isUrl } from './data-location.js';
import { DataError } from './errors.js';

const FORMAT = 'layerwise image shards';
const VERSION = 1;

/** Tells of all shards; written last. */
export const SET_FILE = 'index.json';
/** What a set is being prepared with; there until `SET_FILE` is. */
export const UNFINISHED_FILE = 'unfinished.json';

export const PARTS = ['train', 'test'] as const;
export type PartName = (typeof PARTS)[number];

/** "train-000012" */
export const shardName = (part: PartName, number: number): string => `${part}-${String(number).padStart(6, '0')}`;
export const tarName = (shard: string): string => `${shard}.tar`;
export const columnsName = (shard: string): string => `${shard}.json`;

/** A tar archive of images: 8 GiB an image at most, and positions that a number holds. */
const bytes = z.int().min(1024).max(Number.MAX_SAFE_INTEGER);
const digest = z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 in hexadecimal');
/** Of an image within a part. */
const counts = upTo(0x7fffffff);

const settings = {
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  side: counts,
  quality: upTo(100),
  shardImages: counts,
};

const shardSchema = z.object({
  /** Of the archive. */
  file: z.string(),
  bytes,
  sha256: digest,
  count: counts,
  /** SHA-256 of the index of its images. */
  indexSha256: digest,
});
export type ShardRecord = z.infer<typeof shardSchema>;

const partSchema = z.object({
  count: counts,
  folders: z.array(z.string()),
  shards: z.array(shardSchema),
});

const settingsSchema = z.object(settings);
/** What data are prepared with. */
export type ShardSettings = z.infer<typeof settingsSchema>;

const setSchema = z.object({ ...settings, classes: z.array(z.string()).min(1), train: partSchema, test: partSchema });
/** `index.json`. */
export type ShardSet = z.infer<typeof setSchema>;

export const newSettings = (chosen: Pick<ShardSettings, 'side' | 'quality' | 'shardImages'>): ShardSettings => ({
  format: FORMAT,
  version: VERSION,
  ...chosen,
});

/** The index of a shard's images, in the order in which they lie there. */
export interface ShardColumns {
  /** Of the archive. */
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  /** Digest of what the images were made of. */
  readonly source: string;
  /** Images, by their index in the part, whose own file could not be used. */
  readonly bad: readonly number[];
  /** Of each image: its index in the part, its label, where it begins and its bytes, their CRC-32, and the name of its file. */
  readonly indices: readonly number[];
  readonly labels: readonly number[];
  readonly offsets: readonly number[];
  readonly lengths: readonly number[];
  readonly checksums: readonly number[];
  readonly names: readonly string[];
}

/** Whether a folder without image folders holds shards, or those that are not finished; of an address it is taken for granted. */
export async function holdsShards(location: string): Promise<boolean> {
  if (isUrl(location)) return true;
  const exists = (name: string): Promise<boolean> =>
    stat(join(location, name)).then(
      () => true,
      () => false,
    );
  for (const folder of ['train', 'val', 'test']) if (await exists(folder)) return false;
  return (await exists(SET_FILE)) || (await exists(UNFINISHED_FILE));
}

const corrupt = (path: string, problem: string): DataError =>
  new DataError('DATA_CORRUPT', `${path}: ${problem}`, { path });

/** Throws `DataError`: DATA_CORRUPT for what is no such file, DATA_UNSUPPORTED for one of another version. */
export function parseSettings(text: string, path: string): ShardSettings {
  return parsed(settingsSchema, text, path);
}

/** As `parseSettings`. Throws also where the parts do not fit the classes or a name leads out of the folder. */
export function parseSet(text: string, path: string): ShardSet {
  const set = parsed(setSchema, text, path);
  const { classes } = set;
  if (new Set(classes).size < classes.length) throw corrupt(path, 'classes: expected each name once');
  for (const part of PARTS) {
    const { folders, shards, count } = set[part];
    if (folders.length !== classes.length) {
      throw corrupt(path, `${part}.folders: expected ${classes.length}, one a class, got ${folders.length}`);
    }
    const odd = folders.find((folder) => folder !== '.' && !isFileName(folder));
    if (odd !== undefined) throw corrupt(path, `${part}.folders: expected names of folders, got ${shown(odd)}`);
    for (const [number, { file }] of shards.entries()) {
      const expected = tarName(shardName(part, number));
      if (file === expected) continue;
      throw corrupt(path, `${part}.shards.${number}.file: expected ${expected}, got ${shown(file)}`);
    }
    const sum = shards.reduce((total, shard) => total + shard.count, 0);
    if (sum !== count) throw corrupt(path, `${part}.count: expected ${sum}, as its shards hold, got ${count}`);
  }
  return set;
}

/** A name in a folder, which leads nowhere else. */
const isFileName = (name: unknown): name is string =>
  typeof name === 'string' && name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);

function parsed<T>(schema: z.ZodType<T>, text: string, path: string): T {
  const value = asObject(text, path);
  const { format, version } = value;
  if (format !== FORMAT) throw corrupt(path, `format: expected ${shown(FORMAT)}, got ${shown(format)}`);
  if (version !== VERSION) {
    throw new DataError(
      'DATA_UNSUPPORTED',
      `${path}: version: expected ${VERSION}, got ${shown(version)}: take the release that wrote it, or prepare the data anew`,
      { path },
    );
  }
  const { data, error } = schema.safeParse(value);
  if (error !== undefined) throw corrupt(path, describeIssue(error.issues[0]!, value));
  return data;
}

function asObject(text: string, path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    throw corrupt(path, `is no JSON: ${(error as Error).message}`);
  }
  throw corrupt(path, 'expected a JSON object');
}

/** What a shard's index must fit. */
export interface ColumnLimits {
  /** Of the data set. */
  readonly classes: number;
  /** Images of the part. */
  readonly total: number;
}

const HEADER_BYTES = 512;
const MOST_CRC = 2 ** 32 - 1;
const headSchema = z.object({
  file: z.string(),
  bytes,
  sha256: digest,
  source: digest,
  bad: z.array(z.int().min(0)),
});

const ANY: ColumnLimits = { classes: 0x80000000, total: 0x80000000 };

/** Throws `DataError` (DATA_CORRUPT) that names the value which is not what it must be. */
export function parseColumns(text: string, path: string, { classes, total } = ANY): ShardColumns {
  const value = asObject(text, path);
  const { data: head, error } = headSchema.safeParse(value);
  if (error !== undefined) throw corrupt(path, describeIssue(error.issues[0]!, value));
  const count = Array.isArray(value.names) ? value.names.length : 0;
  const column = <T>(name: string, expected: string, isRight: (one: unknown, at: number) => one is T): T[] => {
    const values = value[name];
    if (!Array.isArray(values) || values.length !== count || count === 0) {
      const got = Array.isArray(values) ? String(values.length) : shown(values);
      throw corrupt(path, `${name}: expected a list with one value an image, ${count || 'from 1 on'}, got ${got}`);
    }
    const wrong = values.findIndex((one, at) => !isRight(one, at));
    if (wrong < 0) return values;
    throw corrupt(path, `${name}.${wrong}: expected ${expected}, got ${shown(values[wrong])}`);
  };
  const upToMost = (most: number, least = 0) => {
    return (one: unknown): one is number => Number.isSafeInteger(one) && Number(one) >= least && Number(one) <= most;
  };
  const lengths = column('lengths', 'bytes from 1 on', upToMost(head.bytes, 1));
  let end = 0;
  const follows = (one: unknown, at: number): one is number => {
    const isRight = Number.isSafeInteger(one) && Number(one) >= end + HEADER_BYTES;
    end = Number(one) + lengths[at]!;
    return isRight && end <= head.bytes;
  };
  return {
    ...head,
    lengths,
    offsets: column('offsets', `the place of an image, behind those before it, in ${head.bytes} bytes`, follows),
    indices: column('indices', `0 to ${total - 1}`, upToMost(total - 1)),
    labels: column('labels', `0 to ${classes - 1}`, upToMost(classes - 1)),
    checksums: column('checksums', 'a CRC-32', upToMost(MOST_CRC)),
    names: column('names', 'the name of a file', isFileName),
  };
}
