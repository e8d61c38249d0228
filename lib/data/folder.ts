import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type ListedImages, listClassFolders, throwIfCancelled } from './class-folders.js';
import { readImage, requireResize, requireSide } from './image-file.js';
import { IMAGENET_NORMALIZATION } from './imagenet.js';
import type { Dataset, LabelledImages } from './labelled-images.js';

const DEFAULT_SIDE = 32;

export interface ReadImageFolderOptions {
  /** Holds train/ and test/ (or val/, where there is no test/), each with one folder a class. */
  readonly dataDir: string;
  /** At most the first n images, which are spread over the classes: the first of each, then the second of each. */
  readonly trainLimit?: number | undefined;
  readonly testLimit?: number | undefined;
  /** Reads the test images alone; default: false. */
  readonly testOnly?: boolean | undefined;
  /** Pixels a side; 32 by default. */
  readonly imageSize?: number | undefined;
  /** Pixels that the shorter side of a test image is scaled to before its centre is cut out; `imageSize` by default. */
  readonly testResize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads JPEG and PNG files into memory at one size, as `readImage` does: [n, 3, imageSize, imageSize]. The classes are the
 * folders of train/ in the order of their names. Hidden files and folders are passed over.
 *
 * Throws `DataError` as `listClassFolders` and `readImage` do.
 */
export async function readImageFolder(options: ReadImageFolderOptions): Promise<Dataset<LabelledImages>> {
  const { dataDir, imageSize = DEFAULT_SIDE, testResize = imageSize, signal, ...limits } = options;
  requireSide('the image size', imageSize);
  requireResize('testResize', testResize, imageSize);
  const { classes, train, test } = await listClassFolders({ dataDir, testNames: ['test', 'val'], signal, ...limits });
  return {
    name: 'folder',
    title: dataDir,
    classes,
    train: await readImages(train, imageSize, imageSize, signal),
    test: await readImages(test, imageSize, testResize, signal),
    // What photographs are usually normalised with.
    normalization: IMAGENET_NORMALIZATION,
  };
}

async function readImages(
  { root, folders, names, labels, count }: ListedImages,
  size: number,
  resize: number,
  signal: AbortSignal | undefined,
): Promise<LabelledImages> {
  const imageLength = 3 * size * size;
  const images = new Uint8Array(count * imageLength);
  let next = 0;
  let failed = false;
  const decodeInTurn = async () => {
    while (next < count && !failed) {
      throwIfCancelled(signal);
      const at = next++;
      const file = join(root, folders[labels[at]!]!, names[at]!);
      images.set(await readImage(file, size, { resize }), at * imageLength);
    }
  };
  const stopOthers = (error: unknown) => {
    failed = true;
    throw error;
  };
  // sharp decodes on its own threads: a few at a time keep them busy without holding many decoded photographs.
  const workers = Array.from({ length: 2 * availableParallelism() }, () => decodeInTurn().catch(stopOthers));
  const outcomes = await Promise.allSettled(workers);
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure) throw failure.reason;
  return { images, labels, count, channels: 3, height: size, width: size };
}
