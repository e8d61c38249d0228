import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { checkFiles } from './check-files.js';
import { type ListClassFoldersOptions, listClassFolders, surveyClassFolders } from './class-folders.js';
import { declareDataset, requireDataDir } from './declaration.js';
import { requireMaxPixels } from './image-file.js';
import { fileShapeOf } from './image-size.js';
import type { Dataset, ImageFiles } from './labelled-images.js';
import { normalizationOfPhotographs } from './normalization.js';
import type { ImageFileOptions } from './reading-options.js';
import { holdsShards } from './shard-format.js';
import { listShards, surveyShards } from './shard-set.js';
import { readValidationLabels } from './validation-labels.js';

const DEFAULT_SIDE = 224;

/** Where Kaggle's archive has train/ and val/. */
const KAGGLE_FOLDER = join('ILSVRC', 'Data', 'CLS-LOC');

/** `imageSize` is 224 by default. */
export interface ListImageNetOptions extends ImageFileOptions {
  /**
   * Holds train/ and val/ (or test/, where there is no val/), each with one folder a class, named by its WordNet id; or is
   * what Kaggle's archive unpacks to. val/ may hold all images itself, with a file of their classes (`readValidationLabels`)
   * beside it. Or it holds the shards of `prepareImages`, and may be the address of such a folder on a web server.
   */
  readonly dataDir: string;
}

/**
 * Lists the files of ImageNet, or of any data set laid out like it, or its shards; none is opened. The classes are the folders of train/
 * in the order of their names, as in torchvision. Of grey images at most 10,000 are decoded, for the normalisation. Throws
 * `DataError` as `listClassFolders` and `readValidationLabels` do, as `readImage` does for those, and DATA_ARGUMENT for sizes.
 */
export async function listImageNet(options: ListImageNetOptions): Promise<Dataset<ImageFiles>> {
  const { dataDir, imageSize = DEFAULT_SIDE, testResize, channels, maxPixels, onBadImage, reportBadImage } = options;
  const shape = fileShapeOf({ imageSize, testResize, channels });
  requireMaxPixels(maxPixels);
  const { trainLimit, testLimit, testOnly, signal } = options;
  const selection = { trainLimit, testLimit, testOnly, signal };
  const { classes, train, test } = (await holdsShards(dataDir))
    ? await listShards({ dataDir, ...selection })
    : await listClassFolders({ ...(await layoutOf(dataDir)), ...selection });
  const reading = { ...shape, maxPixels, onBadImage, reportBadImage };
  const training = { ...train, ...reading };
  return {
    name: 'imagenet',
    title: 'ImageNet',
    classes,
    train: training,
    test: { ...test, ...reading },
    normalization: await normalizationOfPhotographs(training, options),
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
  check: async ({ dataDir, signal, ...options }) => {
    const survey = (await holdsShards(dataDir))
      ? surveyShards({ dataDir, signal, onProgress: options.onProgress })
      : surveyClassFolders({ ...(await layoutOf(dataDir)), signal });
    return checkFiles(await survey, { signal, ...options });
  },
  download: null,
});
