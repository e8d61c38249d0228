// Stores for decoded images whose number is not known before the last has come.
import { type FileHandle, open, stat } from 'node:fs/promises';
import { asWriteError } from '#scripts/support/files.mjs';
import { availableMemory } from '#scripts/support/limits.mjs';
import { readRegion, writeRegion } from '../files.js';
import type { LabelledImages, StoredImages } from './labelled-images.js';
import { requireMemory } from './memory.js';
import { imageLengthOf } from './stored-images.js';

type Shape = Pick<StoredImages, 'channels' | 'height' | 'width'>;

/** Images of one shape, put in any order: pixels [channels, height, width]. */
export interface ImageStore {
  put(index: number, pixels: Uint8Array): Promise<void>;
  /** Replaces a stored image by a copy of another. */
  copy(from: number, to: number): Promise<void>;
}

const CHUNK_BYTES = 2 ** 24;

/** Keeps images in memory. Throws `DataError` (DATA_ARGUMENT) when they become more than it holds. */
export class MemoryStore implements ImageStore {
  readonly #shape: Shape;
  readonly #name: string;
  readonly #length: number;
  readonly #imagesInChunk: number;
  readonly #chunks: Uint8Array[] = [];
  readonly #usable = availableMemory();

  /** `name`: of the part, for messages. */
  constructor(shape: Shape, name: string) {
    this.#shape = shape;
    this.#name = name;
    this.#length = imageLengthOf(shape);
    this.#imagesInChunk = Math.max(1, Math.floor(CHUNK_BYTES / this.#length));
  }

  async put(index: number, pixels: Uint8Array): Promise<void> {
    this.#image(index).set(pixels);
  }

  async copy(from: number, to: number): Promise<void> {
    this.#image(to).set(this.#image(from));
  }

  #image(index: number): Uint8Array {
    const chunk = Math.floor(index / this.#imagesInChunk);
    while (this.#chunks.length <= chunk) this.#grow();
    const start = (index % this.#imagesInChunk) * this.#length;
    return this.#chunks[chunk]!.subarray(start, start + this.#length);
  }

  #grow(): void {
    const images = (this.#chunks.length + 1) * this.#imagesInChunk;
    const { height, width } = this.#shape;
    requireMemory({
      what: `${this.#name}: ${images} images of ${height} x ${width} pixels, and there are more,`,
      bytes: [images * this.#length],
      usable: this.#usable,
      instead: "keep them in a file of the run directory (keep: 'file'), or take fewer or smaller images",
    });
    this.#chunks.push(new Uint8Array(this.#imagesInChunk * this.#length));
  }

  /** Ends the store: all images are there, and these are their labels. */
  finish(labels: Int32Array): LabelledImages {
    const images = new Uint8Array(labels.length * this.#length);
    for (const [i, chunk] of this.#chunks.entries()) {
      const start = i * chunk.length;
      images.set(chunk.subarray(0, Math.min(chunk.length, images.length - start)), start);
    }
    this.#chunks.length = 0;
    return { ...this.#shape, images, labels, count: labels.length };
  }
}

/**
 * Keeps images in a file that is open for reading and writing: their pixels one after another, then their labels, their number and
 * their shape, int32. Throws WriteError where the disk is full.
 */
export class FileStore implements ImageStore {
  readonly #shape: Shape;
  readonly #length: number;

  constructor(
    shape: Shape,
    /** For messages. */
    readonly path: string,
    readonly file: FileHandle,
  ) {
    this.#shape = shape;
    this.#length = imageLengthOf(shape);
  }

  /** The images of a file that was finished before; null where there is none, or it is not whole, of this shape and these classes. */
  static async reopen(shape: Shape, path: string, classes: number): Promise<StoredImages | null> {
    const found = await stat(path).catch(() => null);
    if (found?.isFile() !== true) return null;
    const ofImage = imageLengthOf(shape) + Int32Array.BYTES_PER_ELEMENT;
    const count = (found.size - Int32Array.BYTES_PER_ELEMENT * endOf(0, shape).length) / ofImage;
    if (count < 1 || !Number.isInteger(count)) return null;
    const end = endOf(count, shape);
    const tail = new Int32Array(count + end.length);
    const handle = await open(path, 'r');
    try {
      await readRegion(handle, tail, count * imageLengthOf(shape));
    } finally {
      await handle.close();
    }
    const labels = tail.subarray(0, count);
    const isWhole = end.every((value, i) => tail[count + i] === value);
    if (!isWhole || labels.some((label) => label < 0 || label >= classes)) return null;
    return { ...shape, file: path, labels, count };
  }

  put(index: number, pixels: Uint8Array): Promise<void> {
    return this.#write(pixels, index * this.#length);
  }

  async #write(values: ArrayBufferView, position: number): Promise<void> {
    await writeRegion(this.file, values, position).catch((error: unknown) => {
      throw asWriteError(this.path, error);
    });
  }

  async copy(from: number, to: number): Promise<void> {
    const pixels = Buffer.allocUnsafeSlow(this.#length);
    await readRegion(this.file, pixels, from * this.#length);
    await this.put(to, pixels);
  }

  /** Ends the store: all images are there, and these are their labels. */
  async finish(labels: Int32Array): Promise<void> {
    const count = labels.length;
    await this.#write(withEnd(labels, endOf(count, this.#shape)), count * this.#length);
  }
}

function withEnd(labels: Int32Array, end: readonly number[]): Int32Array {
  const whole = new Int32Array(labels.length + end.length);
  whole.set(labels);
  whole.set(end, labels.length);
  return whole;
}

const endOf = (count: number, { channels, height, width }: Shape): number[] => [count, channels, height, width];
