// Numbers of bytes, for people.

const UNITS = [
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
] as const;

/** "12.2 GiB", also of less than one: for numbers that are compared. */
export function gibibytes(bytes: number): string {
  return `${threeDigits(bytes / 2 ** 30)} GiB`;
}

/** "31.5 MiB", in the largest unit that there is one of. */
export function byteSize(bytes: number): string {
  const unit = UNITS.find(([, size]) => bytes >= size);
  return unit === undefined ? `${bytes} B` : `${threeDigits(bytes / unit[1])} ${unit[0]}`;
}

const threeDigits = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
