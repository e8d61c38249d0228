// Image files that the caller lists.
import { resolve } from 'node:path';
import { shown } from '../schema.js';
import { DataError } from './errors.js';
import type { FileShape } from './image-size.js';
import type { BadImageOptions, ImageFiles } from './labelled-images.js';
import { labelsOf } from './own-labels.js';

/** Paths of JPEG and PNG files, and the class of each by its label or its name. */
export interface ImageListing {
  /** Relative ones are of the working directory. */
  readonly files: readonly string[];
  readonly labels: ArrayLike<number | string>;
}

export interface ListingOptions extends BadImageOptions {
  /** Of the part, for messages: "data.train". */
  readonly name: string;
  readonly classes: readonly string[];
  readonly shape: FileShape;
  readonly testResize: number;
  readonly maxPixels?: number | undefined;
  readonly limit?: number | undefined;
}

/** Throws `DataError` (DATA_ARGUMENT) that names the part and the index of what is no path or no label. */
export function listedImages({ files, labels }: ImageListing, options: ListingOptions): ImageFiles {
  const { name, classes, shape, limit, ...others } = options;
  if (!Array.isArray(files) || files.length === 0) {
    throw new DataError('DATA_ARGUMENT', `${name}.files: expected at least one path in an array, got ${shown(files)}`);
  }
  const names = files.slice(0, limit).map((file: unknown, index) => {
    if (typeof file === 'string' && file !== '') return resolve(file);
    throw new DataError('DATA_ARGUMENT', `${name}.files[${index}]: expected a path, got ${shown(file)}`);
  });
  const all = labelsOf(labels, { name: `${name}.labels`, count: files.length, classes });
  return {
    ...{ ...others, ...shape, names, labels: all.subarray(0, limit), count: names.length },
    // Each name is a whole path.
    root: '/',
    folders: classes.map(() => '.'),
  };
}
