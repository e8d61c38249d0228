// Prepared data: photographs decoded and scaled once, and packed into shards.
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { readdir, readFile, realpath, rm, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { crc32 } from 'node:zlib';
import { writeWhole } from '#scripts/support/files.mjs';
import { describeHolder, withLock } from '#scripts/support/lock.mjs';
import { makeDirectory } from '#scripts/support/make-directory.mjs';
import { shown } from '../format.js';
import { ReadableImages } from './bad-images.js';
import { isUrl } from './data-location.js';
import { Draws } from './draws.js';
import { DataError, throwIfCancelled } from './errors.js';
import { serveEventLoop } from './event-loop.js';
import { fileSystemError } from './file-errors.js';
import { sizesOf } from './identity.js';
import type { DecodeOptions } from './image-file.js';
import { placeOf, withImageBytes } from './image-place.js';
import { listImageNet } from './imagenet.js';
import type { BadImageOptions, Dataset, ImageFiles } from './labelled-images.js';
import { decodesAtOnce, inOrder } from './parallel.js';
import {
  columnsName,
  newSettings,
  PARTS,
  type PartName,
  parseColumns,
  parseSet,
  parseSettings,
  SET_FILE,
  type ShardColumns,
  type ShardRecord,
  type ShardSet,
  type ShardSettings,
  shardName,
  tarName,
  UNFINISHED_FILE,
} from './shard-format.js';
import { ShardWriter } from './shard-writer.js';
import { type SmallerJpeg, smallerJpeg } from './smaller-jpeg.js';

const LOCK_FILE = 'prepare.lock';
const MOST_PIXELS = 4096;

/** `from` has the layout that `listImageNet` takes. */
export interface PrepareImagesOptions extends DecodeOptions, BadImageOptions {
  readonly from: string;
  /** A folder that is missing, empty, or left by a call that was interrupted. */
  readonly to: string;
  /** Pixels that the shorter side of an image has at most. Default: 256. */
  readonly side?: number | undefined;
  /** Of JPEG, 1 to 100. Default: 95. */
  readonly quality?: number | undefined;
  /** Images of a shard. Default: 10,000. */
  readonly shardImages?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PrepareProgress) => void) | undefined;
}

export interface PrepareProgress {
  /** Images, those of shards that were there included. */
  readonly done: number;
  readonly total: number;
  /** That are whole. */
  readonly shards: number;
}

/** What lies in the folder now. */
export interface PreparedImages {
  readonly classes: number;
  readonly train: number;
  readonly test: number;
  readonly shards: number;
  /** Of all shards. */
  readonly bytes: number;
  /** Shards that an earlier call had written. */
  readonly shardsBefore: number;
  /** Images that others stand in for. */
  readonly badImages: number;
}

/**
 * Makes every image of a data set smaller, as `smallerJpeg` does, and packs them into shards, in an order that is drawn once and for
 * all. The same images and options give the same bytes. Shards that are whole are not made again; `index.json` comes last.
 *
 * Throws `DataError`, as `listImageNet`, `readImage` and `ReadableImages` do; DATA_ARGUMENT for options, and for a folder that holds
 * something else; WriteError where the disk takes no more; DATA_CANCELLED on `signal`.
 */
export async function prepareImages(options: PrepareImagesOptions): Promise<PreparedImages> {
  const { from, to, maxPixels, onBadImage, reportBadImage, signal } = options;
  const settings = checkedSettings(options);
  await requireOutside(from, to);
  const dataset = await listImageNet({ dataDir: from, maxPixels, onBadImage, reportBadImage, signal });
  await makeDirectory(to);
  await requireOurs(to);
  const onWait = (holder: Parameters<typeof describeHolder>[0]): never => {
    throw new DataError('DATA_ARGUMENT', `${shown(to)} is being prepared by ${describeHolder(holder)}`);
  };
  const work = (): Promise<PreparedImages> => new Preparation(dataset, settings, options).run();
  return withLock(join(to, LOCK_FILE), work, { onWait });
}

function checkedSettings({ side = 256, quality = 95, shardImages = 10_000 }: PrepareImagesOptions): ShardSettings {
  const require = (name: string, value: number, most: number): void => {
    if (Number.isInteger(value) && value >= 1 && value <= most) return;
    throw new DataError('DATA_ARGUMENT', `${name} must be an integer from 1 to ${most}, got ${value}`);
  };
  require('side', side, MOST_PIXELS);
  require('quality', quality, 100);
  require('shardImages', shardImages, 1e6);
  return newSettings({ side, quality, shardImages });
}

/** Shards among the folders of the images would be taken for a class. */
async function requireOutside(from: string, to: string): Promise<void> {
  if (isUrl(to)) throw new DataError('DATA_ARGUMENT', `to: expected a folder, got ${to}`);
  if (isUrl(from)) return;
  const way = relative(await wholePath(from), await wholePath(to));
  if (way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way)) return;
  throw new DataError('DATA_ARGUMENT', `to: expected a folder outside of ${shown(from)}, got ${shown(to)}`);
}

