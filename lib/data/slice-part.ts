import type { DatasetPart, LabelledImages, PackedImages } from './labelled-images.js';

/**
 * The images, or vectors, of a part from index `start` to before `end`, in the same memory or files; null for a part that cannot be taken
 * apart: a file of pixels, and a source of the caller's.
 */
export function slicePart(part: LabelledImages, start: number, end?: number): LabelledImages;
export function slicePart(part: DatasetPart, start: number, end?: number): DatasetPart | null;
export function slicePart(part: DatasetPart, start: number, end = part.count): DatasetPart | null {
  const labels = part.labels.subarray(start, end);
  const taken = { labels, count: labels.length };
  if ('names' in part) {
    const { packed } = part;
    const places = packed === undefined ? {} : { packed: slicePlaces(packed, start, end) };
    return { ...part, ...taken, ...places, names: part.names.slice(start, end) };
  }
  if ('vectors' in part) {
    return { ...part, ...taken, vectors: part.vectors.subarray(start * part.vectorLength, end * part.vectorLength) };
  }
  if (!('images' in part)) return null;
  const length = part.channels * part.height * part.width;
  return { ...part, ...taken, images: part.images.subarray(start * length, end * length) };
}

const slicePlaces = (packed: PackedImages, start: number, end: number): PackedImages => ({
  shards: packed.shards,
  shardOf: packed.shardOf.subarray(start, end),
  offsets: packed.offsets.subarray(start, end),
  lengths: packed.lengths.subarray(start, end),
  checksums: packed.checksums.subarray(start, end),
});
