import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { readCifar10 } from './cifar10.js';
import type { ClassFolderSurvey, ListedImages } from './class-folders.js';
import { DataError } from './errors.js';
import { surveyImageFolder } from './folder.js';
import { type DecodeOptions, decodeWhole, requireMaxPixels } from './image-file.js';
import { surveyImageNet } from './imagenet.js';
import { type LabelledImages, pathOf } from './labelled-images.js';
import { forEachIndex } from './parallel.js';

export interface CheckDatasetOptions extends DecodeOptions {
  readonly name: 'folder' | 'imagenet' | 'cifar10';
  readonly dataDir: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (progress: { done: number; total: number }) => void;
}

/** An image file and its pixels, upright. */
export interface ImageSize {
  readonly path: string;
  readonly width: number;
  readonly height: number;
}

export interface CheckedPart {
  readonly part: 'train' | 'test';
  readonly images: number;
  /** Images of each class, by its name. */
  readonly perClass: ReadonlyMap<string, number>;
}

export interface DatasetCheck {
  readonly name: string;
  readonly dataDir: string;
  /** Both parts; none where there was nothing to look into. */
  readonly parts: readonly CheckedPart[];
  /** All that is wrong: first the folders by name, then the files in the order of the list. */
  readonly problems: readonly DataError[];
  /** Test images whose file lies among the training images too, byte by byte. */
  readonly duplicates: readonly { readonly test: string; readonly train: string }[];
  /** System files and hidden names that were passed over. */
  readonly passedOver: number;
  /** By number of pixels; null without image files. */
  readonly smallest: ImageSize | null;
  readonly largest: ImageSize | null;
}

/**
 * Looks at a whole data set before it is used: every image file is decoded once, some at a time. What is wrong is listed,
 * not thrown. Throws `DataError`: DATA_ARGUMENT for a bad option, DATA_CANCELLED on `signal`.
 */
export async function checkDataset(options: CheckDatasetOptions): Promise<DatasetCheck> {
  const { name, dataDir, signal } = options;
  requireMaxPixels(options.maxPixels);
  try {
    if (name === 'cifar10') return await checkCifar10(dataDir, signal);
    const survey = await (name === 'folder' ? surveyImageFolder : surveyImageNet)({ dataDir, signal });
    return { name, dataDir, ...(await checkFiles(survey, options)) };
  } catch (error) {
    if (signal?.aborted) {
      throw new DataError('DATA_CANCELLED', 'checking the data set was cancelled', { cause: signal.reason });
    }
    if (!(error instanceof DataError)) throw error;
    return { ...{ name, dataDir, parts: [], problems: [error], duplicates: [] }, ...NO_FILES };
  }
}

const NO_FILES = { passedOver: 0, smallest: null, largest: null };

async function checkCifar10(dataDir: string, signal: AbortSignal | undefined): Promise<DatasetCheck> {
  const { classes, train, test } = await readCifar10({ dataDir, signal });
  const part = (name: CheckedPart['part'], { count, labels }: LabelledImages): CheckedPart => ({
    ...{ part: name, images: count },
    perClass: countBy(Array.from(labels, (label) => classes[label]!)),
  });
  const parts = [part('train', train), part('test', test)];
  return { ...{ name: 'cifar10', dataDir, parts, problems: [], duplicates: [] }, ...NO_FILES };
}

async function checkFiles(
  survey: ClassFolderSurvey,
  { maxPixels, signal, onProgress }: CheckDatasetOptions,
): Promise<Omit<DatasetCheck, 'name' | 'dataDir'>> {
  const { classes, train, test, passedOver } = survey;
  const problems = [...survey.problems];
  const total = train.count + test.count;
  let done = 0;
  let smallest: ImageSize | null = null;
  let largest: ImageSize | null = null;

  /** Decodes all files of a part; gives what `look` makes of the contents of the good ones. */
  const decodeAll = async (files: ListedImages, look: (path: string, digest: string) => void): Promise<void> => {
    const failures: DataError[] = [];
    const digests: string[] = [];
    await forEachIndex(
      files.count,
      async (index) => {
        const path = pathOf(files, index);
        try {
          const size = { path, ...(await decodeWhole(path, { maxPixels })) };
          if (smallest === null || pixels(size) < pixels(smallest)) smallest = size;
          if (largest === null || pixels(size) > pixels(largest)) largest = size;
          digests[index] = createHash('sha256')
            .update(await readFile(path))
            .digest('base64');
        } catch (error) {
          failures[index] =
            error instanceof DataError ? error : new DataError('DATA_UNREADABLE', String(error), { path });
        }
        onProgress?.({ done: ++done, total });
      },
      { signal },
    );
    // Sparse: only what is there is visited, in the order of the list.
    problems.push(...failures.filter(() => true));
    digests.forEach((digest, index) => void look(pathOf(files, index), digest));
  };

  const tested = new Map<string, string>();
  await decodeAll(test, (path, digest) => tested.set(digest, path));
  const duplicates: DatasetCheck['duplicates'][number][] = [];
  await decodeAll(train, (path, digest) => {
    const same = tested.get(digest);
    if (same !== undefined) duplicates.push({ test: same, train: path });
  });
  const part = (name: CheckedPart['part'], files: ListedImages): CheckedPart => ({
    ...{ part: name, images: files.count },
    perClass: countBy(Array.from(files.labels, (label) => classNameOf(files, classes, label))),
  });
  return { parts: [part('train', train), part('test', test)], problems, duplicates, passedOver, smallest, largest };
}

const pixels = ({ width, height }: ImageSize): number => width * height;

/** A part that lacks classes has labels of its own. */
function classNameOf({ folders }: ListedImages, classes: readonly string[], label: number): string {
  const folder = folders[label]!;
  return folder === '.' ? classes[label]! : folder.normalize('NFC');
}

function countBy(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
