import { ReadableImages } from './bad-images.js';
import { checkFiles } from './check-files.js';
import { listClassFolders, surveyClassFolders } from './class-folders.js';
import { declareDataset, requireDataDir } from './declaration.js';
import { decodeCentre, planar, requireMaxPixels } from './image-file.js';
import { type FileShape, fileShapeOf } from './image-size.js';
import type { BadImageOptions, Dataset, LabelledImages, ListedImages } from './labelled-images.js';
import { requireMemory } from './memory.js';
import { normalizationOfPhotographs } from './normalization.js';
import { forEachIndex } from './parallel.js';
import { SMALL_IMAGE_PROTOCOL } from './protocols.js';
import type { ImageFileOptions } from './reading-options.js';
import { imageLengthOf } from './stored-images.js';

const DEFAULT_SIDE = 32;
const TEST_NAMES = ['test', 'val'] as const;

/** `imageSize` is 32 by default. */
export interface ReadImageFolderOptions extends ImageFileOptions {
  /** Holds train/ and test/ (or val/, where there is no test/), each with one folder a class. */
  readonly dataDir: string;
}

/**
 * Reads JPEG and PNG files into memory at one size, as `readImage` does: [n, channels, height, width]. Classes and files
 * are as of `listClassFolders`.
 *
 * Throws `DataError` as `listClassFolders`, `ReadableImages` and `readImage` do, and DATA_ARGUMENT for images that memory
 * cannot hold, before any is read.
 */
export async function readImageFolder(options: ReadImageFolderOptions): Promise<Dataset<LabelledImages>> {
  const { dataDir, imageSize = DEFAULT_SIDE, maxPixels, signal, onBadImage, reportBadImage } = options;
  const { trainLimit, testLimit, testOnly } = options;
  const { testResize, ...shape } = fileShapeOf({ ...options, imageSize });
  requireMaxPixels(maxPixels);
  const { classes, train, test } = await listClassFolders({
    ...{ dataDir, testNames: TEST_NAMES, trainLimit, testLimit, testOnly, signal },
  });
  requireMemory({
    what: `${train.count} training and ${test.count} test images of ${shape.height} x ${shape.width} pixels`,
    bytes: [train, test].map(({ count }) => count * imageLengthOf(shape)),
    instead:
      'take --dataset imagenet, which reads the same folders image by image while it trains, or fewer or smaller images',
  });
  const reading = { onBadImage, reportBadImage, maxPixels, signal };
  const resize = Math.min(shape.height, shape.width);
  const images = await readImages({ ...train, ...reading }, shape, resize);
  return {
    name: 'folder',
    title: dataDir,
    classes,
    train: images,
    test: await readImages({ ...test, ...reading }, shape, testResize),
    normalization: await normalizationOfPhotographs(images, options),
  };
}

async function readImages(
  files: ListedImages & BadImageOptions & Pick<ReadImageFolderOptions, 'maxPixels' | 'signal'>,
  shape: FileShape,
  resize: number,
): Promise<LabelledImages> {
  const { labels, count, maxPixels, signal } = files;
  const imageLength = imageLengthOf(shape);
  const images = new Uint8Array(count * imageLength);
  const readable = new ReadableImages(files);
  await forEachIndex(
    count,
    async (index) => {
      const pixels = await readable.read(index, (file) => decodeCentre(file, shape, resize, { maxPixels }));
      images.set(planar(pixels, shape), index * imageLength);
    },
    { signal },
  );
  return { ...shape, images, labels, count };
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
