// Images of the caller's own, in whatever form they are at hand.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { take } from './dataset.js';
import { type EncodedImages, isIterable, readEncoded } from './encoded-images.js';
import { DataError, throwIfCancelled } from './errors.js';
import { type ImageListing, listedImages } from './image-listing.js';
import { fileShapeOf, type ImageSize } from './image-size.js';
import type { ImageSource } from './image-source.js';
import { FileStore } from './image-store.js';
import { imagesOfSource, isImageSource } from './images-of-source.js';
import {
  type InMemoryImages,
  type InMemoryVectorData,
  OWN_TITLE,
  partInMemory,
  requireClasses,
  requireImageShape,
  vectorDataset,
} from './in-memory.js';
import { type Dataset, type ImagePart, type Normalization, shapeOfPart } from './labelled-images.js';
import { normalizationOf, requireNormalization } from './normalization.js';
import { refuse, requireObject } from './own-errors.js';
import type { ImageFileOptions } from './reading-options.js';

/**
 * Images of one part, and the class of each: pixels in memory; the paths of image files, which are decoded whenever they
 * are used; encoded images that come one after another; or a source of one's own.
 */
export type OwnImages = InMemoryImages | ImageListing | EncodedImages | ImageSource;

/** Labelled images of one's own, or vectors. */
export type OwnData = OwnImageData | InMemoryVectorData;

/** Labelled images of one's own. Files and encoded images are made `dataset.imageSize` and `dataset.channels`, as by `readImage`. */
export interface OwnImageData {
  /** For people: shown in reports. Default: "images of one's own". */
  readonly title?: string;
  /** The names of the classes, by label: at least two, each once. */
  readonly classes: readonly string[];
  /** [channels, height, width] of an image, where it is given as pixels or by a source. */
  readonly imageShape?: readonly [number, number, number];
  readonly train: OwnImages;
  readonly test: OwnImages;
  /**
   * What images are normalised with. Default: mean and standard deviation of each channel of the training images, of image
   * files at most 10,000.
   */
  readonly normalization?: Normalization;
  /**
   * Where the pixels of encoded images are kept: in memory, or, for more than it holds, in a file of the run directory
   * until the run has finished. Default: 'memory'.
   */
  readonly keep?: 'memory' | 'file';
}

export interface LoadOwnDataOptions extends Omit<ImageFileOptions, 'imageSize'> {
  /** Pixels a side, or [height, width], of what image files are made into; null: the data are vectors. */
  readonly imageSize: ImageSize | null;
  /** Where images are kept that the data keep in a file; one that was finished before is used again. Default: nowhere. */
  readonly folder?: string | undefined;
  /** Used instead of a computed one: that of the run that is resumed. */
  readonly normalization?: Normalization | undefined;
}

const KEYS = ['title', 'classes', 'imageShape', 'train', 'test', 'normalization', 'keep'];
const VECTOR_KEYS = ['title', 'classes', 'vectorLength', 'train', 'test', 'normalization'];

/**
 * Reads data of one's own. With `testOnly` the training images are left alone, and may be missing. Throws `DataError`:
 * DATA_ARGUMENT that names what does not fit, and what the reading of files and of encoded images throws.
 */
export async function loadOwnData(data: OwnData, options: LoadOwnDataOptions): Promise<Dataset> {
  requireData(data);
  requireFileOptions(data, options);
  if (isVectorData(data)) return vectorDataset(data, options);
  const { imageSize } = options;
  if (imageSize === null)
    return refuse('vectorLength', 'the number of values of a vector, for a recipe for vectors', undefined);
  return loadImages(data, { ...options, imageSize });
}

type LoadImagesOptions = LoadOwnDataOptions & { readonly imageSize: ImageSize };

async function loadImages(data: OwnImageData, options: LoadImagesOptions): Promise<Dataset> {
  const { title = OWN_TITLE, classes } = data;
  const { testOnly = false, signal } = options;
  const test = await loadPart('test', data, options);
  const train = testOnly ? nothingOf(test) : await loadPart('train', data, options);
  requireOneShape(train, test);
  const given = data.normalization ?? options.normalization;
  if (given !== undefined) requireNormalization(given, { count: test.channels });
  if (given === undefined && testOnly)
    refuse('normalization', 'a mean and std where the training images are not read', given);
  const normalization = given ?? (await normalizationOf(train, signal));
  return { name: 'own', title, classes, train, test, normalization };
}

const isVectorData = (data: OwnData): data is InMemoryVectorData =>
  'vectorLength' in data && data.vectorLength !== undefined;

