// What the passes over sources that are not in memory have in common: which images a batch has, and how many are made ahead.
import type { BatchRange } from './image-source.js';

const AHEAD = 4;
const AHEAD_BYTES = 256 * 2 ** 20;

/** Batches that are made ahead of the one in use: 4, or fewer, but at least 1, where 4 would take more than 256 MiB. */
export const affordableAhead = (batchBytes: number): number =>
  Math.min(AHEAD, Math.max(1, Math.floor(AHEAD_BYTES / batchBytes)));

/** The indices of a batch by its number; empty after the last. */
export type IndicesOfBatch = (batch: number) => Int32Array;

/** Of images in the order that is given. */
export const indicesInOrder =
  (order: Int32Array, batchSize: number): IndicesOfBatch =>
  (batch) =>
    order.subarray(batch * batchSize, (batch + 1) * batchSize);

/** Of all images, in the order of their indices; none after the range, where there is one. */
export const indicesOfAll =
  (count: number, batchSize: number, range: BatchRange = allOf(count, batchSize)): IndicesOfBatch =>
  (batch) => {
    if (batch >= range.start + range.length) return new Int32Array();
    const start = batch * batchSize;
    return Int32Array.from({ length: Math.max(0, Math.min(batchSize, count - start)) }, (_, i) => start + i);
  };

/** All batches of so many images. */
export const allOf = (count: number, batchSize: number): BatchRange => ({
  start: 0,
  length: Math.ceil(count / batchSize),
});
