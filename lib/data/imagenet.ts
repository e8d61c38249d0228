import { listClassFolders } from './class-folders.js';
import { requireResize, requireSide } from './image-file.js';
import type { Dataset, ImageFiles, Normalization } from './labelled-images.js';

const DEFAULT_SIDE = 224;

/** Mean and standard deviation of ImageNet's training images, as published with torchvision's models. */
export const IMAGENET_NORMALIZATION: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

export interface ListImageNetOptions {
  /** Holds train/ and val/ (or test/, where there is no val/), each with one folder a class, named by its WordNet id. */
  readonly dataDir: string;
  /** At most the first n images, which are spread over the classes: the first of each, then the second of each. */
  readonly trainLimit?: number | undefined;
  readonly testLimit?: number | undefined;
  /** Reads the test images alone; default: false. */
  readonly testOnly?: boolean | undefined;
  /** Pixels a side; 224 by default. */
  readonly imageSize?: number | undefined;
  /** Pixels that the shorter side is scaled to before the centre is cut out, in evaluation; `imageSize` by default. */
  readonly testResize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Lists the files of ImageNet, or of any data set laid out like it; none is opened. The classes are the folders of train/
 * in the order of their names, as in torchvision. Throws `DataError` as `listClassFolders` does, and DATA_ARGUMENT for sizes.
 */
export async function listImageNet(options: ListImageNetOptions): Promise<Dataset<ImageFiles>> {
  const { dataDir, imageSize = DEFAULT_SIDE, testResize = imageSize, signal, ...limits } = options;
  requireSide('the image size', imageSize);
  requireResize('testResize', testResize, imageSize);
  const { classes, train, test } = await listClassFolders({ dataDir, testNames: ['val', 'test'], signal, ...limits });
  return {
    name: 'imagenet',
    title: 'ImageNet',
    classes,
    train: { ...train, imageSize, testResize },
    test: { ...test, imageSize, testResize },
    normalization: IMAGENET_NORMALIZATION,
  };
}
