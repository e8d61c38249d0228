import { expect, it } from 'vitest';
import { topKCorrect } from '../../lib/evaluation/index.js';
import { scope, tensor } from '../../lib/tensor/index.js';

const hits = (rows: readonly (readonly number[])[], labels: readonly number[], ks: readonly number[]): number[] =>
  scope(() =>
    topKCorrect(
      tensor(rows.flat(), { shape: [rows.length, rows[0]!.length] }),
      tensor([...labels], { dtype: 'int64' }),
      ks,
    ).map((count) => {
      expect(count.dtype).toBe('int64');
      return count.item();
    }),
  );

// The labels' ranks in these rows are 1, 2, 4 and 6.
const ROWS = [
  [9, 1, 2, 3, 4, 5],
  [9, 8, 2, 3, 4, 5],
  [9, 8, 7, 6.5, 4, 5],
  [-9, -8, -7, -6, -5, -99],
];
const LABELS = [0, 1, 3, 5];

it('counts the labels among the k largest', () => {
  expect(hits(ROWS, LABELS, [1, 2, 3, 4, 5, 6])).toEqual([1, 2, 2, 3, 3, 4]);
  expect(hits(ROWS, LABELS, [5, 1])).toEqual([3, 1]);
});

it('counts every label when there are fewer classes than k', () => {
  expect(
    hits(
      [
        [3, 2, 1],
        [3, 2, 1],
      ],
      [0, 2],
      [1, 5],
    ),
  ).toEqual([1, 2]);
});
