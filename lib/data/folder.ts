import { readdir, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import { DataError } from './errors.js';
import type { Dataset, LabelledImages } from './labelled-images.js';

const EXTENSIONS: ReadonlySet<string> = new Set(['.jpg', '.jpeg', '.png']);
const DEFAULT_SIDE = 32;
const MAX_SIDE = 4096;

export interface ReadImageFolderOptions {
  /** Holds train/ and test/ (or val/, where there is no test/), each with one folder a class. */
  readonly dataDir: string;
  /** At most the first n images, which are spread over the classes: the first of each, then the second of each. */
  readonly trainLimit?: number | undefined;
  readonly testLimit?: number | undefined;
  /** Pixels a side; 32 by default. */
  readonly imageSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads JPEG and PNG files into memory at one size, as `readImage` does: [n, 3, imageSize, imageSize]. The classes are the
 * folders of train/ in the order of their names. Hidden files and folders are passed over.
 *
 * Throws `DataError` naming the path: DATA_NOT_FOUND for a missing or empty folder, DATA_CORRUPT for an image that cannot be
 * decoded or a class that one of the splits lacks, DATA_UNSUPPORTED for a file of another kind, DATA_CANCELLED on `signal`.
 */
export async function readImageFolder(options: ReadImageFolderOptions): Promise<Dataset> {
  const { dataDir, trainLimit, testLimit, imageSize = DEFAULT_SIDE, signal } = options;
  requireSide(imageSize);
  const trainDir = join(dataDir, 'train');
  const testDir = await findTestDir(dataDir);
  const classes = await classFolders(trainDir);
  requireSameClasses(trainDir, classes, testDir, await classFolders(testDir));
  const train = await listImages(trainDir, classes);
  const test = await listImages(testDir, classes);
  return {
    name: 'folder',
    title: dataDir,
    classes,
    train: await readImages(train.slice(0, trainLimit), classes.length, imageSize, signal),
    test: await readImages(test.slice(0, testLimit), classes.length, imageSize, signal),
    // Of ImageNet: what photographs are usually normalised with.
    normalization: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  };
}

/**
 * Decodes one JPEG or PNG file to RGB bytes [3, size, size]: turned upright (EXIF), its shorter side scaled to `size`
 * (antialiased bilinear), its centre cut out. Greyscale and CMYK are converted to sRGB, 16 bits to 8, transparency is dropped.
 *
 * Throws `DataError`: DATA_NOT_FOUND, DATA_UNSUPPORTED for another kind of file, DATA_CORRUPT for one that cannot be decoded.
 */
export async function readImage(file: string, size: number): Promise<Uint8Array> {
  requireSide(size);
  if (!EXTENSIONS.has(extname(file).toLowerCase())) throw notAnImage(file);
  if (!(await isKind(file, 'isFile'))) throw new DataError('DATA_NOT_FOUND', `there is no file ${file}`);
  // Loaded here so that who reads no image files does without it.
  const { default: sharp } = await import('sharp');
  let pixels: Uint8Array;
  try {
    pixels = await sharp(file, { failOn: 'error' })
      .autoOrient()
      .resize(size, size, { fit: 'cover', position: 'centre', kernel: 'linear' })
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DataError('DATA_CORRUPT', `${file} cannot be decoded: ${reason}`, { cause: error });
  }
  return planar(pixels, size * size);
}

/** [size, size, 3] to [3, size, size]. */
function planar(pixels: Uint8Array, plane: number): Uint8Array {
  const out = new Uint8Array(3 * plane);
  for (let at = 0; at < plane; at++) {
    out[at] = pixels[3 * at]!;
    out[at + plane] = pixels[3 * at + 1]!;
    out[at + 2 * plane] = pixels[3 * at + 2]!;
  }
  return out;
}

interface LabelledFile {
  readonly file: string;
  readonly label: number;
}

async function readImages(
  files: readonly LabelledFile[],
  classCount: number,
  size: number,
  signal: AbortSignal | undefined,
): Promise<LabelledImages> {
  const imageLength = 3 * size * size;
  const count = files.length;
  const images = new Uint8Array(count * imageLength);
  const labels = classCount <= 256 ? new Uint8Array(count) : new Int32Array(count);
  let next = 0;
  let failed = false;
  const decodeInTurn = async () => {
    while (next < count && !failed) {
      if (signal?.aborted) {
        throw new DataError('DATA_CANCELLED', 'reading the images was cancelled', { cause: signal.reason });
      }
      const at = next++;
      const { file, label } = files[at]!;
      images.set(await readImage(file, size), at * imageLength);
      labels[at] = label;
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

async function findTestDir(dataDir: string): Promise<string> {
  for (const name of ['test', 'val']) {
    const dir = join(dataDir, name);
    if (await isKind(dir, 'isDirectory')) return dir;
  }
  throw new DataError(
    'DATA_NOT_FOUND',
    `${dataDir} has no folder test/ (or val/): expected train/CLASS/*.jpg and test/CLASS/*.jpg`,
  );
}

async function classFolders(splitDir: string): Promise<string[]> {
  const names = await visibleNames(splitDir);
  if (names.length === 0) throw new DataError('DATA_NOT_FOUND', `${splitDir} has no folders: expected one a class`);
  for (const name of names) {
    if (!(await isKind(join(splitDir, name), 'isDirectory'))) {
      throw new DataError('DATA_UNSUPPORTED', `${join(splitDir, name)} is no folder: expected one folder a class`);
    }
  }
  return names;
}

function requireSameClasses(
  trainDir: string,
  train: readonly string[],
  testDir: string,
  test: readonly string[],
): void {
  const missing = train.filter((name) => !test.includes(name));
  const extra = test.filter((name) => !train.includes(name));
  if (missing.length > 0)
    throw new DataError('DATA_CORRUPT', `${testDir} lacks the class ${quoted(missing)} of ${trainDir}`);
  if (extra.length > 0)
    throw new DataError('DATA_CORRUPT', `${testDir} has the class ${quoted(extra)}, which ${trainDir} lacks`);
}

/** Every image of a split, turn by turn over the classes, so that the first n are of all of them. */
async function listImages(splitDir: string, classes: readonly string[]): Promise<LabelledFile[]> {
  const byClass: string[][] = [];
  for (const name of classes) {
    const dir = join(splitDir, name);
    const files = (await visibleNames(dir)).map((file) => join(dir, file));
    if (files.length === 0) throw new DataError('DATA_NOT_FOUND', `${dir} holds no images`);
    const other = files.find((file) => !EXTENSIONS.has(extname(file).toLowerCase()));
    if (other !== undefined) throw notAnImage(other);
    byClass.push(files);
  }
  const listed: LabelledFile[] = [];
  const longest = Math.max(...byClass.map((files) => files.length));
  for (let turn = 0; turn < longest; turn++) {
    byClass.forEach((files, label) => {
      const file = files[turn];
      if (file !== undefined) listed.push({ file, label });
    });
  }
  return listed;
}

/** Sorted by code unit, so that the order is no locale's. */
async function visibleNames(dir: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    throw new DataError('DATA_NOT_FOUND', `there is no folder ${dir}`, { cause: error });
  }
  return names.filter((name) => !name.startsWith('.')).sort();
}

async function isKind(path: string, kind: 'isFile' | 'isDirectory'): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.[kind]() ?? false;
}

function notAnImage(file: string): DataError {
  return new DataError('DATA_UNSUPPORTED', `${file} is not read: expected ${[...EXTENSIONS].join(', ')}`);
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ');
}

function requireSide(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > MAX_SIDE) {
    throw new DataError('DATA_ARGUMENT', `the image size must be an integer from 1 to ${MAX_SIDE} pixels, got ${size}`);
  }
}