/** Through links, also of a folder that is not there yet. */
async function wholePath(path: string): Promise<string> {
  const above = dirname(resolve(path));
  return realpath(path).catch(async () =>
    above === resolve(path) ? above : join(await wholePath(above), basename(resolve(path))),
  );
}

const isShardFile = (name: string): boolean => /^(train|test)-\d{6,}\.(tar|json)(\.[0-9a-f]{8}\.partial)?$/.test(name);
const isSetFile = (name: string): boolean => /^(index|unfinished)\.json(\.[0-9a-f]{8}\.partial)?$/.test(name);

/** A folder with anything else in it is left alone. */
async function requireOurs(to: string): Promise<void> {
  const names = await readdir(to).catch((error: unknown) => {
    throw fileSystemError(to, error, 'folder');
  });
  const other = names.find((name) => !isShardFile(name) && !isSetFile(name) && !name.startsWith(LOCK_FILE));
  const isBegun = names.includes(UNFINISHED_FILE) || names.includes(SET_FILE);
  if (other === undefined && (isBegun || !names.some(isShardFile))) return;
  const found = other ?? names.find(isShardFile)!;
  throw new DataError(
    'DATA_ARGUMENT',
    `to: expected an empty folder, or one that an earlier call has left, got ${shown(to)}, which holds ${shown(found)}`,
  );
}

/** An image, ready to be packed. */
interface Sample extends SmallerJpeg {
  /** The image that it is, or that stands in, by its index. */
  readonly at: number;
}

/** The images of a shard to be, by index. */
interface ShardPlan {
  readonly part: PartName;
  readonly name: string;
  /** The key of its first sample. */
  readonly firstKey: number;
  readonly indices: Int32Array;
  /** Digest of what they are made of. */
  readonly source: string;
}

/** A shard that is whole. */
interface WrittenShard extends ShardRecord {
  readonly bad: readonly number[];
}

/** One call's work. */
class Preparation {
  readonly #dataset: Dataset<ImageFiles>;
  readonly #settings: ShardSettings;
  readonly #options: PrepareImagesOptions;
  readonly #to: string;
  readonly #total: number;
  #done = 0;
  #shards = 0;
  #shardsBefore = 0;
  #bad = 0;

  constructor(dataset: Dataset<ImageFiles>, settings: ShardSettings, options: PrepareImagesOptions) {
    this.#dataset = dataset;
    this.#settings = settings;
    this.#options = options;
    this.#to = options.to;
    this.#total = dataset.train.count + dataset.test.count;
  }

