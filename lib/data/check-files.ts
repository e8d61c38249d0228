import type { ClassFolderSurvey } from './class-folders.js';
import { DataError } from './errors.js';
import { type DecodeOptions, decodeWhole } from './image-file.js';
import { placeOf } from './image-place.js';
import { type Dataset, type LabelledImages, type ListedImages, pathOf } from './labelled-images.js';
import { forEachIndex } from './parallel.js';

export interface CheckFilesOptions extends DecodeOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (progress: CheckProgress) => void;
}

export interface CheckProgress {
  /** Archives of shards on disk are compared with their digests before their images are decoded. */
  readonly doing: 'comparing' | 'decoding';
  /** Images; of an archive that is being compared as large a part as of its bytes. */
  readonly done: number;
  readonly total: number;
}

/** An image file and its pixels, upright. */
export interface SizedFile {
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

/** What was found in the files of a data set. */
export interface CheckedFiles {
  /** Both parts; none where there was nothing to look into. */
  readonly parts: readonly CheckedPart[];
  /** All that is wrong: first the folders by name, then the files in the order of the list. */
  readonly problems: readonly DataError[];
  /** Test images whose file lies among the training images too, byte by byte. */
  readonly duplicates: readonly { readonly test: string; readonly train: string }[];
  /** System files and hidden names that were passed over. */
  readonly passedOver: number;
  /** By number of pixels; null without image files. */
  readonly smallest: SizedFile | null;
  readonly largest: SizedFile | null;
}

/** Where there are no image files. */
export const NO_FILES = { passedOver: 0, smallest: null, largest: null };

/** Of images that are read as one file or a few: that they could be read is the check. */
export function checkedInMemory({ classes, train, test }: Dataset<LabelledImages>): CheckedFiles {
  const part = (name: CheckedPart['part'], { count, labels }: LabelledImages): CheckedPart => ({
    ...{ part: name, images: count },
    perClass: countBy(Array.from(labels, (label) => classes[label]!)),
  });
  return { ...{ parts: [part('train', train), part('test', test)], problems: [], duplicates: [] }, ...NO_FILES };
}

/** Decodes every file of a survey once, some at a time. What is wrong is listed, not thrown. */
export async function checkFiles(
  survey: ClassFolderSurvey,
  { maxPixels, signal, onProgress }: CheckFilesOptions,
): Promise<CheckedFiles> {
  const { classes, train, test, passedOver } = survey;
  const problems = [...survey.problems];
  const total = train.count + test.count;
  let done = 0;
  let smallest: SizedFile | null = null;
  let largest: SizedFile | null = null;

  /** Decodes all files of a part; gives what `look` makes of the contents of the good ones. */
  const decodeAll = async (files: ListedImages, look: (path: string, digest: string) => void): Promise<void> => {
    const failures: DataError[] = [];
    const digests: string[] = [];
    await forEachIndex(
      files.count,
      async (index) => {
        const path = pathOf(files, index);
        try {
          const { digest, ...sides } = await decodeWhole(placeOf(files, index), { maxPixels, signal });
          const size = { path, ...sides };
          if (smallest === null || pixels(size) < pixels(smallest)) smallest = size;
          if (largest === null || pixels(size) > pixels(largest)) largest = size;
          digests[index] = digest;
        } catch (error) {
          failures[index] =
            error instanceof DataError ? error : new DataError('DATA_UNREADABLE', String(error), { path });
        }
        onProgress?.({ doing: 'decoding', done: ++done, total });
      },
      { signal },
    );
    // Sparse: only what is there is visited, in the order of the list.
    failures.forEach((failure) => void problems.push(failure));
    digests.forEach((digest, index) => void look(pathOf(files, index), digest));
  };

  const tested = new Map<string, string>();
  await decodeAll(test, (path, digest) => tested.set(digest, path));
  const duplicates: CheckedFiles['duplicates'][number][] = [];
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

const pixels = ({ width, height }: SizedFile): number => width * height;

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
