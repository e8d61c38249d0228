// Where the bytes of an image lie: in a file of its own, or in a part of a larger one, on disk or on a web server.
import { fileIn, isUrl } from './data-location.js';
import { withFileBytes } from './file-bytes.js';
import { type ListedImages, type PackedImages, pathOf } from './labelled-images.js';
import { forEachIndex } from './parallel.js';
import { fetchPart, type WebPart } from './web-files.js';

/** Of one batch. */
const FETCHED_AT_ONCE = 32;

/** A part of a larger file. */
export interface PackedPlace extends WebPart {
  /** For messages. */
  readonly name: string;
}

/** The path of a file, or a part of one. */
export type ImagePlace = string | PackedPlace;

/** Where an image is read. */
export function placeOf(files: ListedImages, index: number): ImagePlace {
  const name = pathOf(files, index);
  return files.packed === undefined ? name : { name, ...partOf(files.root, files.packed, index) };
}

function partOf(root: string, packed: PackedImages, index: number): WebPart {
  const { name, bytes } = packed.shards[packed.shardOf[index]!]!;
  return {
    file: fileIn(root, name),
    fileBytes: bytes,
    offset: packed.offsets[index]!,
    length: packed.lengths[index]!,
    checksum: packed.checksums[index]!,
  };
}

/** What messages call it. */
export const nameOf = (place: ImagePlace): string => (typeof place === 'string' ? place : place.name);

/** Calls `use` with the bytes of an image. Throws as `withFileBytes` and `fetchPart` do. */
export async function withImageBytes<T>(
  place: ImagePlace,
  use: (bytes: Uint8Array) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  if (typeof place === 'string') return withFileBytes(place, use);
  if (isUrl(place.file)) return use(await fetchPart(place, { signal }));
  return withFileBytes(place.file, use, place);
}

/** Whether the images have to be fetched. */
export const areRemote = ({ root, packed }: ListedImages): boolean => packed !== undefined && isUrl(root);

/** Images for `decodeImages`, which reads them itself. */
export interface DiskSources {
  readonly sources: string[];
  /** [n, 2]; empty: an image is a file. */
  readonly ranges: Float64Array;
}

export function diskSourcesOf(files: ListedImages, indices: Int32Array): DiskSources {
  const { packed, root } = files;
  if (packed === undefined) {
    return { sources: Array.from(indices, (index) => pathOf(files, index)), ranges: new Float64Array() };
  }
  const parts = Array.from(indices, (index) => partOf(root, packed, index));
  return {
    sources: parts.map(({ file }) => file),
    ranges: Float64Array.from(parts.flatMap(({ offset, length }) => [offset, length])),
  };
}

/** The bytes of images, fetched some at once. Throws as `fetchPart` does. */
export async function fetchImages(
  { root, packed }: ListedImages,
  indices: Int32Array,
  signal: AbortSignal,
): Promise<Uint8Array[]> {
  const fetched: Uint8Array[] = [];
  const fetchOne = async (i: number): Promise<void> => {
    fetched[i] = await fetchPart(partOf(root, packed!, indices[i]!), { signal });
  };
  await forEachIndex(indices.length, fetchOne, { signal, atOnce: FETCHED_AT_ONCE });
  return fetched;
}
