import { expect, it } from 'vitest';
import { percentScale, rangeOf } from '../../lib/report/chart-parts.js';

it('the lowest and the highest of as many figures as a run has', () => {
  // More than a call takes as arguments.
  const figures = Array.from({ length: 1_000_000 }, (_, i) => 20 + (i % 61));
  expect(rangeOf(figures)).toEqual([20, 80]);
  expect(rangeOf([-1])).toEqual([-1, -1]);
  const [from, to] = percentScale(figures).domain() as [number, number];
  expect([from <= 20, to >= 80]).toEqual([true, true]);
});
