import { isUtf8 } from 'node:buffer';
import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { shown } from '../format.js';
import { DataError, throwIfCancelled } from './errors.js';
import { fileSystemError, shownBytes } from './file-errors.js';
import { readFileKind } from './file-kind.js';
import type { ListedImages } from './labelled-images.js';
import { forEachIndex } from './parallel.js';
import type { SelectionOptions } from './reading-options.js';
import { holdsShards } from './shard-format.js';

/** Files of these names are images by their name; one without any is looked into. */
export const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set(['.jpg', '.jpeg', '.jpe', '.jfif', '.png']);

/** What operating systems, archivers and network drives leave in folders, in lower case; hidden names are passed over too. */
const SYSTEM_NAMES: ReadonlySet<string> = new Set([
  ...['thumbs.db', 'ehthumbs.db', 'ehthumbs_vista.db', 'desktop.ini', '$recycle.bin', 'system volume information'],
  ...['icon\r', '__macosx', '@eadir', '#recycle', '@recycle', '@recently-snapshot', '#snapshot', 'lost+found'],
]);

/** Problems that an error's message names. */
const NAMED_PROBLEMS = 5;

/** With `testOnly` the folders of the test images name the classes. */
export interface ListClassFoldersOptions extends SelectionOptions {
  /** Holds train/ and a folder of test images, each with one folder a class. */
  readonly dataDir: string;
  /** Names of the folder of test images; the first that is there is taken. */
  readonly testNames: readonly [string, string];
  /** The class, by index, of each file of a test folder without class folders; such a folder is refused by default. */
  readonly labelFlatTest?: (test: FlatFolder) => Promise<readonly number[]>;
}

/** A folder of images of all classes. */
export interface FlatFolder {
  readonly dir: string;
  readonly names: readonly string[];
  /** In Unicode's composed form (NFC). */
  readonly classes: readonly string[];
}

export interface ListedClassFolders {
  readonly classes: readonly string[];
  readonly train: ListedImages;
  readonly test: ListedImages;
}

/** What was found, with all that is wrong. */
export interface ClassFolderSurvey extends ListedClassFolders {
  readonly problems: readonly DataError[];
  /** System files and hidden names that were passed over. */
  readonly passedOver: number;
}

/**
 * Lists the image files of a data set that lies in class folders, turn by turn over the classes. The classes are the
 * folders of train/ in the order of their names, both in Unicode's composed form (NFC). Only directories are read: a name
 * that ends in .jpg, .jpeg, .jpe, .jfif or .png is taken to be an image, and one without an extension where it begins as one.
 * Hidden names and system files (Thumbs.db and the like) are passed over.
 *
 * Throws `DataError` naming all that is wrong, with the code of the first: DATA_NOT_FOUND for a missing or empty folder,
 * DATA_UNREADABLE, DATA_CORRUPT for a class that one of the parts lacks or that is there twice, DATA_UNSUPPORTED for what
 * else lies there and for names that are not UTF-8; DATA_CANCELLED on `signal`.
 */
export async function listClassFolders(options: ListClassFoldersOptions): Promise<ListedClassFolders> {
  const { problems, classes, train, test } = await surveyClassFolders(options);
  requireNone(options.dataDir, problems);
  return { classes, train, test };
}

/** The same, with what is wrong in a list. Throws where there are no folders to look into, and on `signal`. */
export async function surveyClassFolders(options: ListClassFoldersOptions): Promise<ClassFolderSurvey> {
  const { dataDir, testNames, trainLimit, testLimit, testOnly = false, signal, labelFlatTest } = options;
  const survey = new Survey(signal);
  const trainDir = join(dataDir, 'train');
  const testDir = await findTestDir(dataDir, testNames);
  const testEntries = await survey.read(testDir);
  const isFlat = labelFlatTest !== undefined && !testEntries.some(({ type }) => type === 'folder');
  // Images without class folders do not say which classes there are.
  const [classesDir, entries] = testOnly && !isFlat ? [testDir, testEntries] : [trainDir, await survey.read(trainDir)];
  const folders = survey.classFolders(classesDir, entries);
  const classes = [...folders.keys()];
  const train = testOnly
    ? [...folders.values()].map((folder) => ({ folder, names: [] }))
    : await survey.images(trainDir, [...folders.values()]);
  const test = isFlat
    ? await survey.flatImages(testDir, testEntries, classes, labelFlatTest)
    : await survey.images(
        testDir,
        testOnly ? [...folders.values()] : survey.sameClasses(trainDir, folders, testDir, testEntries),
      );
  return {
    classes,
    train: turnByTurn(trainDir, train, trainLimit),
    test: turnByTurn(testDir, test, testLimit),
    problems: survey.problems,
    passedOver: survey.passedOver,
  };
}

