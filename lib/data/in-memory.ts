// Images and vectors that the caller gives in code, in memory.
import type { Dataset, LabelledImages, LabelledVectors, Normalization } from './labelled-images.js';
import { normalizationInMemory, requireNormalization } from './normalization.js';
import { refuse, requireObject } from './own-errors.js';
import { labelsOf } from './own-labels.js';
import { type InMemoryVectors, normalizationOfVectors, requireVectorLength, vectorsInMemory } from './vectors.js';

/** Images of one part, row-major [n, channels, height, width], and the class of each by its index or its name. */
export interface InMemoryImages {
  /** Values 0 to 255. */
  readonly images: Uint8Array;
  readonly labels: ArrayLike<number | string>;
}

/** Labelled images of one's own, in memory. */
export interface InMemoryData {
  /** For people: shown in reports. Default: "images of one's own". */
  readonly title?: string;
  /** The names of the classes, by label: at least two, each once. */
  readonly classes: readonly string[];
  /** [channels, height, width] of an image. */
  readonly imageShape: readonly [number, number, number];
  readonly train: InMemoryImages;
  readonly test: InMemoryImages;
  /** What images are normalised with. Default: mean and standard deviation of each channel of the training images. */
  readonly normalization?: Normalization;
}

/** Labelled vectors of one's own, in memory: data that are no images. */
export interface InMemoryVectorData {
  /** For people: shown in reports. Default: "vectors of one's own". */
  readonly title?: string;
  /** The names of the classes, by label: at least two, each once. */
  readonly classes: readonly string[];
  /** The number of values of a vector. */
  readonly vectorLength: number;
  readonly train: InMemoryVectors;
  readonly test: InMemoryVectors;
  /** What vectors are normalised with. Default: mean and standard deviation of each of their values in the training part. */
  readonly normalization?: Normalization;
}

export const OWN_TITLE = "images of one's own";
const VECTOR_TITLE = "vectors of one's own";

/**
 * A data set of images or vectors in memory; it shares their memory. Throws `DataError` (DATA_ARGUMENT) that names what does not
 * fit: shapes, lengths, labels, classes, values that are not finite.
 */
export function inMemoryDataset(data: InMemoryData): Dataset<LabelledImages>;
export function inMemoryDataset(data: InMemoryVectorData): Dataset<LabelledVectors>;
export function inMemoryDataset(
  data: InMemoryData | InMemoryVectorData,
): Dataset<LabelledImages> | Dataset<LabelledVectors> {
  requireObject('', data, 'an object with classes, train and test');
  return 'vectorLength' in data ? vectorDataset(data) : imageDataset(data);
}

interface VectorDatasetOptions {
  /** The first so many of a part. Default: all. */
  readonly trainLimit?: number | undefined;
  readonly testLimit?: number | undefined;
  /** Leaves the training vectors alone; default: false. */
  readonly testOnly?: boolean | undefined;
  /** Used instead of a computed one. */
  readonly normalization?: Normalization | undefined;
}

/** A data set of vectors in memory, or of the first of them. Throws `DataError` (DATA_ARGUMENT). */
export function vectorDataset(data: InMemoryVectorData, options: VectorDatasetOptions = {}): Dataset<LabelledVectors> {
  const { title = VECTOR_TITLE, classes, vectorLength } = data;
  requireClasses(classes);
  requireVectorLength(vectorLength);
  if ('imageShape' in data) refuse('imageShape', 'none beside vectorLength', data.imageShape);
  const train =
    options.testOnly === true
      ? { vectors: new Float32Array(0), labels: new Int32Array(0), count: 0, vectorLength }
      : vectorsInMemory('train', data.train, { classes, vectorLength, limit: options.trainLimit });
  const test = vectorsInMemory('test', data.test, { classes, vectorLength, limit: options.testLimit });
  const given = data.normalization ?? options.normalization;
  if (given !== undefined) requireNormalization(given, { count: vectorLength, each: 'value' });
  else if (train.count === 0) refuse('normalization', 'a mean and std where the training vectors are not read', given);
  return { ...{ name: 'own', title, classes, train, test }, normalization: given ?? normalizationOfVectors(train) };
}

function imageDataset(data: InMemoryData): Dataset<LabelledImages> {
  const { title = OWN_TITLE, classes, imageShape, normalization } = data;
  requireClasses(classes);
  requireImageShape(imageShape);
  const train = partInMemory('train', data.train, { classes, imageShape });
  const test = partInMemory('test', data.test, { classes, imageShape });
  if (normalization !== undefined) requireNormalization(normalization, { count: train.channels });
  return { name: 'own', title, classes, train, test, normalization: normalization ?? normalizationInMemory(train) };
}

/** Throws `DataError` (DATA_ARGUMENT) for anything but [channels, height, width]. */
export function requireImageShape(imageShape: unknown): asserts imageShape is readonly [number, number, number] {
  const isSize = (size: unknown): boolean => Number.isInteger(size) && Number(size) >= 1;
  if (Array.isArray(imageShape) && imageShape.length === 3 && imageShape.every(isSize)) return;
  refuse('imageShape', '[channels, height, width], integers from 1', imageShape);
}

/** The most letters of a class name: as many as a folder's name may have. */
const MOST_LETTERS = 255;

/** Throws `DataError` (DATA_ARGUMENT) for anything but names of two classes or more. */
export function requireClasses(classes: readonly string[]): void {
  const isName = (name: unknown): boolean => typeof name === 'string' && name !== '' && name.length <= MOST_LETTERS;
  if (!Array.isArray(classes) || classes.length < 2 || !classes.every(isName)) {
    refuse('classes', `the names of at least two classes, of at most ${MOST_LETTERS} letters`, classes);
  }
  const twice = classes.find((name, label) => classes.indexOf(name) !== label);
  if (twice !== undefined) refuse('classes', 'each name once', twice);
}

/** Images of one part. Throws `DataError` (DATA_ARGUMENT) that names what does not fit. */
export function partInMemory(
  part: 'train' | 'test',
  given: InMemoryImages,
  { classes, imageShape: [channels, height, width] }: Pick<InMemoryData, 'classes' | 'imageShape'>,
): LabelledImages {
  const { images, labels } = requireObject(part, given, 'pixels { images, labels }');
  const length = channels * height * width;
  // Of another realm, too, as a test runner has them.
  if (Object.prototype.toString.call(images) !== '[object Uint8Array]') {
    refuse(`${part}.images`, 'a Uint8Array or a Buffer', typeof images);
  }
  const count = images.length / length;
  if (!Number.isInteger(count) || count < 1) {
    refuse(
      `${part}.images`,
      `a multiple of ${length} values, those of an image of ${channels} x ${height} x ${width}`,
      images.length,
    );
  }
  const own = labelsOf(labels, { name: `data.${part}.labels`, count, classes });
  return { images, labels: own, count, channels, height, width };
}
