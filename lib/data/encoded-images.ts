// Encoded images that come one after another, as from a database, an archive or a network: read once, decoded, and kept.
import { rm } from 'node:fs/promises';
import { writeWhole } from '#scripts/support/files.mjs';
import { unlessAborted } from '../abort.js';
import { shown } from '../schema.js';
import { isBadImage, MOST_PERCENT, nextOfClass } from './bad-images.js';
import { DataError, throwIfCancelled } from './errors.js';
import { decodeCentreOf, planar } from './image-file.js';
import type { FileShape } from './image-size.js';
import { FileStore, type ImageStore, MemoryStore } from './image-store.js';
import type { BadImageOptions, LabelledImages, StoredImages } from './labelled-images.js';
import { labelOf } from './own-labels.js';
import { decodesAtOnce } from './parallel.js';

/** A JPEG or PNG image, as a file has it, and its class by label or by name. */
export interface EncodedImage {
  readonly image: Uint8Array;
  readonly label: number | string;
}

/** Encoded images, in the order in which they are numbered. It is gone through once. */
export type EncodedImages = Iterable<EncodedImage> | AsyncIterable<EncodedImage>;

export interface ReadEncodedOptions extends BadImageOptions {
  /** Of the part, for messages: "data.train". */
  readonly name: string;
  readonly classes: readonly string[];
  readonly shape: FileShape;
  /** Pixels that the shorter side is scaled to before the centre is cut out, as in `readImage`. */
  readonly resize: number;
  readonly maxPixels?: number | undefined;
  /** Reads no more than so many. */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The file that the pixels are kept in; default: memory. */
  readonly file?: string | undefined;
}

export const isIterable = (value: unknown): value is EncodedImages =>
  typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value);

/**
 * Reads and decodes images as `readImage` does: [n, channels, height, width]. With `onBadImage: 'skip'` the next image of
 * its class, beginning again at the first, stands in for one that cannot be decoded, for at most 1 % of them.
 *
 * Throws `DataError`, naming the part and the number of the image: DATA_ARGUMENT for what is no image with a label, and for more
 * than memory holds; DATA_CORRUPT and DATA_UNSUPPORTED for an image that cannot be decoded; DATA_UNREADABLE where the
 * iterable throws; DATA_CANCELLED on `signal`.
 */
export async function readEncoded(
  images: EncodedImages,
  options: ReadEncodedOptions,
): Promise<LabelledImages | StoredImages> {
  const { shape, file, name } = options;
  const fillStore = async (store: ImageStore): Promise<Int32Array> => {
    const { labels, bad } = await decodeAll(images, store, options);
    await standIn(store, labels, bad, options);
    throwIfCancelled(options.signal);
    return Int32Array.from(labels);
  };
  if (file === undefined) {
    const store = new MemoryStore(shape, name);
    return store.finish(await fillStore(store));
  }
  // A directory of this name would be in the way.
  await rm(file, { recursive: true, force: true });
  let labels: Int32Array = new Int32Array(0);
  await writeWhole(file, async (handle) => {
    const store = new FileStore(shape, file, handle);
    labels = await fillStore(store);
    await store.finish(labels);
  });
  return { ...shape, file, labels, count: labels.length };
}

/** Labels of all images, and why some of them, by index, cannot be decoded. */
interface Decoded {
  readonly labels: readonly number[];
  readonly bad: ReadonlyMap<number, DataError>;
}

/** After a failure no further image is asked for; the first in order is thrown. */
async function decodeAll(images: EncodedImages, store: ImageStore, options: ReadEncodedOptions): Promise<Decoded> {
  const { name, shape, resize, maxPixels, limit = Number.POSITIVE_INFINITY, onBadImage, signal } = options;
  const labels: number[] = [];
  const bad = new Map<number, DataError>();
  const failures = new Map<number, unknown>();
  const underWay = new Set<Promise<void>>();
  const atOnce = decodesAtOnce();
  const decode = async (index: number, bytes: Uint8Array): Promise<void> => {
    try {
      const pixels = await decodeCentreOf(`${name}: image ${index}`, bytes, shape, resize, { maxPixels });
      await store.put(index, planar(pixels, shape));
    } catch (error) {
      if (onBadImage === 'skip' && isBadImage(error)) bad.set(index, error);
      else failures.set(index, error);
    }
  };
  try {
    for await (const one of told(images, name, signal)) {
      throwIfCancelled(signal);
      const index = labels.length;
      const { image, label } = checked(one, index, options);
      labels.push(label);
      // Its owner may use the memory for the next image.
      const decoding = decode(index, new Uint8Array(image)).finally(() => underWay.delete(decoding));
      underWay.add(decoding);
      while (underWay.size >= atOnce) await Promise.race(underWay);
      if (failures.size > 0 || labels.length >= limit) break;
    }
  } finally {
    await Promise.all(underWay);
  }
  const first = Math.min(...failures.keys());
  if (failures.has(first)) throw withAdvice(failures.get(first));
  throwIfCancelled(signal);
  if (labels.length === 0) {
    const hint = 'an iterable is gone through once: give a new one, or data as a function';
    throw new DataError('DATA_ARGUMENT', `${name}: expected at least one image, got none; ${hint}`);
  }
  return { labels, bad };
}

