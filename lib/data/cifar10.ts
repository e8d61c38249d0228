import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readRegion } from '../files.js';
import { type CheckedFiles, checkedInMemory } from './check-files.js';
import { declareDataset, requireDataDir, requireImages32 } from './declaration.js';
import { DataError, throwIfCancelled } from './errors.js';
import { fileSystemError } from './file-errors.js';
import type { Dataset, LabelledImages } from './labelled-images.js';
import { type PickleValue, unpickle } from './pickle.js';
import { SMALL_IMAGE_PROTOCOL } from './protocols.js';
import type { SelectionOptions } from './reading-options.js';

const CIFAR10_CLASSES: readonly string[] = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
];
/** The folder that the official archive of the binary version unpacks to. */
export const CIFAR10_BINARY_FOLDER = 'cifar-10-batches-bin';
const PYTHON_FOLDER = 'cifar-10-batches-py';

const SIDE = 32;
const IMAGE_LENGTH = 3 * SIDE * SIDE;
/** In the binary version: one byte of label, then the image as [3, 32, 32]. */
const RECORD_LENGTH = 1 + IMAGE_LENGTH;
const RECORDS_PER_BATCH = 10_000;
/** The official list of classes has 88. */
const MAX_CLASS_NAMES_BYTES = 4096;
const TRAIN_BATCHES = ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5'];
const TEST_BATCHES = ['test_batch'];

/** Batches beyond a limit are not read, only looked for. */
export interface ReadCifar10Options extends SelectionOptions {
  /** Holds `cifar-10-batches-bin` or `cifar-10-batches-py`, or is one of the two. */
  readonly dataDir: string;
  /** Images in each file: 10,000 in the official files. For tests. */
  readonly recordsPerBatch?: number;
}

/**
 * Reads CIFAR-10 in its official binary or, where that is not there, its official Python layout: images [n, 3, 32, 32].
 *
 * Throws `DataError` naming the file: DATA_NOT_FOUND for a missing folder or batch, DATA_UNREADABLE for a file that the
 * system does not give, DATA_CORRUPT for a wrong size or a label over 9, DATA_UNSUPPORTED for a pickle that is not of the official kind,
 * DATA_CANCELLED on `signal`.
 */
export async function readCifar10(options: ReadCifar10Options): Promise<Dataset<LabelledImages>> {
  const { dataDir, trainLimit, testLimit, testOnly = false, signal, recordsPerBatch = RECORDS_PER_BATCH } = options;
  const layout = await findLayout(dataDir);
  const trainBatches = testOnly ? [] : TRAIN_BATCHES;
  await requireBatches(layout, [...trainBatches, ...TEST_BATCHES], recordsPerBatch);
  await requireClassNames(layout);
  const read = (batches: readonly string[], limit = Number.POSITIVE_INFINITY) =>
    readBatches(layout, batches, { recordsPerBatch, limit, signal });
  return {
    name: 'cifar10',
    title: 'CIFAR-10',
    classes: CIFAR10_CLASSES,
    train: await read(trainBatches, trainLimit),
    test: await read(TEST_BATCHES, testLimit),
    // As the paper's recipe has them.
    normalization: { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] },
  };
}

/** Whether the official binary layout is whole in `folder`: throws what `readCifar10` would throw for sizes and names. */
export async function requireCifar10Binary(folder: string, recordsPerBatch = RECORDS_PER_BATCH): Promise<void> {
  const layout = binaryLayout(folder);
  await requireBatches(layout, [...TRAIN_BATCHES, ...TEST_BATCHES], recordsPerBatch);
  await requireClassNames(layout);
}

interface Layout {
  readonly folder: string;
  readonly classNames: string | undefined;
  fileOf(batch: string): string;
  /** What a whole file of `records` images has, where the layout fixes it. */
  size(records: number): number | undefined;
  /** Writes the first `count` images of a file to `images` and their labels to `labels`. */
  read(file: string, records: number, count: number, images: Uint8Array, labels: Uint8Array): Promise<void>;
}

function binaryLayout(folder: string): Layout {
  return {
    folder,
    classNames: join(folder, 'batches.meta.txt'),
    fileOf: (batch) => join(folder, `${batch}.bin`),
    size: (records) => records * RECORD_LENGTH,
    read: readBinaryBatch,
  };
}

