import { type Device, keep, scope, type Tensor, tensor } from '../tensor/index.js';
import type { ImageBatch, ImageSource, TrainingPass } from './image-source.js';
import type { LabelledImages, LabelledVectors } from './labelled-images.js';
import { allOf, indicesOfAll } from './pass-batches.js';

/** Images, or vectors, and labels in the memory of the training device, whole. */
export class DeviceImages implements ImageSource {
  readonly count: number;
  readonly labels: Tensor;
  readonly #images: Tensor;

  constructor(source: LabelledImages | LabelledVectors, device: Device) {
    this.count = source.count;
    this.#images = keep(onDevice(source, device));
    this.labels = scope(() => keep(tensor(Int32Array.from(source.labels), { device })));
  }

  get device(): Device {
    return this.#images.device;
  }

  /** The images uint8 [n, channels, height, width], or vectors float32 [n, length], and labels int64 [n] of the given indices. */
  batch(indices: Int32Array): { images: Tensor; labels: Tensor } {
    const index = tensor(indices, { device: this.device });
    return { images: this.#images.indexSelect(0, index), labels: this.labels.indexSelect(0, index) };
  }

  /** The images and labels from `start`, at most `length` of them, in order. */
  slice(start: number, length: number): { images: Tensor; labels: Tensor } {
    const taken = Math.min(length, this.count - start);
    return { images: this.#images.narrow(0, start, taken), labels: this.labels.narrow(0, start, taken) };
  }

  async *trainingBatches({ order, batchSize, firstStep }: TrainingPass): AsyncGenerator<ImageBatch> {
    for (let start = firstStep * batchSize; start < order.length; start += batchSize) {
      const indices = order.subarray(start, start + batchSize);
      yield {
        indices,
        tensors: (from = 0, length = indices.length) => this.batch(indices.subarray(from, from + length)),
      };
    }
  }

  async *batches(batchSize: number, range = allOf(this.count, batchSize)): AsyncGenerator<ImageBatch> {
    const indicesOf = indicesOfAll(this.count, batchSize, range);
    for (let batch = range.start; batch < range.start + range.length; batch++) {
      const indices = indicesOf(batch);
      const start = batch * batchSize;
      yield { indices, tensors: (from = 0, length = indices.length) => this.slice(start + from, length) };
    }
  }

  dispose(): void {
    this.#images.dispose();
    this.labels.dispose();
  }
}

/** [count, channels, height, width] of images, [count, length] of vectors. */
function onDevice(source: LabelledImages | LabelledVectors, device: Device): Tensor {
  if ('vectors' in source) {
    return tensor(source.vectors, { shape: [source.count, source.vectorLength], dtype: 'float32', device });
  }
  const { images, count, channels, height, width } = source;
  return tensor(images, { shape: [count, channels, height, width], device });
}