/** One error of all problems; none where there are none. */
function requireNone(dataDir: string, problems: readonly DataError[]): void {
  const [first] = problems;
  if (first === undefined) return;
  if (problems.length === 1) throw first;
  const named = problems.slice(0, NAMED_PROBLEMS).map(({ message }) => message);
  const more = problems.length > NAMED_PROBLEMS ? `; and ${problems.length - NAMED_PROBLEMS} more` : '';
  throw new DataError(
    first.code,
    `${shown(dataDir)}: ${problems.length} things are wrong (layerwise data check lists them all): ${named.join('; ')}${more}`,
    { cause: first },
  );
}

async function findTestDir(dataDir: string, names: readonly [string, string]): Promise<string> {
  for (const name of names) {
    const dir = join(dataDir, name);
    try {
      await stat(dir);
      return dir;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT') throw fileSystemError(code === 'ENOTDIR' ? dataDir : dir, error, 'folder');
    }
  }
  await requireNoShards(dataDir);
  await requireFolder(dataDir);
  const [first, second] = names;
  throw new DataError(
    'DATA_NOT_FOUND',
    `${shown(dataDir)} has no folder ${first}/ (or ${second}/): expected train/CLASS/*.jpg and ${first}/CLASS/*.jpg`,
  );
}

async function requireFolder(dir: string): Promise<void> {
  await stat(dir).catch((error: unknown) => {
    throw fileSystemError(dir, error, 'folder');
  });
}

async function requireNoShards(dataDir: string): Promise<void> {
  if (!(await holdsShards(dataDir))) return;
  throw new DataError(
    'DATA_UNSUPPORTED',
    `${shown(dataDir)} holds shards, as of layerwise data prepare: expected folders; --dataset imagenet reads shards`,
    { path: dataDir },
  );
}

interface Entry {
  readonly name: string;
  readonly type: 'folder' | 'file';
}

/** The images of a class, in a folder of the part's. */
interface ClassImages {
  readonly folder: string;
  readonly names: readonly string[];
}

