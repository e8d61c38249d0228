import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { checkFiles } from './check-files.js';
import { type ListClassFoldersOptions, listClassFolders, surveyClassFolders } from './class-folders.js';
import { declareDataset, requireDataDir } from './declaration.js';
import { requireMaxPixels, requireResize, requireSide } from './image-file.js';
import type { Dataset, ImageFiles, Normalization } from './labelled-images.js';
import type { ImageFileOptions } from './reading-options.js';
import { readValidationLabels } from './validation-labels.js';

const DEFAULT_SIDE = 224;

/** Where Kaggle's archive has train/ and val/. */
const KAGGLE_FOLDER = join('ILSVRC', 'Data', 'CLS-LOC');

/** Mean and standard deviation of ImageNet's training images, as published with torchvision's models. */
export const IMAGENET_NORMALIZATION: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** `imageSize` is 224 by default. */
export interface ListImageNetOptions extends ImageFileOptions {
  /**
   * Holds train/ and val/ (or test/, where there is no val/), each with one folder a class, named by its WordNet id; or is
   * what Kaggle's archive unpacks to. val/ may hold all images itself, with a file of their classes (`readValidationLabels`)
   * beside it.
   */
  readonly dataDir: string;
}

/**
 * Lists the files of ImageNet, or of any data set laid out like it; none is opened. The classes are the folders of train/
 * in the order of their names, as in torchvision. Throws `DataError` as `listClassFolders` and `readValidationLabels` do,
 * and DATA_ARGUMENT for sizes.
 */
export async function listImageNet(options: ListImageNetOptions): Promise<Dataset<ImageFiles>> {
  const { dataDir, imageSize = DEFAULT_SIDE, testResize = imageSize, maxPixels, onBadImage, reportBadImage } = options;
  requireSide('the image size', imageSize);
  requireResize('testResize', testResize, imageSize);
  requireMaxPixels(maxPixels);
  const { trainLimit, testLimit, testOnly, signal } = options;
  const { classes, train, test } = await listClassFolders({
    ...(await layoutOf(dataDir)),
    ...{ trainLimit, testLimit, testOnly, signal },
  });
  const reading = { imageSize, testResize, maxPixels, onBadImage, reportBadImage };
  return {
    name: 'imagenet',
    title: 'ImageNet',
    classes,
    train: { ...train, ...reading },
    test: { ...test, ...reading },
    normalization: IMAGENET_NORMALIZATION,
  };
}

async function layoutOf(
  dataDir: string,
): Promise<Pick<ListClassFoldersOptions, 'dataDir' | 'testNames' | 'labelFlatTest'>> {
  const archive = join(dataDir, KAGGLE_FOLDER);
  const isArchive = !(await exists(join(dataDir, 'train'))) && (await exists(archive));
  const images = isArchive ? archive : dataDir;
  // Kaggle's label files lie where its archive was unpacked.
  const above = resolve(images, '..', '..', '..');
  const folders = resolve(above, KAGGLE_FOLDER) === resolve(images) ? [images, above] : [images];
  return {
    dataDir: images,
    testNames: ['val', 'test'],
    labelFlatTest: (test) => readValidationLabels(test, folders),
  };
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/**
 * Paper, section 4.2: random resized crops of 224 in training; shorter side to 256, centre crop in evaluation; 0.1, times 0.1 at
 * 20, 40; 45 epochs a layer; batch 256; weight decay 1e-4.
 */
export const imagenet = declareDataset({
  name: 'imagenet',
  title: 'ImageNet',
  source: 'directory',
  hasImageFiles: true,
  protocol: {
    imageSize: DEFAULT_SIDE,
    testResize: 256,
    augmentation: { cropPadding: 0, randomResizedCrop: true, horizontalFlip: true },
    training: {
      epochs: 45,
      batchSize: 256,
      learningRate: 0.1,
      milestones: [20, 40],
      decay: 0.1,
      momentum: 0.9,
      weightDecay: 1e-4,
    },
    evaluation: { batchSize: 256, ensemble: 'probabilities' },
  },
  load: async (options) => listImageNet({ ...options, dataDir: requireDataDir('imagenet', options) }),
  check: async ({ dataDir, signal, ...options }) =>
    checkFiles(await surveyClassFolders({ ...(await layoutOf(dataDir)), signal }), { signal, ...options }),
  download: null,
});
