// Images that a source of the caller's own gives out.
import { scope, Tensor } from '../tensor/index.js';
import { DataError } from './errors.js';
import type { ImageSource } from './image-source.js';
import type { SourceImages } from './labelled-images.js';
import { labelsOf } from './own-labels.js';

export interface SourceOptions {
  /** Of the part, for messages: "data.train". */
  readonly name: string;
  readonly classes: readonly string[];
  /** [channels, height, width] of an image. */
  readonly imageShape: readonly [number, number, number];
}

export const isImageSource = (value: unknown): value is ImageSource =>
  typeof value === 'object' &&
  value !== null &&
  ['batches', 'trainingBatches'].every((method) => typeof Reflect.get(value, method) === 'function');

/**
 * Looks at the first image of a source. Throws `DataError` (DATA_ARGUMENT) where count, labels or images are not what an
 * `ImageSource` gives.
 */
export async function imagesOfSource(
  source: ImageSource,
  { name, classes, imageShape }: SourceOptions,
): Promise<SourceImages> {
  const refuse = (what: string, expected: string, got: unknown): never => {
    throw new DataError('DATA_ARGUMENT', `${name}.${what}: expected ${expected}, got ${String(got)}`);
  };
  const { count } = source;
  if (!Number.isInteger(count) || count < 1) refuse('count', 'a number of images from 1', count);
  if (!(source.labels instanceof Tensor) || source.labels.dtype !== 'int64' || source.labels.dim !== 1) {
    refuse('labels', `an int64 tensor [${count}]`, describe(source.labels));
  }
  const numbers = Array.from(source.labels.toTypedArray() as BigInt64Array, Number);
  const labels = labelsOf(numbers, { name: `${name}.labels`, count, classes });
  for await (const batch of source.batches(1)) {
    const got = scope(() => describe(batch.tensors().images));
    const expected = `uint8 [${[1, ...imageShape].join(', ')}]`;
    if (got !== expected) refuse('batches(1)', `images ${expected}`, got);
    break;
  }
  const [channels, height, width] = imageShape;
  return { source, labels, count, channels, height, width };
}

const describe = (value: unknown): string =>
  value instanceof Tensor ? `${value.dtype} [${value.shape.join(', ')}]` : typeof value;
