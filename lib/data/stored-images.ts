// Images of one size in a file, one after another, without a header.
import { type FileHandle, open } from 'node:fs/promises';
import { readRegion } from '../files.js';
import { type Device, type Tensor, tensor } from '../tensor/index.js';
import { DecodedImages } from './decoded-images.js';
import { DataError } from './errors.js';
import type { BatchRange, ImageBatch, ImageSource, TrainingPass } from './image-source.js';
import type { StoredImages } from './labelled-images.js';

/** Images read at once. */
const READS_AT_ONCE = 16;

/** Gives out images that lie in a file; only labels are kept in memory. */
export class OpenedFile implements ImageSource {
  readonly #images: StoredImages;
  readonly #read: DecodedImages;

  constructor(images: StoredImages, device: Device) {
    const { labels, channels, height, width } = images;
    this.#images = images;
    this.#read = new DecodedImages({
      ...{ labels, device, imageLength: imageLengthOf(images), concurrency: READS_AT_ONCE },
      imagesOf: (pixels, count) => tensor(pixels, { shape: [count, channels, height, width], device }),
    });
  }

  get count(): number {
    return this.#read.count;
  }

  get labels(): Tensor {
    return this.#read.labels;
  }

  trainingBatches({ order, batchSize, firstStep: first }: TrainingPass): AsyncGenerator<ImageBatch> {
    return this.#give((image) => this.#read.inOrder({ order, batchSize, first }, image));
  }

  batches(batchSize: number, range?: BatchRange): AsyncGenerator<ImageBatch> {
    return this.#give((image) => this.#read.all({ batchSize, ...(range === undefined ? {} : { range }) }, image));
  }

  /** The file is open for as long as a pass goes on. */
  async *#give(
    pass: (image: (index: number) => Promise<Uint8Array>) => AsyncGenerator<ImageBatch>,
  ): AsyncGenerator<ImageBatch> {
    const file = await open(this.#images.file, 'r');
    try {
      yield* pass(async (index) => {
        const image = Buffer.allocUnsafeSlow(imageLengthOf(this.#images));
        await fill(file, this.#images, index, image);
        return image;
      });
    } finally {
      await file.close();
    }
  }

  dispose(): void {
    this.#read.dispose();
  }
}

/** Values of an image. */
export const imageLengthOf = ({
  channels,
  height,
  width,
}: Pick<StoredImages, 'channels' | 'height' | 'width'>): number => channels * height * width;

/** Fills `target` with images from `first` on. */
async function fill(file: FileHandle, images: StoredImages, first: number, target: Uint8Array): Promise<void> {
  const got = await readRegion(file, target, first * imageLengthOf(images));
  if (got === target.length) return;
  const { file: path } = images;
  throw new DataError('DATA_CORRUPT', `${path}: expected ${target.length} bytes from image ${first} on, got ${got}`, {
    path,
  });
}

/** Bytes of one read where all images are read. */
const CHUNK_BYTES = 2 ** 24;

/** All images in order, some at a time: the bytes of those from `first` on. */
export async function* chunksOf(images: StoredImages): AsyncGenerator<{ first: number; bytes: Uint8Array }> {
  const length = imageLengthOf(images);
  const atOnce = Math.max(1, Math.floor(CHUNK_BYTES / length));
  const file = await open(images.file, 'r');
  try {
    for (let first = 0; first < images.count; first += atOnce) {
      const bytes = Buffer.allocUnsafeSlow(Math.min(atOnce, images.count - first) * length);
      await fill(file, images, first, bytes);
      yield { first, bytes };
    }
  } finally {
    await file.close();
  }
}
