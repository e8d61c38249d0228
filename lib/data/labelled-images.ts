import { join } from 'node:path';
import { fileIn } from './data-location.js';
import { DataError } from './errors.js';
import type { FileShape } from './image-size.js';
import type { ImageSource } from './image-source.js';

/** Images of one size, each with the number of its class, wherever their pixels are. */
interface SizedImages {
  /** [count]: indices into the data set's classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** 3 for red, green, blue; 1 for grey. */
  readonly channels: number;
  /** Pixels. */
  readonly height: number;
  readonly width: number;
}

/** Images of one size in memory. */
export interface LabelledImages extends SizedImages {
  /** [count, channels, height, width], row-major, 0 to 255. */
  readonly images: Uint8Array;
}

/** Images of one size in a file, which are read whenever they are used. */
export interface StoredImages extends SizedImages {
  /** Its path; it begins with [count, channels, height, width], row-major, 0 to 255. */
  readonly file: string;
}

/** Images of one size that a source of the caller's gives out. It stays the caller's: whoever uses it does not dispose it. */
export interface SourceImages extends SizedImages {
  readonly source: ImageSource;
}

/** What is done about an image file whose contents cannot be used. */
export const BAD_IMAGE_POLICIES = ['fail', 'skip'] as const;
/**
 * 'fail': a file that cannot be used ends the reading with DataError. 'skip': the next image of its class stands in, for at
 * most 1 % of a part.
 */
export type OnBadImage = (typeof BAD_IMAGE_POLICIES)[number];

/** A file that another image stands in for. */
export interface BadImage {
  readonly path: string;
  /** Why it is not read. */
  readonly reason: string;
}

/** What is done about image files whose contents cannot be used, and who is told of them. */
export interface BadImageOptions {
  /** 'fail' by default. With 'skip' the next image of the class stands in, as in `ReadableImages`. */
  readonly onBadImage?: OnBadImage | undefined;
  /** Told of each file once, with 'skip'. */
  readonly reportBadImage?: ((bad: BadImage) => void) | undefined;
}

/** A file that holds images. */
export interface Shard {
  /** Its name in the folder of the shards. */
  readonly name: string;
  readonly bytes: number;
}

/** Where images lie within larger files. */
export interface PackedImages {
  readonly shards: readonly Shard[];
  /** [count] each: the image's shard by index, where it begins there, its bytes, and their CRC-32. */
  readonly shardOf: Int32Array;
  readonly offsets: Float64Array;
  readonly lengths: Float64Array;
  readonly checksums: Uint32Array;
}

/** Image files, each with the number of its class; they are decoded, to the same shape, whenever they are used. */
export interface ImageFiles extends BadImageOptions, FileShape {
  /** Directory of the class folders, or of the shards, which may be the address of one on a web server. */
  readonly root: string;
  /** The folder of each class, by label; '.' where all images lie in `root`. */
  readonly folders: readonly string[];
  /** [count]: names of the files, each in the folder of its class. Of packed images these are the files that they were. */
  readonly names: readonly string[];
  /** Where the images lie in shards; without it each is a file of its own. */
  readonly packed?: PackedImages | undefined;
  /** [count]: indices into the data set's classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** Pixels of the shorter side before the centre is cut out, in evaluation; at least that of the size. As in `readImage`. */
  readonly testResize: number;
  /** Width times height of the largest image that is decoded; that of `readImage` by default. */
  readonly maxPixels?: number | undefined;
}

/** The images of a part, whatever is made of them. */
export type ListedImages = Pick<ImageFiles, 'root' | 'folders' | 'names' | 'labels' | 'count' | 'packed'>;

/**
 * The path of an image by its index; of a packed one the path or address of its shard, and the image's there, for messages. Throws
 * `DataError` (DATA_ARGUMENT) for an index that is not there.
 */
export function pathOf({ root, folders, names, labels, count, packed }: ListedImages, index: number): string {
  const name = names[index];
  if (name === undefined) {
    throw new DataError('DATA_ARGUMENT', `there is no image ${index}: expected an index from 0 to ${count - 1}`);
  }
  const folder = folders[labels[index]!]!;
  if (packed === undefined) return join(root, folder, name);
  return `${fileIn(root, packed.shards[packed.shardOf[index]!]!.name)}: ${join(folder, name)}`;
}

/** Vectors of one length in memory, each with the number of its class. */
export interface LabelledVectors {
  /** [count, vectorLength], row-major, in whatever units. */
  readonly vectors: Float32Array;
  /** [count]: indices into the data set's classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** Values of a vector. */
  readonly vectorLength: number;
}

/** Images of a part of a data set: in memory, as files, in one file, or from a source of the caller's. */
export type ImagePart = LabelledImages | ImageFiles | StoredImages | SourceImages;

/** Training or test images of a data set, or vectors. */
export type DatasetPart = ImagePart | LabelledVectors;

/** [channels, height, width] of an image, [length] of a vector. */
export const shapeOfPart = (part: DatasetPart): readonly number[] =>
  'vectorLength' in part ? [part.vectorLength] : [part.channels, part.height, part.width];

/** Per channel, of pixel values scaled to 0..1; of vectors per value, in its own units. */
export interface Normalization {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/**
 * A data set: its classes by label, its training and test images in memory or as files, and the normalisation that suits
 * them.
 */
export interface Dataset<Part extends DatasetPart = DatasetPart> {
  /** As in `loadDataset` and `--dataset`. */
  readonly name: string;
  /** For people: "CIFAR-10". */
  readonly title: string;
  readonly classes: readonly string[];
  readonly train: Part;
  readonly test: Part;
  readonly normalization: Normalization;
}