function pythonLayout(folder: string): Layout {
  return {
    folder,
    classNames: undefined,
    fileOf: (batch) => join(folder, batch),
    size: () => undefined,
    read: readPythonBatch,
  };
}

/** A layout is recognised by any one of its files, so that a missing one can be named. */
async function findLayout(dataDir: string): Promise<Layout> {
  const layouts = [
    binaryLayout(join(dataDir, CIFAR10_BINARY_FOLDER)),
    binaryLayout(dataDir),
    pythonLayout(join(dataDir, PYTHON_FOLDER)),
    pythonLayout(dataDir),
  ];
  for (const layout of layouts) {
    const files = [...TRAIN_BATCHES, ...TEST_BATCHES].map(layout.fileOf);
    const sizes = await Promise.all(files.map(fileSize));
    if (sizes.some((size) => size !== undefined)) return layout;
  }
  throw new DataError(
    'DATA_NOT_FOUND',
    `no CIFAR-10 in ${dataDir}: neither ${CIFAR10_BINARY_FOLDER} nor ${PYTHON_FOLDER} is there with its batches; ` +
      `get it with: layerwise data download cifar10 --data-dir ${dataDir}`,
  );
}

async function requireBatches(layout: Layout, batches: readonly string[], records: number): Promise<void> {
  const expected = layout.size(records);
  for (const batch of batches) {
    const file = layout.fileOf(batch);
    const size = await fileSize(file);
    if (size === undefined) throw new DataError('DATA_NOT_FOUND', `CIFAR-10 is incomplete: ${file} is missing`);
    if (expected !== undefined && size !== expected) {
      const fault = size < expected ? 'truncated' : 'too long';
      throw new DataError('DATA_CORRUPT', `${file} is ${fault}: ${size} bytes, expected ${expected}`);
    }
  }
}

/** The list of classes is optional; where it is there, it must be CIFAR-10's. */
async function requireClassNames({ classNames }: Layout): Promise<void> {
  const size = classNames === undefined ? undefined : await fileSize(classNames);
  if (classNames === undefined || size === undefined) return;
  const text = size > MAX_CLASS_NAMES_BYTES ? '' : await givenBySystem(classNames, () => readFile(classNames, 'utf8'));
  const names = text.split(/\r?\n/).filter((line) => line !== '');
  if (names.join() !== CIFAR10_CLASSES.join()) {
    throw new DataError('DATA_CORRUPT', `${classNames} does not list the ten classes of CIFAR-10`);
  }
}

async function readBatches(
  layout: Layout,
  batches: readonly string[],
  { recordsPerBatch, limit, signal }: { recordsPerBatch: number; limit: number; signal: AbortSignal | undefined },
): Promise<LabelledImages> {
  const count = Math.min(limit, batches.length * recordsPerBatch);
  const images = new Uint8Array(count * IMAGE_LENGTH);
  const labels = new Uint8Array(count);
  for (let start = 0; start < count; start += recordsPerBatch) {
    throwIfCancelled(signal);
    const file = layout.fileOf(batches[start / recordsPerBatch]!);
    const end = Math.min(start + recordsPerBatch, count);
    const batchLabels = labels.subarray(start, end);
    const batchImages = images.subarray(start * IMAGE_LENGTH, end * IMAGE_LENGTH);
    await givenBySystem(file, () => layout.read(file, recordsPerBatch, end - start, batchImages, batchLabels));
    requireLabels(file, batchLabels);
  }
  return { images, labels, count, channels: 3, height: SIDE, width: SIDE };
}

async function readBinaryBatch(
  file: string,
  _records: number,
  count: number,
  images: Uint8Array,
  labels: Uint8Array,
): Promise<void> {
  const bytes = await readStart(file, count * RECORD_LENGTH);
  for (let i = 0; i < count; i++) {
    const at = i * RECORD_LENGTH;
    labels[i] = bytes[at]!;
    images.set(bytes.subarray(at + 1, at + RECORD_LENGTH), i * IMAGE_LENGTH);
  }
}

