import {
  DECODED,
  type Decoding,
  type Device,
  decodeImages,
  emptyStaged,
  findTurboJpeg,
  isCuda,
  isPageLocked,
  keep,
  scope,
  send,
  type Tensor,
  tensor,
} from '../tensor/index.js';
import { batchDraws, drawFlips } from './augmentation.js';
import { ReadableImages } from './bad-images.js';
import { type BatchAtWork, BatchesAhead } from './batches-ahead.js';
import { requireCount } from './decoded-images.js';
import { DataError, throwIfCancelled } from './errors.js';
import { DEFAULT_MAX_PIXELS, decodeCentre, decodeRegion } from './image-file.js';
import { areRemote, diskSourcesOf, fetchImages, type ImagePlace, placeOf } from './image-place.js';
import { coveredSize, type FileShape } from './image-size.js';
import type { BatchRange, ImageBatch, ImageSource, TrainingPass } from './image-source.js';
import type { ImageFiles } from './labelled-images.js';
import { decodesAtOnce, forEachIndex } from './parallel.js';
import { affordableAhead, type IndicesOfBatch, indicesInOrder, indicesOfAll } from './pass-batches.js';
import { drawResizedCrop, resizedCropDraws } from './resized-crop.js';
import { imageLengthOf } from './stored-images.js';

export interface StreamedImagesOptions {
  readonly device: Device;
  /** Whether training shows parts of the images, drawn as in `drawResizedCrop`; else it shows what evaluation shows. */
  readonly randomResizedCrop: boolean;
  /** Whether training shows images mirrored, by the draws of `randomHorizontalFlip`. */
  readonly horizontalFlip: boolean;
  /** Batches decoded ahead of the one in use; default: 4, or fewer, but at least 1, where 4 would take more than 256 MiB. */
  readonly ahead?: number;
  /** Files that another decoder than TurboJPEG works on at once; default: sixteen for each thread of Node's pool (UV_THREADPOOL_SIZE). */
  readonly concurrency?: number;
}

/** What is shown of images, by whichever decoder. */
interface View {
  /** [n, 22], or empty for the centre. */
  readonly draws: (indices: Int32Array) => Float64Array;
  /** [n], 1 for those that are mirrored, or empty where none is. */
  readonly mirrored: (indices: Int32Array) => Uint8Array;
  /** Of one image, [height, width, channels], shown as that of an index, but not mirrored. */
  readonly decode: (place: ImagePlace, index: number, signal: AbortSignal) => Promise<Uint8Array>;
}

const noneMirrored = (): Uint8Array => new Uint8Array();

/** What a pass gives out, and how. */
interface Pass {
  readonly indicesOf: IndicesOfBatch;
  readonly first: number;
  readonly batchSize: number;
  readonly view: View;
}

/** A batch, decoded: uint8 [n, height, width, channels] on the CPU. */
interface DecodedBatch {
  readonly indices: Int32Array;
  readonly images: Tensor;
}

/**
 * The memory of a pass's batches. What nobody uses any more is taken again: fresh memory has to be cleared by the system, and V8, which
 * hears of it, looks for garbage. Page-locked batches for a GPU go back to LibTorch instead, which keeps that memory to be taken again,
 * and knows which of it is still being copied from.
 */
class BatchMemory {
  readonly #shape: readonly number[];
  readonly #device: Device;
  readonly #free: Tensor[] = [];
  #isOver = false;

  constructor({ height, width, channels }: FileShape, device: Device) {
    this.#shape = [height, width, channels];
    this.#device = device;
  }

