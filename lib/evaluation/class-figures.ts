import { MetricError } from './errors.js';
import { perClassAccuracy, requireCounts } from './metrics.js';

/** How the images of one class fared. */
export interface ClassFigures {
  /** The class's name. */
  class: string;
  images: number;
  /** Images put in their class. */
  correct: number;
  /** Percentage; null for a class without images. */
  top1: number | null;
  /** The class that it was taken for most often, the first of several; null where there was no mistake. */
  mistake: { class: string; images: number } | null;
}

/** One kind of mistake: images of a class that were taken for another. */
export interface Confusion {
  class: string;
  takenFor: string;
  images: number;
  /** Percentage of the class's images. */
  share: number;
}

/**
 * What a confusion matrix says of each class, in its order. `names` are as many as its rows.
 *
 * @throws {MetricError} where the matrix is not square, or a count is no integer from 0.
 */
export function classFigures(confusion: readonly (readonly number[])[], names: readonly string[]): ClassFigures[] {
  const accuracies = perClassAccuracy(confusion);
  return confusion.map((row, label) => {
    const worst = row.reduce((most, count, other) => (other !== label && count > (row[most] ?? 0) ? other : most), -1);
    return {
      class: names[label] ?? '',
      images: sum(row),
      correct: row[label]!,
      top1: accuracies[label]!,
      mistake: worst < 0 ? null : { class: names[worst] ?? '', images: row[worst]! },
    };
  });
}

/**
 * The most frequent kinds of mistake by number of images, at most `limit`, the most frequent first.
 *
 * @throws {MetricError} where the matrix is not square, and for a count or limit that is no integer from 0.
 */
export function frequentConfusions(
  confusion: readonly (readonly number[])[],
  names: readonly string[],
  limit: number,
): Confusion[] {
  requireCounts('frequentConfusions', confusion);
  if (!Number.isInteger(limit) || limit < 0) {
    throw new MetricError(`frequentConfusions: expected an integer from 0 for limit, got ${String(limit)}`);
  }
  return confusion
    .flatMap((row, label) => {
      const images = sum(row);
      return row.flatMap((count, other) =>
        other === label || count === 0
          ? []
          : [{ class: names[label] ?? '', takenFor: names[other] ?? '', images: count, share: (100 * count) / images }],
      );
    })
    .sort((a, b) => b.images - a.images)
    .slice(0, limit);
}

/** The class names of a matrix: the run's own, or `class 1`, `class 2` and so on. */
export function classNames(count: number, names: readonly string[] | undefined): string[] {
  return Array.from({ length: count }, (_, label) => names?.[label] ?? `class ${label + 1}`);
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