/**
 * A pickled dictionary with `data`, uint8 [n, 3072], each row an image as [3, 32, 32], and `labels`, a list of n integers. The
 * names of the files that it holds besides take some thirty bytes an image.
 */
async function readPythonBatch(
  file: string,
  records: number,
  count: number,
  images: Uint8Array,
  labels: Uint8Array,
): Promise<void> {
  const size = (await stat(file)).size;
  const most = records * 2 * RECORD_LENGTH + 2 ** 16;
  if (size > most) throw new DataError('DATA_CORRUPT', `${file} is too long: ${size} bytes, expected at most ${most}`);
  const batch = unpickle(await readFile(file), file);
  const data = entry(batch, 'data', file);
  const numbers = entry(batch, 'labels', file);
  if (
    typeof data !== 'object' ||
    data === null ||
    !('shape' in data) ||
    `${data.shape}` !== `${[records, IMAGE_LENGTH]}`
  ) {
    throw new DataError('DATA_CORRUPT', `${file}: 'data' is not an array of shape [${records}, ${IMAGE_LENGTH}]`);
  }
  if (!Array.isArray(numbers) || numbers.length !== records) {
    throw new DataError('DATA_CORRUPT', `${file}: 'labels' is not a list of ${records} numbers`);
  }
  images.set(data.data.subarray(0, count * IMAGE_LENGTH));
  for (let i = 0; i < count; i++) {
    const label = numbers[i];
    if (typeof label !== 'number' || label < 0 || label >= CIFAR10_CLASSES.length)
      throw badLabel(file, i, typeof label === 'number' ? String(label) : 'no number');
    labels[i] = label;
  }
}

function entry(batch: PickleValue, key: string, file: string): PickleValue {
  const value = batch instanceof Map ? batch.get(key) : undefined;
  if (value === undefined) throw new DataError('DATA_CORRUPT', `${file} holds no dictionary with '${key}'`);
  return value;
}

function requireLabels(file: string, labels: Uint8Array): void {
  const wrong = labels.findIndex((label) => label >= CIFAR10_CLASSES.length);
  if (wrong >= 0) throw badLabel(file, wrong, String(labels[wrong]));
}

function badLabel(file: string, image: number, label: string): DataError {
  return new DataError('DATA_CORRUPT', `${file}: image ${image} has label ${label}, expected 0 to 9`);
}

async function readStart(file: string, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const handle = await open(file);
  try {
    const got = await readRegion(handle, bytes, 0);
    if (got < length) throw new DataError('DATA_CORRUPT', `${file} is truncated: ${got} bytes, expected ${length}`);
  } finally {
    await handle.close();
  }
  return bytes;
}

/** Bytes; undefined where there is no file. */
async function fileSize(file: string): Promise<number | undefined> {
  try {
    const found = await stat(file);
    return found.isFile() ? found.size : undefined;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw fileSystemError(file, error, 'file');
  }
}

/** Does `work` on a file; throws `fileSystemError` where the system refuses it. */
async function givenBySystem<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw (error as NodeJS.ErrnoException).syscall === undefined ? error : fileSystemError(file, error, 'file');
  }
}

const COUNT = {
  train: TRAIN_BATCHES.length * RECORDS_PER_BATCH,
  test: TEST_BATCHES.length * RECORDS_PER_BATCH,
} as const;

export const cifar10 = declareDataset({
  name: 'cifar10',
  title: 'CIFAR-10',
  source: 'directory',
  hasImageFiles: false,
  protocol: SMALL_IMAGE_PROTOCOL,
  load: async (options) => {
    const { trainLimit = COUNT.train, testLimit = COUNT.test } = options;
    requireImages32('cifar10', options, {
      train: Math.min(trainLimit, COUNT.train),
      test: Math.min(testLimit, COUNT.test),
    });
    const { testOnly, signal } = options;
    const limits = { trainLimit: options.trainLimit, testLimit: options.testLimit };
    return readCifar10({ dataDir: requireDataDir('cifar10', options), ...limits, testOnly, signal });
  },
  check: async ({ dataDir, signal }): Promise<CheckedFiles> => checkedInMemory(await readCifar10({ dataDir, signal })),
  download: async (options) => (await import('./cifar10-download.js')).downloadCifar10(options),
});
