import { describe, expect, it } from 'vitest';
import {
  confusionMatrix,
  frequentConfusions,
  MetricError,
  perClassAccuracy,
  topKCorrect,
} from '../../lib/evaluation/index.js';
import { scope, tensor, zeros } from '../../lib/tensor/index.js';

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

it.each<[string, () => unknown]>([
  ['int64\\[2\\] for labels', () => topKCorrect(zeros([2, 3]), zeros([1], { dtype: 'int64' }), [1])],
  ['int64\\[2\\] for labels', () => topKCorrect(zeros([2, 3]), tensor([1.5, 1]), [1])],
  ['\\[batch, classes\\] for logits', () => topKCorrect(zeros([3]), zeros([3], { dtype: 'int64' }), [1])],
  ...[[], [0], [1.5], [-1]].map((ks): [string, () => unknown] => [
    'integers from 1 for ks',
    () => topKCorrect(zeros([2, 3]), zeros([2], { dtype: 'int64' }), ks),
  ]),
])('topKCorrect refuses what is not %s', (expected, count) => {
  scope(() => {
    expect(count).toThrow(MetricError);
    expect(count).toThrow(new RegExp(`topKCorrect: expected ${expected}, got `));
  });
});

it.each([-1, Number.NaN, 0.5, '1'])('the count %s in a confusion matrix is refused', (count) => {
  const confusion = [
    [1, 2],
    [count as number, 0],
  ];
  const problem = `expected an integer from 0 for confusion[1][0], got ${count}`;
  expect(() => perClassAccuracy(confusion)).toThrow(new MetricError(`perClassAccuracy: ${problem}`));
  expect(() => frequentConfusions(confusion, ['a', 'b'], 1)).toThrow(new MetricError(`frequentConfusions: ${problem}`));
});

it.each([-1, 1.5, Number.NaN])('a limit of %s confusions is refused', (limit) => {
  expect(() => frequentConfusions([[1]], ['a'], limit)).toThrow(
    new MetricError(`frequentConfusions: expected an integer from 0 for limit, got ${limit}`),
  );
});

describe('confusionMatrix', () => {
  const scores = [
    [5, 1, 0],
    [1, 5, 0],
    [0, 1, 5],
    [2, 3, 1],
    [-1, -2, -3],
    [0, 0.5, 0.25],
  ];
  const labels = [0, 0, 2, 1, 2, 0];
  // Taken for 0, 1, 2, 1, 0, 1.
  const expected = [
    [1, 2, 0],
    [0, 1, 0],
    [1, 0, 1],
  ];

  it.each(['float32', 'float64', 'bfloat16'] as const)(
    'counts by true and by predicted class, of %s scores',
    (dtype) => {
      const counts = scope(() =>
        confusionMatrix(tensor(scores.flat(), { shape: [6, 3] }).to({ dtype }), tensor(labels, { dtype: 'int64' }), 3),
      );
      expect(counts).toEqual(expected);
    },
  );

  it('is zero without images, and has a row for a class without images', () => {
    scope(() => {
      const none = confusionMatrix(zeros([0, 2]), zeros([0], { dtype: 'int64' }), 2);
      expect(none).toEqual([
        [0, 0],
        [0, 0],
      ]);
      const one = confusionMatrix(tensor([1, 2], { shape: [1, 2] }), tensor([1], { dtype: 'int64' }), 2);
      expect(one).toEqual([
        [0, 0],
        [0, 1],
      ]);
    });
  });

  it('refuses what does not go together, by name', () => {
    scope(() => {
      const [two, labelled] = [zeros([2, 3]), zeros([2], { dtype: 'int64' })];
      for (const [attempt, message] of [
        [() => confusionMatrix(two, labelled, 4), 'expected [n, 4] for scores, got Tensor(float32[2, 3] on cpu)'],
        [() => confusionMatrix(zeros([6]), labelled, 3), 'expected [n, 3] for scores, got Tensor(float32[6] on cpu)'],
        [
          () => confusionMatrix(two, zeros([3], { dtype: 'int64' }), 3),
          'expected int64[2] for labels, got Tensor(int64[3]',
        ],
        [() => confusionMatrix(two, zeros([2]), 3), 'expected int64[2] for labels, got Tensor(float32[2]'],
        [() => confusionMatrix(two, zeros([2, 1], { dtype: 'int64' }), 3), 'for labels, got Tensor(int64[2, 1]'],
        [() => confusionMatrix(two, labelled, 0), 'expected an integer from 1 for classes, got 0'],
        [() => confusionMatrix(two, labelled.add(3), 3), 'expected labels from 0 to 2, got 3 for labels[0]'],
        [() => confusionMatrix(two, labelled.sub(1), 3), 'expected labels from 0 to 2, got -1 for labels[0]'],
      ] as const) {
        expect(attempt).toThrow(MetricError);
        expect(attempt).toThrow(`confusionMatrix: ${message}`.replace('confusionMatrix: for', 'for'));
      }
    });
  });
});

describe('perClassAccuracy', () => {
  it('is the percentage of a row on the diagonal, and null for a row without images', () => {
    const accuracies = perClassAccuracy([
      [3, 1, 0],
      [0, 0, 0],
      [5, 2, 1],
    ]);
    expect(accuracies).toEqual([75, null, 12.5]);
  });

  it('refuses counts that are not square', () => {
    expect(() =>
      perClassAccuracy([
        [1, 2],
        [3, 4, 5],
      ]),
    ).toThrow(new MetricError('perClassAccuracy: expected 2 counts in each row of confusion, got 3 in confusion[1]'));
  });
});

it('decides equal scores in the confusion matrix as top-1 does', () => {
  scope(() => {
    // Few different values, as a short floating-point type gives: every row has ties for the largest.
    const rows = Array.from({ length: 200 }, (_, i) => Array.from({ length: 10 }, (_, c) => (i * 7 + c * c) % 3));
    const scores = tensor(rows.flat(), { shape: [200, 10] });
    const labels = tensor(
      rows.map((row, i) => row.indexOf(Math.max(...row), i % 5)).map((c) => Math.max(0, c)),
      { dtype: 'int64' },
    );
    const confusion = confusionMatrix(scores, labels, 10);
    const hits = confusion.reduce((sum, row, label) => sum + row[label]!, 0);
    const [top1] = topKCorrect(scores, labels, [1, 5]);
    expect(hits).toBe(top1!.item());
    expect(hits).toBeGreaterThan(0);
  });
});
