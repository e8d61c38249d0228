// The images of prepared data, as their indices tell of them: from disk, or from a web server.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { shown } from '../format.js';
import type { CheckFilesOptions } from './check-files.js';
import type { ClassFolderSurvey, ListedClassFolders } from './class-folders.js';
import { fileIn, isUrl, requirePlainUrl } from './data-location.js';
import { DataError, throwIfCancelled } from './errors.js';
import { fileSystemError } from './file-errors.js';
import type { ListedImages } from './labelled-images.js';
import { forEachIndex } from './parallel.js';
import type { SelectionOptions } from './reading-options.js';
import {
  columnsName,
  PARTS,
  type PartName,
  parseColumns,
  parseSet,
  SET_FILE,
  type ShardColumns,
  type ShardSet,
  shardName,
  UNFINISHED_FILE,
} from './shard-format.js';
import { fetchFile } from './web-files.js';

export interface ListShardsOptions extends SelectionOptions {
  /** A folder, or the address of one. */
  readonly dataDir: string;
}

/** For `index.json`, whose address may be mistyped: nobody should wait long to hear of it. */
const FIRST_TRIES = 3;
/** Indices that are read at once. */
const INDICES_AT_ONCE = 16;

/**
 * Lists the images of prepared data in the order that they had in their folders. Of the archives only the sizes are looked at, and
 * on a web server not those. Throws `DataError` for what is missing, not finished, or not as the indices tell.
 */
export async function listShards(options: ListShardsOptions): Promise<ListedClassFolders> {
  const { dataDir, trainLimit, testLimit, testOnly = false, signal } = options;
  if (isUrl(dataDir)) requirePlainUrl(dataDir);
  const set = await readSet(dataDir, signal);
  const { classes } = set;
  const list = (part: PartName, limit: number | undefined): Promise<ListedImages> =>
    listPart(dataDir, set, part, { limit, signal });
  return {
    classes,
    train: testOnly ? nothingOf(dataDir, set.train.folders) : await list('train', trainLimit),
    test: await list('test', testLimit),
  };
}

export interface SurveyShardsOptions extends Pick<ListShardsOptions, 'dataDir' | 'signal'> {
  readonly onProgress?: CheckFilesOptions['onProgress'];
}

/**
 * The same for a check, which compares the digests of archives on disk; of those on a web server each image is compared as it comes.
 * Where an archive is missing or of another size, no images are listed.
 */
export async function surveyShards(options: SurveyShardsOptions): Promise<ClassFolderSurvey> {
  const { dataDir, signal, onProgress } = options;
  if (isUrl(dataDir)) return { ...(await listShards(options)), problems: [], passedOver: 0 };
  const set = await readSet(dataDir, signal);
  const shards = PARTS.flatMap((part) => set[part].shards);
  const problems: DataError[] = [];
  const gather = async (work: Promise<void>): Promise<void> => {
    await work.catch((error: unknown) => {
      if (!(error instanceof DataError) || error.code === 'DATA_CANCELLED') throw error;
      problems.push(error);
    });
  };
  for (const { file, bytes } of shards) await gather(requireSize(fileIn(dataDir, file), bytes));
  if (problems.length > 0) {
    const [train, test] = PARTS.map((part) => nothingOf(dataDir, set[part].folders));
    return { classes: set.classes, train: train!, test: test!, problems, passedOver: 0 };
  }
  const total = shards.reduce((sum, { count }) => sum + count, 0);
  let compared = 0;
  for (const { file, bytes, sha256, count } of shards) {
    const before = compared;
    const onRead = (read: number): void =>
      onProgress?.({ doing: 'comparing', done: before + Math.floor((count * read) / bytes), total });
    await gather(requireDigest(fileIn(dataDir, file), sha256, { signal, onRead }));
    compared += count;
  }
  return { ...(await listShards(options)), problems, passedOver: 0 };
}

interface DigestOptions {
  readonly signal: AbortSignal | undefined;
  /** Called with the bytes so far. */
  readonly onRead: (bytes: number) => void;
}

async function requireDigest(path: string, sha256: string, options: DigestOptions): Promise<void> {
  const got = await digestOf(path, options);
  if (got !== sha256) throw notAsTold(path, `expected SHA-256 ${sha256}, as ${SET_FILE} says, got ${got}`);
}

async function digestOf(path: string, { signal, onRead }: DigestOptions): Promise<string> {
  const hash = createHash('sha256');
  let read = 0;
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal }) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      read += chunk.length;
      onRead(read);
    }
  } catch (error) {
    throwIfCancelled(signal);
    throw fileSystemError(path, error, 'file');
  }
  return hash.digest('hex');
}

const nothingOf = (root: string, folders: readonly string[]): ListedImages => ({
  ...{ root, folders, names: [], labels: new Uint8Array(0), count: 0 },
});

