// Images that the caller gives in code.
import { declareDataset } from './declaration.js';
import { DataError } from './errors.js';
import type { Dataset, LabelledImages, Normalization } from './labelled-images.js';
import { SMALL_IMAGE_PROTOCOL } from './protocols.js';

/** Images of one part, row-major [n, channels, height, width], and the class of each by its index. */
export interface InMemoryImages {
  /** Values 0 to 255. */
  readonly images: Uint8Array;
  readonly labels: ArrayLike<number>;
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

const TITLE = "images of one's own";

/**
 * A data set of images in memory; it shares their memory. Throws `DataError` (DATA_ARGUMENT) that names what does not fit: shapes,
 * lengths, labels, classes.
 */
export function inMemoryDataset(data: InMemoryData): Dataset<LabelledImages> {
  const { title = TITLE, classes, imageShape, normalization } = data;
  requireClasses(classes);
  if (imageShape.length !== 3 || !imageShape.every((size) => Number.isInteger(size) && size >= 1)) {
    refuse('imageShape', '[channels, height, width], integers from 1', imageShape);
  }
  const train = partOf('train', data.train, data);
  const test = partOf('test', data.test, data);
  return { name: 'own', title, classes, train, test, normalization: normalizationOf(train, normalization) };
}

function refuse(name: string, expected: string, got: unknown): never {
  throw new DataError('DATA_ARGUMENT', `data.${name}: expected ${expected}, got ${JSON.stringify(got) ?? 'nothing'}`);
}

function requireClasses(classes: readonly string[]): void {
  const isName = (name: unknown): boolean => typeof name === 'string' && name !== '';
  if (!Array.isArray(classes) || classes.length < 2 || !classes.every(isName)) {
    refuse('classes', 'the names of at least two classes', classes);
  }
  const twice = classes.find((name, label) => classes.indexOf(name) !== label);
  if (twice !== undefined) refuse('classes', 'each name once', twice);
}

function partOf(
  part: 'train' | 'test',
  { images, labels }: InMemoryImages,
  { classes, imageShape: [channels, height, width] }: InMemoryData,
): LabelledImages {
  const length = channels * height * width;
  if (!ArrayBuffer.isView(images) || !(Object.prototype.toString.call(images) === '[object Uint8Array]')) {
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
  if (labels.length !== count) refuse(`${part}.labels`, `${count} labels, one an image`, labels.length);
  const own = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const label = labels[i]!;
    if (!(Number.isInteger(label) && label >= 0 && label < classes.length)) {
      refuse(`${part}.labels[${i}]`, `a label from 0 to ${classes.length - 1}`, label);
    }
    own[i] = label;
  }
  return { images, labels: own, count, channels, height, width };
}

function normalizationOf(
  { images, count, channels, height, width }: LabelledImages,
  given: Normalization | undefined,
): Normalization {
  if (given !== undefined) {
    for (const name of ['mean', 'std'] as const) {
      const isRight = (value: unknown): boolean => Number.isFinite(value) && (name === 'mean' || Number(value) > 0);
      if (given[name].length === channels && given[name].every(isRight)) continue;
      refuse(
        `normalization.${name}`,
        `${channels} ${name === 'std' ? 'positive ' : ''}numbers, one a channel`,
        given[name],
      );
    }
    return given;
  }
  const plane = height * width;
  const mean: number[] = [];
  const std: number[] = [];
  for (let channel = 0; channel < channels; channel++) {
    // Integers of up to 255^2: exact in a double for 10^11 values.
    let sum = 0;
    let squares = 0;
    for (let image = 0; image < count; image++) {
      const start = (image * channels + channel) * plane;
      for (let at = start; at < start + plane; at++) {
        sum += images[at]!;
        squares += images[at]! ** 2;
      }
    }
    const values = count * plane;
    const average = sum / values;
    mean.push(average / 255);
    // A channel that is the same everywhere stays 0.
    std.push(Math.sqrt(Math.max(0, squares / values - average ** 2)) / 255 || 1);
  }
  return { mean, std };
}

export const inMemory = declareDataset({
  name: 'own',
  title: TITLE,
  source: 'caller',
  hasImageFiles: false,
  protocol: SMALL_IMAGE_PROTOCOL,
  load: async (): Promise<Dataset<LabelledImages>> => {
    throw new DataError('DATA_ARGUMENT', 'own: expected the images, as the option `data` of the call in code');
  },
  check: null,
  download: null,
});
