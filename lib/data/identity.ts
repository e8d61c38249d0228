// The identity of a data set: small enough for a run's record, and by class, so that a change can be named. It is taken of the
// names and sizes of image files, which need not be opened, and are told by an index where they are packed; of the pixels of other images; of the values of vectors; and of the
// labels alone of a source.
import { createHash, type Hash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { serveEventLoop } from './event-loop.js';
import {
  type Dataset,
  type DatasetPart,
  type ImageFiles,
  type LabelledImages,
  type LabelledVectors,
  type ListedImages,
  pathOf,
  type StoredImages,
} from './labelled-images.js';
import { isImageFiles } from './open-images.js';
import { forEachIndex } from './parallel.js';
import { chunksOf, imageLengthOf } from './stored-images.js';

/**
 * Which images one part of a data set is made of: their number, a digest of all, and short digests by class, of names and
 * sizes of files or of pixels in memory.
 */
export interface PartIdentity {
  /** Images, after the limit. */
  readonly count: number;
  /** SHA-256 of all that counts, in hexadecimal. */
  readonly digest: string;
  /** Of each class, by label; digests are the first 12 hexadecimal digits. */
  readonly images: readonly number[];
  /** Of image files: digests of their names and of their sizes. */
  readonly names?: readonly string[];
  readonly sizes?: readonly string[];
  /** Of images in memory: digests of their pixels. */
  readonly pixels?: readonly string[];
  /** Of vectors: digests of their values. */
  readonly values?: readonly string[];
}

/** Which images a data set is made of, as digests of its two parts. */
export interface DataIdentity {
  readonly train: PartIdentity;
  readonly test: PartIdentity;
}

interface IdentifyOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads the size of every image file, or all pixels in memory; the event loop is served in between. Throws `DataError`
 * (DATA_CANCELLED) on `signal`.
 */
export async function identifyDataset(
  { classes, train, test }: Dataset,
  options: IdentifyOptions = {},
): Promise<DataIdentity> {
  return {
    train: await identifyPart(train, classes.length, options),
    test: await identifyPart(test, classes.length, options),
  };
}

/** The same of one part; `classes` is how many the data set has. */
export function identifyPart(
  part: DatasetPart,
  classes: number,
  { signal }: IdentifyOptions = {},
): Promise<PartIdentity> {
  return isImageFiles(part) ? identifyFiles(part, classes, signal) : identifyValues(part, classes, signal);
}

/** The classes, by label, whose images have changed, and how. */
export interface PartChanges {
  readonly missing: readonly { label: number; images: number }[];
  readonly added: readonly { label: number; images: number }[];
  /** As many images, under other names. */
  readonly renamed: readonly number[];
  /** As many images under the same names, with other sizes or pixels. */
  readonly changed: readonly number[];
  /** The images of each class are the same, in another order. */
  readonly reordered: boolean;
}

/** How a part of a data set has changed; null where it has not. */
export function compareParts(before: PartIdentity, after: PartIdentity): PartChanges | null {
  if (before.digest === after.digest) return null;
  const labels = [...before.images.keys()];
  const more = (from: PartIdentity, to: PartIdentity) =>
    labels
      .map((label) => ({ label, images: (to.images[label] ?? 0) - from.images[label]! }))
      .filter(({ images }) => images > 0);
  const [missing, added] = [more(after, before), more(before, after)];
  const same = labels.filter((label) => before.images[label] === after.images[label]);
  const differs = (what: 'names' | 'sizes' | 'pixels' | 'values') => (label: number) =>
    before[what]?.[label] !== after[what]?.[label];
  const renamed = same.filter(differs('names'));
  const changed = same.filter(
    (label) =>
      !renamed.includes(label) && (['sizes', 'pixels', 'values'] as const).some((what) => differs(what)(label)),
  );
  const reordered = missing.length + added.length + renamed.length + changed.length === 0;
  return { missing, added, renamed, changed, reordered };
}

/** The event loop is served each time so many names are done: every few milliseconds. */
const NAMES_AT_A_TIME = 4096;

async function identifyFiles(
  files: ImageFiles,
  classes: number,
  signal: AbortSignal | undefined,
): Promise<PartIdentity> {
  const { count, labels, names: fileNames } = files;
  const sizes = await sizesOf(files, signal);
  const names = newHashes(classes);
  const bytes = newHashes(classes);
  for (let i = 0; i < count; i++) {
    const label = labels[i]!;
    names[label]!.update(`${fileNames[i]}\0`);
    bytes[label]!.update(`${sizes[i]}\0`);
    if (i % NAMES_AT_A_TIME === 0) await serveEventLoop(signal);
  }
  return summarise(files, classes, { names, sizes: bytes });
}

/** Mostly waiting, above all for a disk on a network. */
const SIZES_AT_ONCE = 64;

/** In bytes; -1 for a file that is gone, whose reader will name it. */
export async function sizesOf(files: ListedImages, signal: AbortSignal | undefined): Promise<Float64Array> {
  if (files.packed !== undefined) return files.packed.lengths;
  const sizes = new Float64Array(files.count);
  await forEachIndex(
    files.count,
    async (index) => {
      const found = await stat(pathOf(files, index)).catch(() => null);
      sizes[index] = found?.size ?? -1;
    },
    { signal, atOnce: SIZES_AT_ONCE },
  );
  return sizes;
}

/** Bytes of pixels and values likewise. */
const BYTES_AT_A_TIME = 2 ** 24;

async function identifyValues(
  part: Exclude<DatasetPart, ImageFiles>,
  classes: number,
  signal: AbortSignal | undefined,
): Promise<PartIdentity> {
  const { labels } = part;
  // To go through a source may cost as much as an epoch, so only its labels count.
  if ('source' in part) return summarise(part, classes, {});
  const length = bytesOfOne(part);
  const hashes = newHashes(classes);
  for await (const { first, bytes: some } of 'file' in part ? chunksOf(part) : chunksInMemory(part)) {
    await serveEventLoop(signal);
    for (let start = 0; start < some.length; start += length) {
      hashes[labels[first + start / length]!]!.update(some.subarray(start, start + length));
    }
  }
  return summarise(part, classes, 'vectors' in part ? { values: hashes } : { pixels: hashes });
}

const bytesOfOne = (part: LabelledImages | LabelledVectors | StoredImages): number =>
  'vectors' in part ? part.vectorLength * part.vectors.BYTES_PER_ELEMENT : imageLengthOf(part);

function* chunksInMemory(part: LabelledImages | LabelledVectors): Generator<{ first: number; bytes: Uint8Array }> {
  const length = bytesOfOne(part);
  const all =
    'images' in part
      ? part.images
      : new Uint8Array(part.vectors.buffer, part.vectors.byteOffset, part.vectors.byteLength);
  const atATime = Math.max(1, Math.floor(BYTES_AT_A_TIME / length));
  for (let first = 0; first < part.count; first += atATime) {
    yield { first, bytes: all.subarray(first * length, Math.min(first + atATime, part.count) * length) };
  }
}

const newHashes = (count: number): Hash[] => Array.from({ length: count }, () => createHash('sha256'));

const SHORT = 12;

function summarise(
  { count, labels }: DatasetPart,
  classes: number,
  hashes: { names?: Hash[]; sizes?: Hash[]; pixels?: Hash[]; values?: Hash[] },
): PartIdentity {
  const images = new Array<number>(classes).fill(0);
  for (const label of labels) images[label]!++;
  // The order in which the classes take turns.
  const whole = createHash('sha256').update(Int32Array.from(labels));
  const short: Record<string, string[]> = {};
  for (const [what, ofClasses] of Object.entries(hashes)) {
    const digests = ofClasses.map((hash) => hash.digest('hex'));
    whole.update(what).update(digests.join());
    short[what] = digests.map((digest) => digest.slice(0, SHORT));
  }
  return { count, digest: whole.digest('hex'), images, ...short };
}
