/** How the report writes numbers. Each function takes null or undefined for a figure that is not there. */

type Figure = number | null | undefined;

export const missing = '–';
const noBreakSpace = '\u00a0';

export function formatNumber(value: Figure, decimals = 0): string {
  if (value === null || value === undefined) return missing;
  return value
    .toLocaleString('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
    .replace('-', '\u2212');
}

/** `67.6 %`. */
export function formatPercent(value: Figure, decimals = 1): string {
  if (value === null || value === undefined) return missing;
  return `${formatNumber(value, decimals)}${noBreakSpace}%`;
}

/** `0.842`; a loss beyond 1,000 or below 0.001 in powers of ten. */
export function formatLoss(value: Figure): string {
  if (value === null || value === undefined) return missing;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1000)) return value.toExponential(1).replaceAll('-', '\u2212');
  return formatNumber(value, 3);
}

/** `41.3 s`, `12 min 05 s`, `3 h 12 min`. */
export function formatDuration(seconds: Figure): string {
  if (seconds === null || seconds === undefined) return missing;
  const parts = (...words: string[]) => words.join(noBreakSpace);
  if (seconds < 59.95) return parts(formatNumber(seconds, 1), 's');
  const whole = Math.round(seconds);
  if (whole < 3600) return parts(`${Math.floor(whole / 60)}`, 'min', `${whole % 60}`.padStart(2, '0'), 's');
  const minutes = Math.round(seconds / 60);
  return parts(formatNumber(Math.floor(minutes / 60)), 'h', `${minutes % 60}`.padStart(2, '0'), 'min');
}

/** `12 March 2026, 14:03 UTC`; text that is no date as it stands. */
export function formatDate(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const day = date.toLocaleDateString('en-GB', { day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' });
  return `${day}, ${date.toISOString().slice(11, 16)} UTC`;
}

const words = 'zero one two three four five six seven eight nine ten eleven twelve'.split(' ');

/** `eight`, and from thirteen on digits. */
export function countInWords(count: number): string {
  return words[count] ?? formatNumber(count);
}

/** `auxWidth` as `aux width`; a name that starts with a capital stays. */
export function nameInWords(name: string): string {
  if (/^[A-Z]/.test(name)) return name;
  return name
    .replaceAll('_', ' ')
    .replace(/([a-z0-9])([A-Z])(?=[a-z]|$)/g, (_, before: string, start: string) => `${before} ${start.toLowerCase()}`);
}
