import { expect, it } from 'vitest';
import { byteSize, gibibytes, shown, shownLines } from '../lib/format.js';

it('sizes are in the largest unit that there is one of, with three digits', () => {
  expect([0, 1023, 1024, 131_072].map(byteSize)).toEqual(['0 B', '1023 B', '1.00 KiB', '128 KiB']);
  expect(byteSize(31.5 * 2 ** 20)).toBe('31.5 MiB');
  expect(byteSize(2 ** 30 - 2 ** 20)).toBe('1023 MiB');
  expect(byteSize(1234 * 2 ** 30)).toBe('1234 GiB');
});

it('what is compared is in GiB, however small', () => {
  expect([2 ** 20, 12.25 * 2 ** 30, 2 ** 40].map(gibibytes)).toEqual(['0.000977 GiB', '12.3 GiB', '1024 GiB']);
});

it('names cannot command a terminal: no control character is left, also of the second set', () => {
  expect(shown('a\x1b[31m\x9b2J\r\n\tb\x7f')).toBe('a\\x1b[31m\\x9b2J\\x0d\\x0a\\x09b\\x7f');
  expect(shown('caf\u00e9 \u00a0 \u{1f41d}')).toBe('caf\u00e9 \u00a0 \u{1f41d}');
});

it('a text with names keeps its lines and columns', () => {
  expect(shownLines('a\x1bb\n\tc\x9b\n')).toBe('a\\x1bb\n\tc\\x9b\n');
});