  async run(): Promise<PreparedImages> {
    await this.#begin();
    const { classes, train, test } = this.#dataset;
    const parts = { train: await this.#prepare('train'), test: await this.#prepare('test') };
    const set: ShardSet = {
      ...this.#settings,
      classes: [...classes],
      train: { count: train.count, folders: [...train.folders], shards: parts.train },
      test: { count: test.count, folders: [...test.folders], shards: parts.test },
    };
    await writeWhole(join(this.#to, SET_FILE), `${JSON.stringify(set, null, 2)}\n`);
    await rm(join(this.#to, UNFINISHED_FILE), { force: true });
    return {
      ...{ classes: classes.length, train: train.count, test: test.count, shards: this.#shards },
      bytes: PARTS.flatMap((part) => parts[part]).reduce((sum, { bytes }) => sum + bytes, 0),
      ...{ shardsBefore: this.#shardsBefore, badImages: this.#bad },
    };
  }

  /** Records what the shards are made with, or compares it with what those that are there were. */
  async #begin(): Promise<void> {
    const [finished, begun] = [SET_FILE, UNFINISHED_FILE].map((name) => join(this.#to, name));
    const texts = await Promise.all([readOrNull(finished!), readOrNull(begun!)]);
    const parsers = [parseSet, parseSettings] as const;
    for (const [i, path] of [finished!, begun!].entries()) {
      const text = texts[i] ?? null;
      if (text !== null) this.#requireSame(parsers[i]!(text, shown(path)), path);
    }
    if (texts.every((text) => text === null)) await writeWhole(begun!, `${JSON.stringify(this.#settings)}\n`);
    for (const name of await readdir(this.#to)) {
      // Of a call that was killed.
      if (name.endsWith('.partial')) await rm(join(this.#to, name), { force: true });
    }
  }

  #requireSame(there: ShardSettings, path: string): void {
    for (const name of ['side', 'quality', 'shardImages'] as const) {
      if (there[name] === this.#settings[name]) continue;
      throw new DataError(
        'DATA_ARGUMENT',
        `${shown(path)}: ${name}: expected ${this.#settings[name]}, got ${there[name]}: give the options of the earlier ` +
          'call, or another folder',
      );
    }
  }

  async #prepare(part: PartName): Promise<ShardRecord[]> {
    const plans = await this.#plansOf(part);
    const written: (WrittenShard | null)[] = [];
    for (const plan of plans) {
      const found = await this.#find(plan);
      written.push(found);
      if (found === null) continue;
      this.#shards++;
      this.#shardsBefore++;
      this.#done += found.count;
    }
    const known = written.flatMap((shard) => shard?.bad ?? []);
    const readable = new ReadableImages(this.#dataset[part], { advice: ADVICE, known });
    const records: ShardRecord[] = [];
    this.#tell();
    for (const [i, plan] of plans.entries()) {
      const { bad, ...record } = written[i] ?? (await this.#write(plan, readable));
      records.push(record);
      this.#bad += bad.length;
    }
    return records;
  }

  #tell(): void {
    this.#options.onProgress?.({ done: this.#done, total: this.#total, shards: this.#shards });
  }

  async #plansOf(part: PartName): Promise<ShardPlan[]> {
    const files = this.#dataset[part];
    const { shardImages } = this.#settings;
    const sizes = await sizesOf(files, this.#options.signal);
    const order = new Draws({ seed: 0 }).permutation(PARTS.indexOf(part), files.count);
    const plans: ShardPlan[] = [];
    for (let firstKey = 0; firstKey < files.count; firstKey += shardImages) {
      await serveEventLoop(this.#options.signal);
      const indices = order.subarray(firstKey, firstKey + shardImages);
      const source = digestOf(files, this.#dataset.classes, sizes, indices);
      plans.push({ part, name: shardName(part, plans.length), firstKey, indices, source });
    }
    return plans;
  }

  /** The shard of an earlier call; null where it is not whole. */
  async #find({ name, source, indices }: ShardPlan): Promise<WrittenShard | null> {
    const path = join(this.#to, columnsName(name));
    const [text, archive] = [await readOrNull(path), await stat(join(this.#to, tarName(name))).catch(() => null)];
    if (text === null) return null;
    const columns = parseColumns(text, shown(path));
    if (columns.source !== source || !isDeepStrictEqual(columns.indices, [...indices])) {
      throw new DataError(
        'DATA_ARGUMENT',
        `${shown(path)} tells of other images than ${shown(this.#options.from)} has now (their names, sizes and classes): put ` +
          'them back as they were, or give another folder',
      );
    }
    return archive?.size === columns.bytes ? recordOf(columns, text) : null;
  }

  async #write(plan: ShardPlan, readable: ReadableImages): Promise<WrittenShard> {
    const { labels, names } = this.#dataset[plan.part];
    const path = join(this.#to, tarName(plan.name));
    const samples = { offsets: [] as number[], lengths: [] as number[], checksums: [] as number[] };
    const shownAs: string[] = [];
    const bad: number[] = [];
    let archive = { bytes: 0, sha256: '' };
    // It is on the disk before its index is.
    await writeWhole(path, async (file: FileHandle) => {
      const writer = new ShardWriter(file);
      for await (const { jpeg, at } of this.#samplesOf(plan, readable)) {
        const position = samples.lengths.length;
        const index = plan.indices[position]!;
        const key = String(plan.firstKey + position).padStart(10, '0');
        samples.offsets.push(await writer.add(key, jpeg, labels[index]!));
        samples.lengths.push(jpeg.length);
        samples.checksums.push(crc32(jpeg));
        shownAs.push(names[at]!);
        if (at !== index) bad.push(index);
        this.#done++;
        this.#tell();
      }
      archive = await writer.finish();
    });
    const columns: ShardColumns = {
      ...{ file: tarName(plan.name), ...archive, source: plan.source, bad },
      indices: [...plan.indices],
      labels: Array.from(plan.indices, (index) => labels[index]!),
      ...samples,
      names: shownAs,
    };
    const text = JSON.stringify(columns);
    await writeWhole(join(this.#to, columnsName(plan.name)), text);
    this.#shards++;
    return recordOf(columns, text);
  }

  #samplesOf({ part, indices }: ShardPlan, readable: ReadableImages): AsyncGenerator<Sample> {
    const { maxPixels, signal } = this.#options;
    const { side, quality } = this.#settings;
    const files = this.#dataset[part];
    const make = (i: number): Promise<Sample> =>
      readable.read(indices[i]!, (path, at) => {
        throwIfCancelled(signal);
        const shrink = async (bytes: Uint8Array): Promise<Sample> => {
          return { ...(await smallerJpeg(path, bytes, { side, quality, maxPixels })), at };
        };
        return withImageBytes(placeOf(files, at), shrink, signal);
      });
    return inOrder(indices.length, make, { signal, atOnce: decodesAtOnce() });
  }
}

const ADVICE =
  'put a good file in its place, or skip such images (--on-bad-image skip), and give the same command again';

function recordOf({ file, bytes, sha256, names, bad }: ShardColumns, text: string): WrittenShard {
  return {
    file,
    bytes,
    sha256,
    count: names.length,
    indexSha256: createHash('sha256').update(text).digest('hex'),
    bad,
  };
}

/** Names, sizes and classes of images, in order. */
function digestOf(files: ImageFiles, classes: readonly string[], sizes: Float64Array, indices: Int32Array): string {
  const hash = createHash('sha256');
  for (const index of indices) {
    const label = files.labels[index]!;
    hash.update(`${classes[label]}\0${files.folders[label]}\0${files.names[index]}\0${sizes[index]}\0`);
  }
  return hash.digest('hex');
}

const readOrNull = (path: string): Promise<string | null> =>
  readFile(path, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fileSystemError(path, error, 'file');
  });
