/** Median, and the range of the middle half, of numbers. */
export function summarize(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part) => {
    const place = part * (sorted.length - 1);
    const low = Math.floor(place);
    return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  return { median: at(0.5), low: at(0.25), high: at(0.75), values };
}

/** The median of the ratios of pairs that were measured next to each other: drifts of the machine cancel. */
export function pairedRatio(ours, theirs) {
  return summarize(ours.map((value, i) => value / theirs[i]));
}

/** "met" or "NOT MET" where the middle half of the rounds agrees with the median, else "undecided". */
export function verdictOf({ median, low, high }, { most, least }) {
  const isMet = (value) => (most === undefined ? value >= least : value <= most);
  if (isMet(low) !== isMet(high)) return 'undecided';
  return isMet(median) ? 'met' : 'NOT MET';
}
