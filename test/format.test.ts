import { expect, it } from 'vitest';
import { byteSize, gibibytes } from '../lib/format.js';

it('sizes are in the largest unit that there is one of, with three digits', () => {
  expect([0, 1023, 1024, 131_072].map(byteSize)).toEqual(['0 B', '1023 B', '1.00 KiB', '128 KiB']);
  expect(byteSize(31.5 * 2 ** 20)).toBe('31.5 MiB');
  expect(byteSize(2 ** 30 - 2 ** 20)).toBe('1023 MiB');
  expect(byteSize(1234 * 2 ** 30)).toBe('1234 GiB');
});

it('what is compared is in GiB, however small', () => {
  expect([2 ** 20, 12.25 * 2 ** 30, 2 ** 40].map(gibibytes)).toEqual(['0.000977 GiB', '12.3 GiB', '1024 GiB']);
});
