import type { Tensor } from '../tensor/index.js';
import { MetricError } from './errors.js';

/**
 * For each k, how many of [batch, classes] logits have the label, int64 [batch], among their k largest; int64 scalars on the
 * device. With fewer classes than k, all do.
 *
 * @throws {MetricError} for other shapes or dtypes, and for a k below 1.
 */
export function topKCorrect(logits: Tensor, labels: Tensor, ks: readonly number[]): Tensor[] {
  if (logits.dim !== 2) throw new MetricError(`topKCorrect: expected [batch, classes] for logits, got ${logits}`);
  requireLabels('topKCorrect', labels, logits.shape[0]!);
  if (!Array.isArray(ks) || ks.length === 0 || ks.some((k) => !Number.isInteger(k) || k < 1)) {
    throw new MetricError(`topKCorrect: expected integers from 1 for ks, got ${String(ks)}`);
  }
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
  if (scores.dim !== 2 || scores.shape[1] !== classes) {
    throw new MetricError(`confusionMatrix: expected [n, ${classes}] for scores, got ${scores}`);
  }
  requireLabels('confusionMatrix', labels, scores.shape[0]!);
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

/** The most classes whose confusions are recorded: as text they take some 9 bytes for each pair of classes. */
export const MOST_CONFUSED_CLASSES = 2_048;

/** `confusionMatrix`, as results have it; null with more than 2,048 classes, whose pairs would not fit a file, or memory. */
export const recordedConfusions = (scores: Tensor, labels: Tensor, classes: number): number[][] | null =>
  classes > MOST_CONFUSED_CLASSES ? null : confusionMatrix(scores, labels, classes);

/** A label for each image: any others would be broadcast, or compared as what they are not. */
function requireLabels(user: string, labels: Tensor, images: number): void {
  if (labels.dim === 1 && labels.shape[0] === images && labels.dtype === 'int64') return;
  throw new MetricError(`${user}: expected int64[${images}] for labels, got ${labels}`);
}

/**
 * The accuracy of each class in percent, from counts with a row for each true and a column for each predicted class; null for a
 * class without images.
 *
 * @throws {MetricError} where the counts are not square, or a count is no integer from 0.
 */
export function perClassAccuracy(confusion: readonly (readonly number[])[]): (number | null)[] {
  requireCounts('perClassAccuracy', confusion);
  return confusion.map((row, label) => {
    const images = row.reduce((sum, count) => sum + count, 0);
    return images === 0 ? null : (100 * row[label]!) / images;
  });
}

/** Throws MetricError where a confusion matrix is not square, or a count is no integer from 0. */
export function requireCounts(user: string, confusion: readonly (readonly number[])[]): void {
  confusion.forEach((row, label) => {
    if (row.length !== confusion.length) {
      throw new MetricError(
        `${user}: expected ${confusion.length} counts in each row of confusion, got ${row.length} in confusion[${label}]`,
      );
    }
    const wrong = row.findIndex((count) => !Number.isSafeInteger(count) || count < 0);
    if (wrong < 0) return;
    throw new MetricError(
      `${user}: expected an integer from 0 for confusion[${label}][${wrong}], got ${String(row[wrong])}`,
    );
  });
}
