import type { Tensor } from '../tensor/index.js';
import type { Draws } from './draws.js';

/** Images of one batch, ready for the training device. */
export interface ImageBatch {
  /** The indices of the images in the data set. */
  readonly indices: Int32Array;
  /**
   * The images uint8 [n, channels, height, width], or vectors float32 [n, length], and labels int64 [n] on the device: all of
   * the batch, or `length` from `start` on. Call it in a scope.
   */
  tensors(start?: number, length?: number): { readonly images: Tensor; readonly labels: Tensor };
}

/** What a pass over the training images shows. */
export interface TrainingPass {
  readonly epoch: number;
  /** Indices in the order of the epoch. */
  readonly order: Int32Array;
  readonly batchSize: number;
  /** The batch to begin with, from 0. */
  readonly firstStep: number;
  /** What random views are drawn from. */
  readonly draws: Draws;
}

/** Consecutive batches: `length` of them from `start` on, from 0. */
export interface BatchRange {
  readonly start: number;
  readonly length: number;
}

/** The images of one part of a data set, wherever they are kept, given out in batches. */
export interface ImageSource {
  readonly count: number;
  /** int64 [count] on the device. It belongs to the source. */
  readonly labels: Tensor;
  /** The batches of an epoch; the last may be smaller. Leaving the loop early ends whatever was being prepared. */
  trainingBatches(pass: TrainingPass): AsyncIterable<ImageBatch>;
  /** All images in order, as they are evaluated, or those of some of the batches. */
  batches(batchSize: number, range?: BatchRange): AsyncIterable<ImageBatch>;
  /** Frees its memory, and closes its files. */
  dispose(): void;
}
