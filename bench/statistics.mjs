/**
 * @typedef {{ median: number, low: number, high: number }} Range
 *   A median and the ends of the middle half.
 * @typedef {Range & { values: readonly number[] }} Summary
 * @typedef {{ most: number, least?: undefined } | { least: number, most?: undefined }} Bar
 *   What is to be reached: at most, or at least, so much.
 */

/** @param {readonly number[]} values */
export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * Median, and the range of the middle half, of numbers.
 * @param {readonly number[]} values
 * @returns {Summary}
 */
export function summarize(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.25), high: quantile(sorted, 0.75), values };
}

/**
 * As `numpy.percentile` has it: between two numbers their weighted mean.
 * @param {readonly number[]} sorted
 * @param {number} part
 */
export function quantile(sorted, part) {
  const position = part * (sorted.length - 1);
  const low = Math.floor(position);
  return sorted[low] + (position - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

/**
 * The median of the ratios of pairs that were measured next to each other: drifts of the machine cancel.
 * @param {readonly number[]} ours
 * @param {readonly number[]} theirs
 */
export function pairedRatio(ours, theirs) {
  return summarize(ours.map((value, i) => value / theirs[i]));
}

/**
 * "met" or "NOT MET" where the middle half of the rounds agrees with the median, else "undecided".
 * @param {Range} measured
 * @param {Bar} bar
 */
export function verdictOf({ median, low, high }, { most, least }) {
  /** @param {number} value */
  const isMet = (value) => (most === undefined ? value >= least : value <= most);
  if (isMet(low) !== isMet(high)) return 'undecided';
  return isMet(median) ? 'met' : 'NOT MET';
}
