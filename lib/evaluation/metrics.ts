import { LayerwiseError } from '../errors.js';
import type { Tensor } from '../tensor/index.js';

/** Scores, labels or counts are not what a metric can be taken of: which, what was expected, what came. */
export class MetricError extends LayerwiseError {
  override readonly name = 'MetricError';
  readonly code = 'INVALID_ARGUMENT';
}

/**
 * For each k, how many of [batch, classes] logits have the label among their k largest; int64 scalars on the device.
 * With fewer classes than k, all do.
 */
export function topKCorrect(logits: Tensor, labels: Tensor, ks: readonly number[]): Tensor[] {
  const classes = logits.shape[1]!;
  const { indices } = logits.topk(Math.min(Math.max(...ks), classes), { dim: 1 });
  const hits = indices.eq(labels.unsqueeze(1));
  return ks.map((k) => hits.narrow(1, 0, Math.min(k, classes)).sum());
}

/**
 * How often each class was taken for each: counts [classes][classes], a row a true class, a column the class with the
 * largest of the scores [n, classes] of any floating-point dtype; labels int64 [n], 0 ... classes - 1. Both may lie on
 * any device; waits for it.
 *
 * @throws {MetricError} for another number of classes, other shapes or dtypes, or a label out of range.
 */
export function confusionMatrix(scores: Tensor, labels: Tensor, classes: number): number[][] {
  if (!Number.isInteger(classes) || classes < 1) {
    throw new MetricError(`confusionMatrix: expected an integer from 1 for classes, got ${classes}`);
  }
  const [images] = scores.shape;
  if (scores.dim !== 2 || scores.shape[1] !== classes) {
    throw new MetricError(`confusionMatrix: expected [n, ${classes}] for scores, got ${scores}`);
  }
  if (labels.dim !== 1 || labels.shape[0] !== images || labels.dtype !== 'int64') {
    throw new MetricError(`confusionMatrix: expected int64[${images}] for labels, got ${labels}`);
  }
  // As top-1 and top-5 rank them: equal scores, which a short floating-point type gives, are decided the same way.
  const { values, indices } = scores.topk(Math.min(5, classes), { dim: 1 });
  using _values = values;
  using _indices = indices;
  using predicted = indices.select(1, 0);
  const columns = predicted.toTypedArray() as BigInt64Array;
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  (labels.toTypedArray() as BigInt64Array).forEach((label, image) => {
    const row = counts[Number(label)];
    if (row === undefined) {
      throw new MetricError(
        `confusionMatrix: expected labels from 0 to ${classes - 1}, got ${label} for labels[${image}]`,
      );
    }
    row[Number(columns[image])]!++;
  });
  return counts;
}

/**
 * Of each class the percentage of its images that were recognised, from counts with a row a true class and a column a
 * predicted one; null for a class without images.
 *
 * @throws {MetricError} where the counts are not square.
 */
export function perClassAccuracy(confusion: readonly (readonly number[])[]): (number | null)[] {
  return confusion.map((row, label) => {
    if (row.length !== confusion.length) {
      throw new MetricError(
        `perClassAccuracy: expected ${confusion.length} counts in each row of confusion, got ${row.length} in confusion[${label}]`,
      );
    }
    const images = row.reduce((sum, count) => sum + count, 0);
    return images === 0 ? null : (100 * row[label]!) / images;
  });
}
