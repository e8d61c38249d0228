import { type Device, keep, scope, type Tensor, tensor } from '../tensor/index.js';
import { DataError } from './errors.js';
import type { BatchRange, ImageBatch } from './image-source.js';
import { affordableAhead, indicesInOrder, indicesOfAll } from './pass-batches.js';
import { PrefetchPass, type PrefetchPassOptions } from './prefetch-pass.js';

/** What a pass over a source reads. */
type Reading = Pick<PrefetchPassOptions, 'first' | 'indicesOf' | 'read'>;

export interface DecodedImagesOptions {
  readonly labels: Uint8Array | Int32Array;
  readonly device: Device;
  /** Bytes of an image. */
  readonly imageLength: number;
  /** The images [n, channels, height, width] of some that were decoded, one after the other. */
  readonly imagesOf: (pixels: Uint8Array, count: number) => Tensor;
  /** Images decoded at once. */
  readonly concurrency: number;
}

/** Batches of images that are read or decoded ahead of their use; only labels are kept. */
export class DecodedImages {
  readonly count: number;
  readonly labels: Tensor;
  readonly #options: DecodedImagesOptions;
  readonly #passes = new Set<PrefetchPass>();
  #disposed = false;

  constructor(options: DecodedImagesOptions) {
    const { labels, device } = options;
    this.count = labels.length;
    this.labels = scope(() => keep(tensor(Int32Array.from(labels), { device })));
    this.#options = options;
  }

  /** The batches of an order of images, from batch `first` on. */
  inOrder(
    { order, batchSize, first }: { order: Int32Array; batchSize: number; first: number },
    read: Reading['read'],
  ): AsyncGenerator<ImageBatch> {
    return this.#give(batchSize, { first, indicesOf: indicesInOrder(order, batchSize), read });
  }

  /** All images in the order of their indices, or those of some of the batches. */
  all(
    { batchSize, range }: { batchSize: number; range?: BatchRange },
    read: Reading['read'],
  ): AsyncGenerator<ImageBatch> {
    const indicesOf = indicesOfAll(this.count, batchSize, range);
    return this.#give(batchSize, { first: range?.start ?? 0, indicesOf, read });
  }

  async *#give(batchSize: number, reading: Reading): AsyncGenerator<ImageBatch> {
    requireCount('batchSize', batchSize, 1);
    if (this.#disposed) throw new DataError('DATA_CANCELLED', 'the images were disposed');
    const { imageLength, concurrency, imagesOf } = this.#options;
    const pass = new PrefetchPass({
      ...reading,
      ...{ sampleBytes: imageLength, concurrency },
      ahead: affordableAhead(imageLength * batchSize),
    });
    this.#passes.add(pass);
    try {
      for (let batch = await pass.next(); batch !== null; batch = await pass.next()) {
        const { indices, bytes } = batch;
        yield {
          indices,
          tensors: (from = 0, length = indices.length) => ({
            images: imagesOf(bytes.subarray(from * imageLength, (from + length) * imageLength), length),
            labels: this.#labelsOf(indices.subarray(from, from + length)),
          }),
        };
      }
    } finally {
      await pass.stop();
      this.#passes.delete(pass);
    }
  }

  #labelsOf(indices: Int32Array): Tensor {
    return this.labels.indexSelect(0, tensor(indices, { device: this.labels.device }));
  }

  /** Ends all passes; what they are reading is dropped. */
  dispose(): void {
    this.#disposed = true;
    for (const pass of this.#passes) void pass.stop();
    this.labels.dispose();
  }
}

/** Throws `DataError` (DATA_ARGUMENT) for anything but an integer from `least`; undefined is the default. */
export function requireCount(name: string, value: number | undefined, least: number): void {
  if (value !== undefined && (!Number.isInteger(value) || value < least)) {
    throw new DataError('DATA_ARGUMENT', `${name} must be an integer from ${least}, got ${value}`);
  }
}
