// Options that data sets have in common.
import type { BadImageOptions } from './labelled-images.js';

/** Which images are read. */
export interface SelectionOptions {
  /** At most the first n images of the part; of class folders the first of each class, then the second of each. */
  readonly trainLimit?: number | undefined;
  readonly testLimit?: number | undefined;
  /** Reads the test images alone, which may be all that is there; default: false. */
  readonly testOnly?: boolean | undefined;
  /** Cancels the reading. */
  readonly signal?: AbortSignal | undefined;
}

/** What image files are made into, and what is done about those that cannot be used. */
export interface ImageFileOptions extends SelectionOptions, BadImageOptions {
  /** Pixels a side. */
  readonly imageSize?: number | undefined;
  /** Pixels that the shorter side of a test image is scaled to before its centre is cut out; default: `imageSize`. */
  readonly testResize?: number | undefined;
  /** Width times height of the largest image that is decoded; default: that of `readImage`. */
  readonly maxPixels?: number | undefined;
}
