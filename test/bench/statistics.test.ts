// The benchmark's arithmetic; its measurements are read, not tested.
import { expect, it } from 'vitest';
import { pairedRatio, summarize, verdictOf } from '../../bench/statistics.mjs';

it('gives the median and the middle half', () => {
  expect(summarize([5, 1, 3])).toMatchObject({ median: 3, low: 2, high: 4 });
  expect(summarize([4, 1, 2, 3]).median).toBe(2.5);
  expect(summarize([7])).toMatchObject({ median: 7, low: 7, high: 7 });
});

it('takes ratios of neighbours, so that a drift of the machine cancels', () => {
  expect(pairedRatio([1, 10, 100], [2, 20, 200])).toMatchObject({ median: 0.5, low: 0.5, high: 0.5 });
});

it('decides about a bar only where the middle half of the rounds agrees', () => {
  const around = (low: number, high: number) => ({ median: (low + high) / 2, low, high });
  expect(verdictOf(around(0.6, 0.7), { most: 0.8 })).toBe('met');
  expect(verdictOf(around(0.9, 1), { most: 0.8 })).toBe('NOT MET');
  expect(verdictOf(around(0.7, 0.9), { most: 0.8 })).toBe('undecided');
  expect(verdictOf(around(0.5, 0.6), { least: 0.45 })).toBe('met');
  expect(verdictOf(around(0.4, 0.5), { least: 0.45 })).toBe('undecided');
});
