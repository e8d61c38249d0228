// Data that are no images: vectors of one length, each the values of some features of a thing.
import type { Tensor } from '../tensor/index.js';
import { tensor } from '../tensor/index.js';
import type { Transform } from './augmentation.js';
import type { LabelledVectors, Normalization } from './labelled-images.js';
import { refuse, requireObject } from './own-errors.js';
import { labelsOf } from './own-labels.js';

/** Vectors of one part, row-major [n, vectorLength], and the class of each by its index or name. */
export interface InMemoryVectors {
  /** In whatever units; finite. */
  readonly vectors: Float32Array;
  readonly labels: ArrayLike<number | string>;
}

/** A smaller standard deviation counts as 0: float32 cannot divide by it. */
const SMALLEST_DEVIATION = 2 ** -126;

/** Throws `DataError` (DATA_ARGUMENT) for anything but the number of values of a vector. */
export function requireVectorLength(vectorLength: unknown): asserts vectorLength is number {
  if (!(Number.isInteger(vectorLength) && Number(vectorLength) >= 1)) {
    refuse('vectorLength', 'the number of values of a vector, an integer from 1', vectorLength);
  }
}

/** Vectors of one part, or the first `limit` of them; it shares their memory. Throws `DataError` (DATA_ARGUMENT) that names what does not fit. */
export function vectorsInMemory(
  part: 'train' | 'test',
  given: InMemoryVectors,
  { classes, vectorLength, limit }: { classes: readonly string[]; vectorLength: number; limit?: number | undefined },
): LabelledVectors {
  const { vectors, labels } = requireObject(part, given, 'vectors { vectors, labels }');
  // Of another realm, too, as a test runner has them.
  const kind = Object.prototype.toString.call(vectors).slice('[object '.length, -1);
  if (kind !== 'Float32Array') refuse(`${part}.vectors`, 'a Float32Array', kind);
  const count = vectors.length / vectorLength;
  if (!Number.isInteger(count) || count < 1) {
    refuse(`${part}.vectors`, `a multiple of ${vectorLength} values, those of a vector`, vectors.length);
  }
  const bad = vectors.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    const [vector, at] = [Math.floor(bad / vectorLength), bad % vectorLength];
    refuse(`${part}.vectors[${bad}]`, `a finite number for value ${at} of vector ${vector}`, vectors[bad]);
  }
  const own = labelsOf(labels, { name: `data.${part}.labels`, of: 'a vector', count, classes });
  const taken = Math.min(count, limit ?? count);
  return {
    vectors: vectors.subarray(0, taken * vectorLength),
    labels: own.subarray(0, taken),
    count: taken,
    vectorLength,
  };
}

/** Mean and standard deviation of each value of the vectors, in their own units. One that is the same everywhere has deviation 1. */
export function normalizationOfVectors({ vectors, count, vectorLength }: LabelledVectors): Normalization {
  const mean = new Float64Array(vectorLength);
  const squares = new Float64Array(vectorLength);
  const isConstant = new Array<boolean>(vectorLength).fill(true);
  for (let at = 0; at < vectors.length; at++) mean[at % vectorLength]! += vectors[at]!;
  for (let i = 0; i < vectorLength; i++) mean[i]! /= count;
  // Squares of the deviations: the squares of the values themselves would cancel where these are large and close to each other.
  for (let at = 0; at < vectors.length; at++) {
    const i = at % vectorLength;
    squares[i]! += (vectors[at]! - mean[i]!) ** 2;
    if (vectors[at] !== vectors[i]) isConstant[i] = false;
  }
  const deviation = (i: number): number => Math.sqrt(squares[i]! / count);
  const isUsable = (i: number): boolean => !isConstant[i] && deviation(i) >= SMALLEST_DEVIATION;
  return {
    mean: Array.from(mean, (average, i) => (isConstant[i] ? vectors[i]! : average)),
    std: Array.from(mean, (_, i) => (isUsable(i) ? deviation(i) : 1)),
  };
}

/** float32 vectors [batch, length] to (value - mean) / std, one mean and deviation of each of the values. */
export function standardize({ mean, std }: Normalization): Transform {
  return {
    name: 'standardize',
    apply(vectors: Tensor) {
      const row = (values: readonly number[]): Tensor =>
        tensor(Float32Array.from(values), { shape: [1, values.length], device: vectors.device });
      return vectors.to({ dtype: 'float32' }).sub(row(mean)).div(row(std));
    },
  };
}