/** Reads folders and gathers what is wrong in them. */
class Survey {
  readonly problems: DataError[] = [];
  passedOver = 0;
  readonly #signal: AbortSignal | undefined;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** What lies in a folder and is looked at, by name in the order of code units, which is no locale's. */
  async read(dir: string): Promise<Entry[]> {
    throwIfCancelled(this.#signal);
    let found: Dirent<Buffer>[];
    try {
      found = await readdir(dir, { withFileTypes: true, encoding: 'buffer' });
    } catch (error) {
      throw fileSystemError(dir, error, 'folder');
    }
    const entries: Entry[] = [];
    for (const dirent of found) {
      if (!isUtf8(dirent.name)) {
        this.#unsupported(join(dir, shownBytes(dirent.name)), 'has a name that is not UTF-8: rename it');
        continue;
      }
      const name = dirent.name.toString();
      if (name.startsWith('.') || SYSTEM_NAMES.has(name.toLowerCase())) this.passedOver++;
      else if (dirent.isDirectory()) entries.push({ name, type: 'folder' });
      else if (dirent.isFile()) entries.push({ name, type: 'file' });
      else await this.#attempt(async () => entries.push({ name, type: await typeOf(join(dir, name)) }));
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The folder of each class, by the class's name. */
  classFolders(dir: string, entries: readonly Entry[]): Map<string, string> {
    const folders = new Map<string, string>();
    for (const { name, type } of entries) {
      const path = join(dir, name);
      const normal = name.normalize('NFC');
      const same = folders.get(normal);
      if (type === 'file') this.#unsupported(path, 'is no folder: expected one folder a class');
      else if (same === undefined) folders.set(normal, name);
      else
        this.#corrupt(path, `and another folder are the same class '${shown(normal)}', written in two Unicode forms`);
    }
    if (folders.size === 0 && this.problems.length === 0) {
      this.problems.push(
        new DataError('DATA_NOT_FOUND', `${shown(dir)} has no folders: expected one a class`, { path: dir }),
      );
    }
    return new Map([...folders].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The folders of the test images in the order of the classes. */
  sameClasses(
    trainDir: string,
    train: ReadonlyMap<string, string>,
    testDir: string,
    testEntries: readonly Entry[],
  ): string[] {
    const test = this.classFolders(testDir, testEntries);
    const missing = [...train.keys()].filter((name) => !test.has(name));
    const extra = [...test.keys()].filter((name) => !train.has(name));
    if (missing.length > 0) this.#corrupt(testDir, `lacks the class ${quoted(missing)} of ${shown(trainDir)}`);
    if (extra.length > 0) {
      this.#corrupt(testDir, `has the class ${quoted(extra)}, which ${shown(trainDir)} lacks`);
    }
    return [...train.keys()].flatMap((name) => test.get(name) ?? []);
  }

  /** The images in each class folder. */
  async images(root: string, folders: readonly string[]): Promise<ClassImages[]> {
    const classes: ClassImages[] = folders.map((folder) => ({ folder, names: [] }));
    const problemsOf: DataError[][] = [];
    await forEachIndex(
      folders.length,
      async (label) => {
        const dir = join(root, folders[label]!);
        // Gathered folder by folder, so that the order is that of the names.
        const folder = new Survey(this.#signal);
        problemsOf[label] = folder.problems;
        await folder.#attempt(async () => {
          const names = await folder.imageNames(dir, await folder.read(dir));
          classes[label] = { folder: folders[label]!, names };
          if (names.length > 0 || folder.problems.length > 0) return;
          throw new DataError('DATA_NOT_FOUND', `${shown(dir)} holds no images`, { path: dir });
        });
        this.passedOver += folder.passedOver;
      },
      { signal: this.#signal },
    );
    for (const problem of problemsOf.flat()) this.problems.push(problem);
    return classes;
  }

  /** The images of a folder that has none for the classes, as `ClassImages`. */
  async flatImages(
    dir: string,
    entries: readonly Entry[],
    classes: readonly string[],
    labelOf: (test: FlatFolder) => Promise<readonly number[]>,
  ): Promise<ClassImages[]> {
    const byClass = classes.map(() => ({ folder: '.', names: [] as string[] }));
    await this.#attempt(async () => {
      const names = await this.imageNames(dir, entries);
      if (names.length === 0) throw new DataError('DATA_NOT_FOUND', `${shown(dir)} holds no images`, { path: dir });
      const labels = await labelOf({ dir, names, classes });
      names.forEach((name, at) => void byClass[labels[at]!]!.names.push(name));
    });
    return byClass;
  }

  async imageNames(dir: string, entries: readonly Entry[]): Promise<string[]> {
    const names: string[] = [];
    for (const { name, type } of entries) {
      const path = join(dir, name);
      const extension = extname(name);
      if (type === 'folder') {
        this.#unsupported(path, 'is a folder: expected images, each in the folder of its class');
      } else if (IMAGE_EXTENSIONS.has(extension.toLowerCase())) {
        names.push(name);
      } else if (extension === '') {
        throwIfCancelled(this.#signal);
        await this.#attempt(async () => {
          const kind = await readFileKind(path);
          if (kind.isRead) names.push(name);
          else this.#unsupported(path, `is ${kind.name}: expected a JPEG or PNG image`);
        });
      } else {
        this.#unsupported(path, `is not read: expected ${[...IMAGE_EXTENSIONS].join(', ')} or no extension`);
      }
    }
    return names;
  }

  async #attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof DataError) || error.code === 'DATA_CANCELLED') throw error;
      this.problems.push(error);
    }
  }

  #unsupported(path: string, what: string): void {
    this.problems.push(new DataError('DATA_UNSUPPORTED', `${shown(path)} ${what}`, { path }));
  }

  #corrupt(path: string, what: string): void {
    this.problems.push(new DataError('DATA_CORRUPT', `${shown(path)} ${what}`, { path }));
  }
}

/** Where a link leads, and what the listing did not tell. */
async function typeOf(path: string): Promise<Entry['type']> {
  const found = await stat(path).catch((error: unknown) => {
    throw fileSystemError(path, error, 'file');
  });
  if (found.isDirectory()) return 'folder';
  if (found.isFile()) return 'file';
  throw new DataError('DATA_UNSUPPORTED', `${shown(path)} is a device, pipe or socket: expected a file or folder`, {
    path,
  });
}

/** The images of a part, turn by turn over the classes, so that the first n are of all of them. */
function turnByTurn(root: string, byClass: readonly ClassImages[], limit = Number.POSITIVE_INFINITY): ListedImages {
  const count = Math.min(
    limit,
    byClass.reduce((sum, { names }) => sum + names.length, 0),
  );
  const names: string[] = [];
  const labels = byClass.length <= 256 ? new Uint8Array(count) : new Int32Array(count);
  for (let turn = 0; names.length < count; turn++) {
    for (let label = 0; label < byClass.length && names.length < count; label++) {
      const name = byClass[label]!.names[turn];
      if (name === undefined) continue;
      labels[names.length] = label;
      names.push(name);
    }
  }
  return { root, folders: byClass.map(({ folder }) => folder), names, labels, count };
}

function quoted(names: readonly string[]): string {
  const more = names.length > 3 ? ` and ${names.length - 3} more` : '';
  return (
    names
      .slice(0, 3)
      .map((name) => `'${shown(name)}'`)
      .join(', ') + more
  );
}
