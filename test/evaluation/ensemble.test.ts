// Z = sum_j 2^j z_j / sum_j 2^j (paper, section 4.1), by hand.
import { expect, it } from 'vitest';
import { LayerEnsemble, MetricError } from '../../lib/evaluation/index.js';
import { scope, type Tensor, tensor, zeros } from '../../lib/tensor/index.js';

/** Logits of three layers for two images of two classes. */
const LAYERS = [
  [8, 1, -3, 0.5],
  [2, 4, 6, -1],
  [-1, 5, 0, 3],
] as const;
const logits = (layer: number): Tensor => tensor([...LAYERS[layer]!], { shape: [2, 2] });

function averages(scores: 'logits' | 'probabilities'): number[][] {
  const ensemble = new LayerEnsemble(scores);
  const found = LAYERS.map((_, layer) =>
    scope(() => {
      expect(ensemble.layers).toBe(layer);
      const averaged = [...ensemble.with(logits(layer)).toFloat32Array()];
      ensemble.add(logits(layer));
      return averaged;
    }),
  );
  ensemble.dispose();
  return found;
}

const expectClose = (got: readonly number[], expected: readonly number[]): void => {
  expect(got.length).toBe(expected.length);
  got.forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i]!, 5);
  });
};

it('weighs logits by powers of two', () => {
  const [one, two, three] = averages('logits');
  expectClose(one!, [8, 1, -3, 0.5]);
  // (1 * 8 + 2 * 2) / 3 and so on.
  expectClose(two!, [12 / 3, 9 / 3, 9 / 3, -1.5 / 3]);
  // (1 * 8 + 2 * 2 + 4 * -1) / 7 and so on.
  expectClose(three!, [8 / 7, 29 / 7, 9 / 7, 10.5 / 7]);
});

it('weighs softmax outputs by powers of two', () => {
  // Of two classes, softmax is the logistic function of the difference.
  const p = LAYERS.map(([a, b, c, d]) => {
    const [first, second] = [1 / (1 + Math.exp(b - a)), 1 / (1 + Math.exp(d - c))];
    return [first, 1 - first, second, 1 - second];
  });
  const [one, two, three] = averages('probabilities');
  expectClose(one!, p[0]!);
  expectClose(
    two!,
    p[0]!.map((v, i) => (v + 2 * p[1]![i]!) / 3),
  );
  expectClose(
    three!,
    p[0]!.map((v, i) => (v + 2 * p[1]![i]! + 4 * p[2]![i]!) / 7),
  );
});

it('keeps a copy: what happens to added logits afterwards changes nothing', () => {
  const ensemble = new LayerEnsemble('logits');
  scope(() => {
    const first = logits(0);
    ensemble.add(first);
    first.fill_(1000);
    expectClose([...ensemble.with(logits(1)).toFloat32Array()], [4, 3, 3, -0.5]);
  });
  ensemble.dispose();
});

it.each(['logits', 'probabilities'] as const)('weighs %s of as many layers as a network may have', (scores) => {
  const ensemble = new LayerEnsemble(scores);
  scope(() => {
    const first = tensor([Math.log(9), 0], { shape: [1, 2] });
    const second = tensor([0, Math.log(3)], { shape: [1, 2] });
    for (let layer = 0; layer < 510; layer++) ensemble.add(layer % 2 === 0 ? first : second);
    // ... + 2^-2 second + 2^-1 first + second, times 1/2: two thirds of the second.
    const [a, b] = [...ensemble.with(first).toFloat32Array()];
    const [one, two] =
      scores === 'logits'
        ? [Math.log(9) * (2 / 3), Math.log(3) / 3]
        : [0.9 * (2 / 3) + 0.25 / 3, 0.1 * (2 / 3) + 0.75 / 3];
    expectClose([a!, b!], [one!, two!]);
  });
  ensemble.dispose();
});

it('averages bfloat16 logits in float32', () => {
  const ensemble = new LayerEnsemble('logits');
  scope(() => {
    // Both are bfloat16 numbers; their average is none.
    ensemble.add(tensor([256], { shape: [1, 1] }).to({ dtype: 'bfloat16' }));
    const averaged = ensemble.with(tensor([1.0078125], { shape: [1, 1] }).to({ dtype: 'bfloat16' }));
    expect(averaged.dtype).toBe('float32');
    expectClose([...averaged.toFloat32Array()], [(256 + 2 * 1.0078125) / 3]);
  });
  ensemble.dispose();
});

it('refuses other scores, and logits of another shape, which would be broadcast', () => {
  expect(() => new LayerEnsemble('logit' as never)).toThrow(
    new MetricError('LayerEnsemble: expected one of logits, probabilities for scores, got logit'),
  );
  const ensemble = new LayerEnsemble('logits');
  scope(() => {
    expect(() => ensemble.add(zeros([3]))).toThrow('LayerEnsemble: expected [images, classes] for logits');
    ensemble.add(zeros([2, 3]));
    for (const give of [() => ensemble.add(zeros([1, 3])), () => ensemble.with(zeros([1, 3]))]) {
      expect(give).toThrow(
        new MetricError('LayerEnsemble: expected [2, 3] for logits, got Tensor(float32[1, 3] on cpu)'),
      );
    }
    expect(ensemble.layers).toBe(1);
  });
  ensemble.dispose();
});
