// The benchmark's arithmetic; its measurements are read, not tested.
import { expect, it } from 'vitest';
// @ts-expect-error plain JavaScript without types
import { pairedRatio, summarize } from '../../bench/statistics.mjs';

it('gives the median and the middle half', () => {
  expect(summarize([5, 1, 3])).toMatchObject({ median: 3, low: 2, high: 4 });
  expect(summarize([4, 1, 2, 3]).median).toBe(2.5);
  expect(summarize([7])).toMatchObject({ median: 7, low: 7, high: 7 });
});

it('takes ratios of neighbours, so that a drift of the machine cancels', () => {
  expect(pairedRatio([1, 10, 100], [2, 20, 200])).toMatchObject({ median: 0.5, low: 0.5, high: 0.5 });
});