/**
 * The items of an iterable. An error of the iterable becomes a DataError that says so. After `signal` an item that is pending is
 * not waited for.
 */
async function* told(images: EncodedImages, name: string, signal: AbortSignal | undefined): AsyncGenerator<unknown> {
  const iterator = Symbol.asyncIterator in images ? images[Symbol.asyncIterator]() : images[Symbol.iterator]();
  let count = 0;
  let isOver = false;
  const ask = async (): Promise<IteratorResult<unknown>> => {
    try {
      return await unlessAborted(
        signal,
        () => signal?.reason,
        async () => iterator.next(),
      );
    } catch (cause) {
      isOver = true;
      if (signal?.aborted) Promise.resolve(iterator.return?.()).catch(() => {});
      throwIfCancelled(signal);
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new DataError('DATA_UNREADABLE', `${name}: reading the images failed after ${count}: ${message}`, {
        cause,
      });
    }
  };
  try {
    for (let next = await ask(); ; next = await ask()) {
      isOver = next.done === true;
      if (isOver) return;
      yield next.value;
      count++;
    }
  } finally {
    if (!isOver) await iterator.return?.();
  }
}

function checked(
  one: unknown,
  index: number,
  { name, classes }: ReadEncodedOptions,
): { image: Uint8Array; label: number } {
  const refuse = (what: string, expected: string, got: unknown): never => {
    throw new DataError('DATA_ARGUMENT', `${name}: image ${index}: expected ${expected}${what}, got ${shown(got)}`);
  };
  if (typeof one !== 'object' || one === null) return refuse('', 'an object { image, label }', one);
  const { image, label } = one as Partial<EncodedImage>;
  // Of another realm, too, as a test runner has them.
  if (Object.prototype.toString.call(image) !== '[object Uint8Array]') {
    return refuse(' for image', 'the bytes of a JPEG or PNG file, a Buffer or a Uint8Array,', typeof image);
  }
  return { image: image as Uint8Array, label: labelOf(label, `${name}: image ${index}`, classes) };
}

/** Replaces each image that cannot be decoded by the next good one of its class. */
async function standIn(
  store: ImageStore,
  labels: readonly number[],
  bad: ReadonlyMap<number, DataError>,
  { name, classes, reportBadImage }: ReadEncodedOptions,
): Promise<void> {
  const indices = [...bad.keys()].sort((a, b) => a - b);
  if (100 * indices.length > MOST_PERCENT * labels.length) {
    throw new DataError(
      'DATA_CORRUPT',
      `${name}: ${indices.length} of the ${labels.length} images cannot be used, and at most ${MOST_PERCENT} % may be skipped; ` +
        `the first: ${bad.get(indices[0]!)!.message}`,
    );
  }
  for (const index of indices) {
    let other = nextOfClass(labels, index);
    while (other !== index && bad.has(other)) other = nextOfClass(labels, other);
    if (other === index) {
      throw new DataError('DATA_CORRUPT', `${name}: no image of class ${classes[labels[index]!]} can be used`);
    }
    await store.copy(other, index);
    reportBadImage?.({ path: `${name}: image ${index}`, reason: bad.get(index)!.message });
  }
}

function withAdvice(error: unknown): unknown {
  if (!isBadImage(error)) return error;
  return new DataError(error.code, `${error.message}; or skip such images (onBadImage: 'skip', --on-bad-image skip)`, {
    cause: error,
  });
}
