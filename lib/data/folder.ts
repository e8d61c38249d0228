import { ReadableImages } from './bad-images.js';
import { checkFiles } from './check-files.js';
import { type ListedImages, listClassFolders, surveyClassFolders } from './class-folders.js';
import { declareDataset, requireDataDir } from './declaration.js';
import { decodeCentre, planar, requireMaxPixels, requireResize, requireSide } from './image-file.js';
import { IMAGENET_NORMALIZATION } from './imagenet.js';
import type { BadImageOptions, Dataset, LabelledImages } from './labelled-images.js';
import { requireMemory } from './memory.js';
import { forEachIndex } from './parallel.js';
import { SMALL_IMAGE_PROTOCOL } from './protocols.js';
import type { ImageFileOptions } from './reading-options.js';

const DEFAULT_SIDE = 32;
const TEST_NAMES = ['test', 'val'] as const;

/** `imageSize` is 32 by default. */
export interface ReadImageFolderOptions extends ImageFileOptions {
  /** Holds train/ and test/ (or val/, where there is no test/), each with one folder a class. */
  readonly dataDir: string;
}

/**
 * Reads JPEG and PNG files into memory at one size, as `readImage` does: [n, 3, imageSize, imageSize]. Classes and files
 * are as of `listClassFolders`.
 *
 * Throws `DataError` as `listClassFolders`, `ReadableImages` and `readImage` do, and DATA_ARGUMENT for images that memory
 * cannot hold, before any is read.
 */
export async function readImageFolder(options: ReadImageFolderOptions): Promise<Dataset<LabelledImages>> {
  const { dataDir, imageSize = DEFAULT_SIDE, testResize = imageSize, maxPixels, signal, ...others } = options;
  const { trainLimit, testLimit, testOnly, ...badImages } = others;
  requireSide('the image size', imageSize);
  requireResize('testResize', testResize, imageSize);
  requireMaxPixels(maxPixels);
  const { classes, train, test } = await listClassFolders({
    ...{ dataDir, testNames: TEST_NAMES, trainLimit, testLimit, testOnly, signal },
  });
  requireMemory({
    what: `${train.count} training and ${test.count} test images of ${imageSize} x ${imageSize} pixels`,
    bytes: [train, test].map(({ count }) => count * 3 * imageSize ** 2),
    instead:
      'take --dataset imagenet, which reads the same folders image by image while it trains, or fewer or smaller images',
  });
  const sizes = { imageSize, maxPixels, signal };
  return {
    name: 'folder',
    title: dataDir,
    classes,
    train: await readImages({ ...train, ...badImages }, { ...sizes, resize: imageSize }),
    test: await readImages({ ...test, ...badImages }, { ...sizes, resize: testResize }),
    // What photographs are usually normalised with.
    normalization: IMAGENET_NORMALIZATION,
  };
}

async function readImages(
  files: ListedImages & BadImageOptions,
  {
    imageSize: size,
    resize,
    maxPixels,
    signal,
  }: Pick<ReadImageFolderOptions, 'maxPixels' | 'signal'> & { imageSize: number; resize: number },
): Promise<LabelledImages> {
  const { labels, count } = files;
  const imageLength = 3 * size * size;
  const images = new Uint8Array(count * imageLength);
  const readable = new ReadableImages(files);
  await forEachIndex(
    count,
    async (index) => {
      const pixels = await readable.read(index, (file) => decodeCentre(file, size, resize, { maxPixels }));
      images.set(planar(pixels, size * size), index * imageLength);
    },
    { signal },
  );
  return { images, labels, count, channels: 3, height: size, width: size };
}

/** A folder of small images, one folder a class. */
export const folder = declareDataset({
  name: 'folder',
  title: 'a folder of images',
  source: 'directory',
  hasImageFiles: true,
  protocol: SMALL_IMAGE_PROTOCOL,
  load: async (options) => readImageFolder({ ...options, dataDir: requireDataDir('folder', options) }),
  check: async ({ dataDir, signal, ...options }) =>
    checkFiles(await surveyClassFolders({ dataDir, signal, testNames: TEST_NAMES }), { signal, ...options }),
  download: null,
});
