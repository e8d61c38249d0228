import { type Device, keep, scope, type Tensor, tensor } from '../tensor/index.js';
import { ReadableImages } from './bad-images.js';
import { DecodingPass, type DecodingPassOptions } from './decoding-pass.js';
import { DataError } from './errors.js';
import { decodeCentre, decodeRegion } from './image-file.js';
import type { ImageBatch, ImageSource, TrainingPass } from './image-source.js';
import type { ImageFiles } from './labelled-images.js';
import { drawResizedCrop } from './resized-crop.js';

export interface StreamedImagesOptions {
  readonly device: Device;
  /** Whether training shows parts of the images, drawn as in `drawResizedCrop`; else it shows what evaluation shows. */
  readonly randomResizedCrop: boolean;
  /** Batches decoded ahead of the one in use; default: 4, or fewer, but at least 1, where 4 would take more than 256 MiB. */
  readonly ahead?: number;
  /** Files decoded at once; default: sixteen for each thread of Node's pool (UV_THREADPOOL_SIZE). */
  readonly concurrency?: number;
}

const AHEAD = 4;
const AHEAD_BYTES = 256 * 2 ** 20;
/** The pool must have work for as long as a step of training keeps the event loop from giving it more. */
const WORK_A_THREAD = 16;

/**
 * Image files, decoded in the threads of Node's pool while they are used. Only labels are kept. A file that cannot be
 * decoded fails the batch that it is in, with a `DataError` that names it, or another image stands in (`ReadableImages`).
 *
 * In evaluation an image has its shorter side scaled to `testResize` and its centre cut out (torchvision's Resize and
 * CenterCrop), as `readImage` does.
 */
export class StreamedImages implements ImageSource {
  readonly count: number;
  readonly labels: Tensor;
  readonly #files: ImageFiles;
  readonly #readable: ReadableImages;
  readonly #options: StreamedImagesOptions;
  readonly #passes = new Set<DecodingPass>();
  #disposed = false;

  constructor(files: ImageFiles, options: StreamedImagesOptions) {
    requireCount('ahead', options.ahead, 0);
    requireCount('concurrency', options.concurrency, 1);
    this.count = files.count;
    this.#files = files;
    this.#readable = new ReadableImages(files);
    this.#options = options;
    this.labels = scope(() => keep(tensor(Int32Array.from(files.labels), { device: options.device })));
  }

  get device(): Device {
    return this.labels.device;
  }

  trainingBatches({ epoch, order, batchSize, firstStep, draws }: TrainingPass): AsyncGenerator<ImageBatch> {
    const { imageSize, maxPixels } = this.#files;
    return this.#give(batchSize, {
      first: firstStep,
      indicesOf: (batch) => order.subarray(batch * batchSize, (batch + 1) * batchSize),
      decode: this.#options.randomResizedCrop
        ? (index) => {
            const choose = (width: number, height: number) => drawResizedCrop(draws, epoch, index, width, height);
            return this.#readable.read(index, (file) => decodeRegion(file, imageSize, choose, { maxPixels }));
          }
        : (index) => this.#evaluated(index),
    });
  }

  batches(batchSize: number): AsyncGenerator<ImageBatch> {
    return this.#give(batchSize, {
      first: 0,
      indicesOf: (batch) => {
        const start = batch * batchSize;
        return Int32Array.from({ length: Math.max(0, Math.min(batchSize, this.count - start)) }, (_, i) => start + i);
      },
      decode: (index) => this.#evaluated(index),
    });
  }

  /** Ends all passes; those being decoded come to nothing. */
  dispose(): void {
    this.#disposed = true;
    for (const pass of this.#passes) void pass.stop();
    this.labels.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async *#give(
    batchSize: number,
    source: Pick<DecodingPassOptions, 'first' | 'indicesOf' | 'decode'>,
  ): AsyncGenerator<ImageBatch> {
    requireCount('batchSize', batchSize, 1);
    if (this.#disposed) throw new DataError('DATA_CANCELLED', 'the images were disposed');
    const { imageSize } = this.#files;
    const imageLength = 3 * imageSize * imageSize;
    const affordable = Math.max(1, Math.floor(AHEAD_BYTES / (imageLength * batchSize)));
    const pass = new DecodingPass({
      ...source,
      imageLength,
      ahead: this.#options.ahead ?? Math.min(AHEAD, affordable),
      concurrency: this.#options.concurrency ?? WORK_A_THREAD * poolThreads(),
    });
    this.#passes.add(pass);
    try {
      for (let batch = await pass.next(); batch !== null; batch = await pass.next()) {
        const { indices, pixels } = batch;
        yield {
          indices,
          tensors: (from = 0, length = indices.length) =>
            this.#tensors(
              indices.subarray(from, from + length),
              pixels.subarray(from * imageLength, (from + length) * imageLength),
            ),
        };
      }
    } finally {
      await pass.stop();
      this.#passes.delete(pass);
    }
  }

  /** The images lie channels-last, as they were decoded. */
  #tensors(indices: Int32Array, pixels: Uint8Array): { images: Tensor; labels: Tensor } {
    const { imageSize } = this.#files;
    const { device } = this;
    const lines = tensor(pixels, { shape: [indices.length, imageSize, imageSize, 3], device });
    return { images: lines.permute([0, 3, 1, 2]), labels: this.labels.indexSelect(0, tensor(indices, { device })) };
  }

  #evaluated(index: number): Promise<Uint8Array> {
    const { imageSize, testResize, maxPixels } = this.#files;
    return this.#readable.read(index, (file) => decodeCentre(file, imageSize, testResize, { maxPixels }));
  }
}

/** Threads of libuv's pool, in which sharp decodes: 4 where the environment names no other number. */
function poolThreads(): number {
  const named = Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? '', 10);
  return named >= 1 ? Math.min(named, 1024) : 4;
}

function requireCount(name: string, value: number | undefined, least: number): void {
  if (value !== undefined && (!Number.isInteger(value) || value < least)) {
    throw new DataError('DATA_ARGUMENT', `${name} must be an integer from ${least}, got ${value}`);
  }
}
