import { scope, type Tensor } from '../tensor/index.js';

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
 * largest of the scores [images, classes]; labels int64 [images].
 */
export function confusionMatrix(scores: Tensor, labels: Tensor, classes: number): number[][] {
  if (scores.dim !== 2 || scores.shape[1] !== classes || labels.dim !== 1 || labels.shape[0] !== scores.shape[0]) {
    throw new RangeError(
      `confusionMatrix: expected scores [n, ${classes}] and labels [n], got [${scores.shape.join(', ')}] and [${labels.shape.join(', ')}]`,
    );
  }
  const predicted = scope(() => scores.argmax({ dim: 1 }).toTypedArray() as BigInt64Array);
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  (labels.toTypedArray() as BigInt64Array).forEach((label, i) => {
    const row = counts[Number(label)];
    if (row === undefined) {
      throw new RangeError(`confusionMatrix: expected labels from 0 to ${classes - 1}, got ${label} at place ${i}`);
    }
    row[Number(predicted[i])]!++;
  });
  return counts;
}

/** Of each class the percentage of its images that were recognised; null for a class without images. */
export function perClassAccuracy(confusion: readonly (readonly number[])[]): (number | null)[] {
  return confusion.map((row, label) => {
    const images = row.reduce((sum, count) => sum + count, 0);
    return images === 0 ? null : (100 * row[label]!) / images;
  });
}