  /** uint8 [count, height, width, channels]. */
  take(count: number): Tensor {
    const at = this.#free.findIndex(({ shape: [n] }) => n === count);
    if (at >= 0) return this.#free.splice(at, 1)[0]!;
    return scope(() => keep(emptyStaged([count, ...this.#shape], { dtype: 'uint8', device: this.#device })));
  }

  /** Whoever keeps a view of it keeps its values. */
  giveBack(images: Tensor): void {
    const isLibTorchs = isCuda(this.#device) && isPageLocked(images);
    if (this.#isOver || isLibTorchs || images.sharesMemory) images.dispose();
    else this.#free.push(images);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const images of this.#free.splice(0)) images.dispose();
  }
}

/**
 * Image files, decoded while they are used: JPEG files by threads of the addon's own, what those leave by sharp in the threads of
 * Node's pool. Only labels are kept. Those on a web server are fetched before, batch by batch. A file that cannot be decoded fails
 * the batch that it is in, with a `DataError` that names it, or another image stands in (`ReadableImages`).
 *
 * In evaluation an image has its shorter side scaled to `testResize` and its centre cut out (torchvision's Resize and
 * CenterCrop), as `readImage` does; where height and width differ, it is scaled to cover what `testResize` stands for there.
 */
export class StreamedImages implements ImageSource {
  readonly count: number;
  readonly labels: Tensor;
  readonly #files: ImageFiles;
  readonly #readable: ReadableImages;
  readonly #options: StreamedImagesOptions;
  readonly #passes = new Set<BatchesAhead<DecodedBatch>>();
  #disposed = false;

  constructor(files: ImageFiles, options: StreamedImagesOptions) {
    requireCount('ahead', options.ahead, 0);
    requireCount('concurrency', options.concurrency, 1);
    this.#files = files;
    this.#options = options;
    this.#readable = new ReadableImages(files);
    this.count = files.labels.length;
    this.labels = scope(() => keep(tensor(Int32Array.from(files.labels), { device: options.device })));
  }

  get device(): Device {
    return this.labels.device;
  }

  /** Whether TurboJPEG is given bytes: it reads disks alone. */
  get #areFetched(): boolean {
    return areRemote(this.#files) && findTurboJpeg() !== null;
  }

  trainingBatches({ epoch, order, batchSize, firstStep: first, draws }: TrainingPass): AsyncGenerator<ImageBatch> {
    const { maxPixels } = this.#files;
    const { randomResizedCrop, horizontalFlip } = this.#options;
    const cropped: Omit<View, 'mirrored'> = {
      draws: (indices) => resizedCropDraws(draws, epoch, indices),
      decode: (place, index, signal) => {
        const choose = (width: number, height: number) => drawResizedCrop(draws, epoch, index, width, height);
        return decodeRegion(place, this.#files, choose, { maxPixels, signal });
      },
    };
    const shown = randomResizedCrop ? cropped : this.#evaluated;
    const mirrored: View['mirrored'] = (indices) => drawFlips(batchDraws(draws, epoch, indices));
    const view = { ...shown, mirrored: horizontalFlip ? mirrored : noneMirrored };
    return this.#give({ indicesOf: indicesInOrder(order, batchSize), first, batchSize, view });
  }

  batches(batchSize: number, range?: BatchRange): AsyncGenerator<ImageBatch> {
    const indicesOf = indicesOfAll(this.count, batchSize, range);
    return this.#give({ indicesOf, first: range?.start ?? 0, batchSize, view: this.#evaluated });
  }

  /** Ends all passes; what they are decoding is dropped. */
  dispose(): void {
    this.#disposed = true;
    for (const pass of this.#passes) void pass.stop();
    this.labels.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  readonly #evaluated: View = {
    draws: () => new Float64Array(),
    mirrored: noneMirrored,
    decode: (place, _, signal) => {
      const { testResize, maxPixels } = this.#files;
      return decodeCentre(place, this.#files, testResize, { maxPixels, signal });
    },
  };

  async *#give({ indicesOf, first, batchSize, view }: Pass): AsyncGenerator<ImageBatch> {
    requireCount('batchSize', batchSize, 1);
    if (this.#disposed) throw new DataError('DATA_CANCELLED', 'the images were disposed');
    const { ahead = affordableAhead(imageLengthOf(this.#files) * batchSize) } = this.#options;
    const begin = (batch: number): BatchAtWork<DecodedBatch> | null => {
      const indices = indicesOf(batch);
      return indices.length === 0 ? null : this.#begin(indices, view, memory);
    };
    using memory = new BatchMemory(this.#files, this.device);
    const pass = new BatchesAhead({ begin, first, ahead, drop: ({ images }) => images.dispose() });
    this.#passes.add(pass);
    try {
      for (let batch = await pass.next(); batch !== null; batch = await pass.next()) {
        try {
          yield this.#batchOf(batch);
        } finally {
          memory.giveBack(batch.images);
        }
      }
    } finally {
      await pass.stop();
      this.#passes.delete(pass);
    }
  }

  #batchOf({ indices, images }: DecodedBatch): ImageBatch {
    const { device } = this;
    return {
      indices,
      tensors: (from = 0, length = indices.length) => {
        const part = images.narrow(0, from, Math.min(length, indices.length - from));
        return {
          // They lie channels-last, as they were decoded.
          images: send(part, device).permute([0, 3, 1, 2]),
          labels: this.labels.indexSelect(0, tensor(indices.subarray(from, from + length), { device })),
        };
      },
    };
  }

  #begin(indices: Int32Array, view: View, memory: BatchMemory): BatchAtWork<DecodedBatch> {
    const images = memory.take(indices.length);
    const controller = new AbortController();
    const { signal } = controller;
    let decoding: Decoding | null = null;
    const cancel = (): void => {
      controller.abort();
      decoding?.cancel();
    };
    const finish = async (): Promise<DecodedBatch> => {
      try {
        // Files on disk are begun with at once.
        const fetched = this.#areFetched ? await fetchImages(this.#files, indices, signal) : null;
        throwIfCancelled(signal);
        decoding = this.#decode(images, indices, { view, shownAs: indices, fetched });
        await this.#decodeRest({ indices, images }, await decoding?.done, view, signal);
        return { indices, images };
      } catch (error) {
        images.dispose();
        throw error;
      }
    };
    return { batch: finish(), cancel };
  }

  /** By TurboJPEG, from disk where they are not `fetched`, each shown as that of an index; null where there is none. */
  #decode(
    images: Tensor,
    indices: Int32Array,
    { view, shownAs, fetched }: { view: View; shownAs: Int32Array; fetched: Uint8Array[] | null },
  ): Decoding | null {
    if (findTurboJpeg() === null) return null;
    const { testResize, maxPixels = DEFAULT_MAX_PIXELS } = this.#files;
    const given = fetched === null ? diskSourcesOf(this.#files, indices) : { sources: fetched };
    const shown = { draws: view.draws(shownAs), mirrored: view.mirrored(shownAs) };
    return decodeImages({ images, ...given, ...shown, covered: coveredSize(this.#files, testResize), maxPixels });
  }

  /** Those that were left. Throws the error of the first of the batch that cannot be read. */
  async #decodeRest(
    { indices, images }: DecodedBatch,
    outcomes: Uint8Array | undefined,
    view: View,
    signal: AbortSignal,
  ): Promise<void> {
    throwIfCancelled(signal);
    const left = [...indices.keys()].filter((at) => outcomes?.[at] !== DECODED.yes);
    if (left.length === 0) return;
    const failures = new Map<number, unknown>();
    const { concurrency = decodesAtOnce() } = this.#options;
    const decodeNext = async (i: number): Promise<void> => {
      const at = left[i]!;
      const image = scope(() => keep(images.narrow(0, at, 1)));
      try {
        await this.#decodeOne(image, indices[at]!, view, signal);
      } catch (error) {
        failures.set(at, error);
      } finally {
        image.dispose();
      }
    };
    await forEachIndex(left.length, decodeNext, { signal, atOnce: Math.min(concurrency, left.length) });
    if (failures.size > 0) throw failures.get(Math.min(...failures.keys()));
  }

  /** An image that TurboJPEG has left, or, decoded as it would be anywhere else, the one that stands in for it. */
  async #decodeOne(image: Tensor, index: number, view: View, signal: AbortSignal): Promise<void> {
    await this.#readable.read(index, async (_, at) => {
      const shownAs = Int32Array.of(index);
      if (at !== index && (await this.#decodeOther(image, at, { view, shownAs, signal }))) return;
      const pixels = await view.decode(placeOf(this.#files, at), index, signal);
      throwIfCancelled(signal);
      const isMirrored = view.mirrored(shownAs)[0] === 1;
      scope(() => {
        const decoded = tensor(pixels, { shape: image.shape });
        image.copy_(isMirrored ? decoded.flip([2]) : decoded);
      });
    });
  }

  /** By TurboJPEG; false where it leaves the image. */
  async #decodeOther(
    image: Tensor,
    at: number,
    { signal, ...shown }: { view: View; shownAs: Int32Array; signal: AbortSignal },
  ): Promise<boolean> {
    const indices = Int32Array.of(at);
    const fetched = this.#areFetched ? await fetchImages(this.#files, indices, signal) : null;
    const outcomes = await this.#decode(image, indices, { ...shown, fetched })?.done;
    return outcomes?.[0] === DECODED.yes;
  }
}
