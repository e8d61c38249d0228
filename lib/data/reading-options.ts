// Options that data sets have in common.
import type { FileChannels, ImageSize } from './image-size.js';
import type { BadImageOptions, Normalization } from './labelled-images.js';

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
  /** Pixels a side, or [height, width]. */
  readonly imageSize?: ImageSize | undefined;
  /** 3: red, green and blue; 1: grey, as in `readImage`. Default: 3. */
  readonly channels?: FileChannels | undefined;
  /**
   * Pixels that the shorter side of a test image is scaled to before its centre is cut out; default: `imageSize`. Of unequal
   * sides as `resize` of `readImage`.
   */
  readonly testResize?: number | undefined;
  /**
   * What images are normalised with. Default: ImageNet's mean and standard deviation for 3 channels; of grey images that of the
   * training images, of files that stay on disk of at most 10,000.
   */
  readonly normalization?: Normalization | undefined;
  /** Width times height of the largest image that is decoded; default: that of `readImage`. */
  readonly maxPixels?: number | undefined;
}