function requireData(data: OwnData): void {
  requireObject('', data, 'an object with classes, train and test');
  const known = isVectorData(data) ? VECTOR_KEYS : KEYS;
  const unknown = Object.keys(data).find((key) => !known.includes(key));
  if (unknown !== undefined) refuse('', `only ${known.join(', ')}`, unknown);
  requireClasses(data.classes);
  if (data.title !== undefined && typeof data.title !== 'string') refuse('title', 'a text', data.title);
  if (isVectorData(data)) return;
  if (data.keep !== undefined && data.keep !== 'memory' && data.keep !== 'file') {
    refuse('keep', "'memory' or 'file'", data.keep);
  }
}

/**
 * Only files and encoded images are decoded: to grey, within so many pixels, or not at all. Throws `DataError` (DATA_ARGUMENT) where
 * that is asked for and there are none.
 */
function requireFileOptions(
  data: OwnData,
  { channels, maxPixels, onBadImage, testOnly = false }: LoadOwnDataOptions,
): void {
  const isDecoded = (images: unknown): boolean => ['files', 'encoded'].includes(formOf(images) ?? '');
  const isVectors = isVectorData(data);
  if (!isVectors && (isDecoded(data.test) || (!testOnly && isDecoded(data.train)))) return;
  const given = isVectors ? 'vectors' : 'images whose shape is given (data.imageShape)';
  const refuse = (name: string, expected: string, got: unknown): never => {
    throw new DataError(
      'DATA_ARGUMENT',
      `dataset.${name}: expected ${expected}, the default, for ${given}, got ${got}`,
    );
  };
  if (channels === 1) refuse('channels', '3', channels);
  if (maxPixels !== undefined) refuse('maxPixels', 'null', maxPixels);
  if (onBadImage === 'skip') refuse('onBadImage', 'fail', onBadImage);
}

/** The form in which images are given. Methods are looked for first, since an object with them may have fields of any name. */
function formOf(images: unknown): 'source' | 'encoded' | 'files' | 'pixels' | null {
  if (typeof images !== 'object' || images === null) return null;
  if (isImageSource(images)) return 'source';
  if (isIterable(images)) return 'encoded';
  return 'files' in images ? 'files' : 'images' in images ? 'pixels' : null;
}

/** Images of one part, in whatever form they are given. */
async function loadPart(part: 'train' | 'test', data: OwnImageData, options: LoadImagesOptions): Promise<ImagePart> {
  const images: unknown = data[part];
  const { classes, imageShape } = data;
  const { maxPixels, onBadImage, reportBadImage, signal } = options;
  const limit = part === 'train' ? options.trainLimit : options.testLimit;
  const name = `data.${part}`;
  const form = formOf(images);
  if (form === null) return refuse(part, EXPECTED, images);
  if (form === 'source') {
    requireImageShape(imageShape);
    if (limit !== undefined) refuse(part, `no ${part}Limit for a source of images, which is taken whole`, limit);
    return imagesOfSource(images as ImageSource, { name, classes, imageShape });
  }
  if (form === 'pixels') {
    requireImageShape(imageShape);
    const all = partInMemory(part, images as InMemoryImages, { classes, imageShape });
    return limit === undefined ? all : take(all, limit);
  }
  const { testResize, ...shape } = fileShapeOf(options);
  const decoded = { name, classes, shape, maxPixels, onBadImage, reportBadImage, limit };
  if (form === 'files') return listedImages(images as ImageListing, { ...decoded, testResize });
  const resize = part === 'train' ? Math.min(shape.height, shape.width) : testResize;
  const file = data.keep === 'file' ? await keptFile(part, options) : undefined;
  const kept = file === undefined ? null : await FileStore.reopen(shape, file, classes.length);
  return kept ?? readEncoded(images as EncodedImages, { ...decoded, resize, signal, file });
}

const EXPECTED =
  'pixels { images, labels }, files { files, labels }, an iterable of { image, label } or an ImageSource';

async function keptFile(part: string, { folder, signal }: LoadImagesOptions): Promise<string> {
  throwIfCancelled(signal);
  if (folder === undefined) return refuse('keep', "'memory' where there is no run directory", 'file');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return join(folder, `${part}.pixels`);
}

/** No images, of the same shape. */
function nothingOf(part: ImagePart): ImagePart {
  const nothing = { labels: new Int32Array(0), count: 0 };
  if ('names' in part) return { ...part, ...nothing, names: [] };
  const { channels, height, width } = part;
  return { channels, height, width, ...nothing, images: new Uint8Array(0) };
}

function requireOneShape(train: ImagePart, test: ImagePart): void {
  const [expected, got] = [train, test].map((part) => shapeOfPart(part).join(' x '));
  if (expected !== got) refuse('test', `images of ${expected}, as the training images are`, got);
}
