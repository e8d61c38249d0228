// Numbers of bytes, and names that people gave, for people.

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

/** A name, such as of a file or a class: control characters, which a terminal would obey, are escaped. */
export function shown(name: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is escaped
  return name.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) => escapedByte(character.charCodeAt(0)));
}

/** A text with names in it, whose lines stay lines. */
export const shownLines = (text: string): string =>
  text
    .split(/(\t|\n)/)
    .map((part, i) => (i % 2 === 1 ? part : shown(part)))
    .join('');

export const escapedByte = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`;
