import { join } from 'node:path';
import { DataError } from './errors.js';

/** Images of one size in memory, each with the number of its class. */
export interface LabelledImages {
  /** [count, channels, height, width], row-major, 0 to 255. */
  readonly images: Uint8Array;
  /** [count]: indices into the data set's classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** Always 3: red, green, blue. */
  readonly channels: number;
  /** Pixels. */
  readonly height: number;
  readonly width: number;
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

/** Image files on disk, each with the number of its class; they are decoded whenever they are used. */
export interface ImageFiles extends BadImageOptions {
  /** Directory of the class folders. */
  readonly root: string;
  /** The folder of each class, by label; '.' where all images lie in `root`. */
  readonly folders: readonly string[];
  /** [count]: names of the files, each in the folder of its class. */
  readonly names: readonly string[];
  /** [count]: indices into the data set's classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** Pixels a side of what the files are made into. */
  readonly imageSize: number;
  /** Pixels of the shorter side before the centre is cut out, in evaluation; at least `imageSize`. */
  readonly testResize: number;
  /** Width times height of the largest image that is decoded; that of `readImage` by default. */
  readonly maxPixels?: number | undefined;
}

/** The path of an image by its index. Throws `DataError` (DATA_ARGUMENT) for an index that is not there. */
export function pathOf(
  { root, folders, names, labels, count }: Pick<ImageFiles, 'root' | 'folders' | 'names' | 'labels' | 'count'>,
  index: number,
): string {
  const name = names[index];
  if (name === undefined) {
    throw new DataError('DATA_ARGUMENT', `there is no image ${index}: expected an index from 0 to ${count - 1}`);
  }
  return join(root, folders[labels[index]!]!, name);
}

/** Training or test images of a data set, in memory or on disk. */
export type DatasetPart = LabelledImages | ImageFiles;

/** Per channel, of pixel values scaled to 0..1. */
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
