import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from './errors.js';
import { isKind, requireImageName } from './image-file.js';
import type { ImageFiles } from './labelled-images.js';

export interface ListClassFoldersOptions {
  /** Holds train/ and a folder of test images, each with one folder a class. */
  readonly dataDir: string;
  /** Names of the folder of test images; the first that is there is taken. */
  readonly testNames: readonly [string, string];
  /** At most the first n images, which are spread over the classes: the first of each, then the second of each. */
  readonly trainLimit?: number | undefined;
  readonly testLimit?: number | undefined;
  /** Lists the test images alone, whose folders then name the classes; default: false. */
  readonly testOnly?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The image files of a part, as of `ImageFiles`. */
export type ListedImages = Pick<ImageFiles, 'root' | 'folders' | 'names' | 'labels' | 'count'>;

/**
 * Lists the JPEG and PNG files of a data set that lies in class folders, turn by turn over the classes. The classes are the
 * folders of train/ in the order of their names. Hidden files and folders are passed over. Only directories are read: a
 * file is known by its name.
 *
 * Throws `DataError` naming the path: DATA_NOT_FOUND for a missing or empty folder, DATA_CORRUPT for a class that one of the
 * parts lacks, DATA_UNSUPPORTED for a file of another kind, DATA_CANCELLED on `signal`.
 */
export async function listClassFolders(
  options: ListClassFoldersOptions,
): Promise<{ classes: readonly string[]; train: ListedImages; test: ListedImages }> {
  const { dataDir, testNames, trainLimit, testLimit, testOnly = false, signal } = options;
  const trainDir = join(dataDir, 'train');
  const testDir = await findTestDir(dataDir, testNames);
  if (testOnly) {
    const classes = await classFolders(testDir);
    const none = { root: trainDir, folders: classes, names: [], labels: new Uint8Array(0), count: 0 };
    return { classes, train: none, test: await listImages(testDir, classes, testLimit, signal) };
  }
  const classes = await classFolders(trainDir);
  requireSameClasses(trainDir, classes, testDir, await classFolders(testDir));
  const train = await listImages(trainDir, classes, trainLimit, signal);
  const test = await listImages(testDir, classes, testLimit, signal);
  return { classes, train, test };
}

async function findTestDir(dataDir: string, names: readonly [string, string]): Promise<string> {
  for (const name of names) {
    const dir = join(dataDir, name);
    if (await isKind(dir, 'isDirectory')) return dir;
  }
  const [first, second] = names;
  throw new DataError(
    'DATA_NOT_FOUND',
    `${dataDir} has no folder ${first}/ (or ${second}/): expected train/CLASS/*.jpg and ${first}/CLASS/*.jpg`,
  );
}

async function classFolders(dir: string): Promise<string[]> {
  const entries = await reading(dir, () => readdir(dir, { withFileTypes: true }));
  const folders = entries.filter(({ name }) => !name.startsWith('.')).sort((a, b) => (a.name < b.name ? -1 : 1));
  if (folders.length === 0) throw new DataError('DATA_NOT_FOUND', `${dir} has no folders: expected one a class`);
  for (const entry of folders) {
    if (!(await isFolder(dir, entry))) {
      throw new DataError('DATA_UNSUPPORTED', `${join(dir, entry.name)} is no folder: expected one folder a class`);
    }
  }
  return folders.map(({ name }) => name);
}

/** A file is told from a folder by the listing; a link, and what the file system does not tell, is looked at. */
async function isFolder(dir: string, entry: Dirent): Promise<boolean> {
  return entry.isDirectory() || (!entry.isFile() && (await isKind(join(dir, entry.name), 'isDirectory')));
}

function requireSameClasses(
  trainDir: string,
  train: readonly string[],
  testDir: string,
  test: readonly string[],
): void {
  const [inTrain, inTest] = [new Set(train), new Set(test)];
  const missing = train.filter((name) => !inTest.has(name));
  const extra = test.filter((name) => !inTrain.has(name));
  if (missing.length > 0)
    throw new DataError('DATA_CORRUPT', `${testDir} lacks the class ${quoted(missing)} of ${trainDir}`);
  if (extra.length > 0)
    throw new DataError('DATA_CORRUPT', `${testDir} has the class ${quoted(extra)}, which ${trainDir} lacks`);
}

/** The images of a part, turn by turn over the classes, so that the first n are of all of them. */
async function listImages(
  root: string,
  classes: readonly string[],
  limit = Number.POSITIVE_INFINITY,
  signal?: AbortSignal,
): Promise<ListedImages> {
  const byClass = await Promise.all(
    classes.map(async (folder) => {
      throwIfCancelled(signal);
      const dir = join(root, folder);
      const files = await visibleNames(dir);
      if (files.length === 0) throw new DataError('DATA_NOT_FOUND', `${dir} holds no images`);
      for (const file of files) requireImageName(join(dir, file));
      return files;
    }),
  );
  const count = Math.min(
    limit,
    byClass.reduce((sum, files) => sum + files.length, 0),
  );
  const names: string[] = [];
  const labels = classes.length <= 256 ? new Uint8Array(count) : new Int32Array(count);
  for (let turn = 0; names.length < count; turn++) {
    for (let label = 0; label < byClass.length && names.length < count; label++) {
      const name = byClass[label]![turn];
      if (name === undefined) continue;
      labels[names.length] = label;
      names.push(name);
    }
  }
  return { root, folders: classes, names, labels, count };
}

/** Sorted by code unit, so that the order is no locale's. */
async function visibleNames(dir: string): Promise<string[]> {
  const names = await reading(dir, () => readdir(dir));
  return names.filter((name) => !name.startsWith('.')).sort();
}

async function reading<T>(dir: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new DataError('DATA_NOT_FOUND', `there is no folder ${dir}`, { cause: error });
  }
}

export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new DataError('DATA_CANCELLED', 'loading the data set was cancelled', { cause: signal.reason });
  }
}

function quoted(names: readonly string[]): string {
  const more = names.length > 3 ? ` and ${names.length - 3} more` : '';
  return (
    names
      .slice(0, 3)
      .map((name) => `'${name}'`)
      .join(', ') + more
  );
}