async function readSet(dataDir: string, signal: AbortSignal | undefined): Promise<ShardSet> {
  const path = fileIn(dataDir, SET_FILE);
  try {
    return parseSet(asText(await readBytes(path, signal, FIRST_TRIES)), shown(path));
  } catch (error) {
    if (!(error instanceof DataError) || error.code !== 'DATA_NOT_FOUND') throw error;
    throw await whyMissing(dataDir, error);
  }
}

async function whyMissing(dataDir: string, error: DataError): Promise<DataError> {
  const options = { cause: error, path: dataDir };
  if (isUrl(dataDir)) {
    const message = `${error.message}: expected data that layerwise data prepare has finished`;
    return new DataError('DATA_NOT_FOUND', message, options);
  }
  const isBegun = await stat(fileIn(dataDir, UNFINISHED_FILE)).then(
    () => true,
    () => false,
  );
  if (!isBegun) return error;
  return new DataError(
    'DATA_CORRUPT',
    `${shown(dataDir)} is not finished: give the same layerwise data prepare again, which goes on there`,
    options,
  );
}

async function readBytes(path: string, signal: AbortSignal | undefined, tries?: number): Promise<Uint8Array> {
  throwIfCancelled(signal);
  if (isUrl(path)) return fetchFile(path, { signal, tries });
  return readFile(path).catch((error: unknown) => {
    throw fileSystemError(path, error, 'file');
  });
}

const asText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

interface PartOptions {
  readonly limit: number | undefined;
  readonly signal: AbortSignal | undefined;
}

async function listPart(
  dataDir: string,
  set: ShardSet,
  part: PartName,
  { limit = Number.POSITIVE_INFINITY, signal }: PartOptions,
): Promise<ListedImages> {
  const { classes } = set;
  const { folders, shards, count: total } = set[part];
  const images = new PackedList(classes.length, total, Math.min(limit, total));
  await forEachIndex(
    shards.length,
    async (number) => {
      const { file, bytes, count, indexSha256 } = shards[number]!;
      const path = fileIn(dataDir, columnsName(shardName(part, number)));
      if (!isUrl(dataDir)) await requireSize(fileIn(dataDir, file), bytes);
      const text = await readBytes(path, signal);
      const digest = createHash('sha256').update(text).digest('hex');
      if (digest !== indexSha256) {
        throw notAsTold(path, `expected SHA-256 ${indexSha256}, as ${SET_FILE} says, got ${digest}`);
      }
      const columns = parseColumns(asText(text), shown(path), { classes: classes.length, total });
      const isSame = columns.bytes === bytes && columns.names.length === count;
      if (!isSame) throw notAsTold(path, `expected ${count} images in ${bytes} bytes, as ${SET_FILE} says`);
      images.add(number, columns, path);
    },
    { signal, atOnce: INDICES_AT_ONCE },
  );
  const packed = { ...images.places, shards: shards.map(({ file, bytes }) => ({ name: file, bytes })) };
  return { root: dataDir, folders, names: images.names, labels: images.labels, count: images.count, packed };
}

const notAsTold = (path: string, problem: string): DataError =>
  new DataError('DATA_CORRUPT', `${shown(path)}: ${problem}`, { path });

async function requireSize(path: string, bytes: number): Promise<void> {
  const { size } = await stat(path).catch((error: unknown) => {
    throw fileSystemError(path, error, 'file');
  });
  if (size !== bytes) throw notAsTold(path, `expected ${bytes} bytes, as ${SET_FILE} says, got ${size}`);
}

/** The first images of a part, put from shards in any order. */
class PackedList {
  readonly names: string[];
  readonly labels: Uint8Array | Int32Array;
  readonly places;
  readonly #isThere: Uint8Array;

  constructor(
    classes: number,
    total: number,
    readonly count: number,
  ) {
    this.names = new Array<string>(count);
    this.labels = classes <= 256 ? new Uint8Array(count) : new Int32Array(count);
    this.places = {
      shardOf: new Int32Array(count),
      offsets: new Float64Array(count),
      lengths: new Float64Array(count),
      checksums: new Uint32Array(count),
    };
    this.#isThere = new Uint8Array(total);
  }

  /** As many images as the part has, each once, are all of them. */
  add(shard: number, columns: ShardColumns, path: string): void {
    const { indices, names, labels, offsets, lengths, checksums } = columns;
    const { places } = this;
    for (const [at, index] of indices.entries()) {
      if (this.#isThere[index] === 1)
        throw notAsTold(path, `indices.${at}: expected each image once, got ${index} again`);
      this.#isThere[index] = 1;
      if (index >= this.count) continue;
      this.names[index] = names[at]!;
      this.labels[index] = labels[at]!;
      places.shardOf[index] = shard;
      places.offsets[index] = offsets[at]!;
      places.lengths[index] = lengths[at]!;
      places.checksums[index] = checksums[at]!;
    }
  }
}
