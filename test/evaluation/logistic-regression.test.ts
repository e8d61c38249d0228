import { describe, expect, it } from 'vitest';
import {
  fitOneVersusRest,
  LogisticRegressionError,
  type OneVersusRest,
  type OneVersusRestOptions,
} from '../../lib/evaluation/index.js';
import { OptimizerError } from '../../lib/optim/index.js';
import { arange, cat, inferenceMode, memoryStats, scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import {
  decode,
  type EncodedTensor,
  expectClose,
  expectNumbersClose,
  hashed,
  readFixture,
} from '../support/fixtures.js';

interface Fixture {
  readonly name: string;
  readonly classes: number;
  readonly l2: number | null;
  readonly features: EncodedTensor;
  readonly labels: EncodedTensor;
  readonly objective: number;
  readonly weights: EncodedTensor;
  readonly intercepts: EncodedTensor;
  readonly scores: EncodedTensor;
}

const fixtures = readFixture<Fixture[]>('logistic-regression.json');
const named = (name: string): Fixture => fixtures.find((fixture) => fixture.name === name)!;

function fitFixture(fixture: Fixture, options: Partial<OneVersusRestOptions> = {}): OneVersusRest {
  const l2 = fixture.l2 === null ? {} : { l2: fixture.l2 };
  return fitOneVersusRest(decode(fixture.features), decode(fixture.labels), {
    classes: fixture.classes,
    ...l2,
    ...options,
  });
}

const numbers = (t: Tensor): number[] => Array.from(t.to({ dtype: 'float64' }).toTypedArray(), Number);

/** Mean and standard deviation of each column, the latter 1 where it is 0. */
function moments(rows: readonly (readonly number[])[]): { mean: number[]; deviation: number[] } {
  const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const mean = rows[0]!.map((_, j) => meanOf(rows.map((row) => row[j]!)));
  const deviation = mean.map((m, j) => Math.sqrt(meanOf(rows.map((row) => (row[j]! - m) ** 2))) || 1);
  return { mean, deviation };
}

/** The objective of one class as the documentation states it, in standardised units. */
function objectiveOf(fixture: Fixture, c: number): (parameters: readonly number[]) => number {
  const [n, d] = fixture.features.shape as [number, number];
  const [flat, labels] = scope(() => [numbers(decode(fixture.features)), numbers(decode(fixture.labels))]);
  const rows = Array.from({ length: n }, (_, i) => flat.slice(i * d, (i + 1) * d));
  const { mean, deviation } = moments(rows);
  const l2 = fixture.l2 ?? 1 / n;
  return (parameters) => {
    let value = 0;
    rows.forEach((row, i) => {
      const z = row.reduce((sum, x, j) => sum + (parameters[j]! * (x - mean[j]!)) / deviation[j]!, parameters[d]!);
      value += Math.log1p(Math.exp(labels[i] === c ? -z : z)) / n;
    });
    return value + (l2 / 2) * parameters.slice(0, d).reduce((sum, w) => sum + w * w, 0);
  };
}

describe('fitOneVersusRest', () => {
  it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('equals Newton: %s', (_name, fixture) => {
    scope(() => {
      using model = fitFixture(fixture, { tolerance: 1e-12 });
      expect(model.fit.converged).toBe(true);
      expect(model.fit.gradientNorm).toBeLessThanOrEqual(1e-12);
      expectNumbersClose([model.fit.objective], [fixture.objective], 'objective', { relative: 1e-10 });
      const tolerance = { relative: 1e-5, absolute: 1e-7, ofLargest: true };
      expectClose(model.weights, fixture.weights, 'weights', tolerance);
      expectClose(model.intercepts, fixture.intercepts, 'intercepts', tolerance);
      expectClose(model.scores(decode(fixture.features)), fixture.scores, 'scores', tolerance);
    });
  });

  it('ends where finite differences of the documented objective are below the tolerance', () => {
    const fixture = named('overlapping classes');
    const [n, d] = fixture.features.shape as [number, number];
    scope(() => {
      using model = fitFixture(fixture, { tolerance: 1e-8 });
      const flat = numbers(decode(fixture.features));
      const rows = Array.from({ length: n }, (_, i) => flat.slice(i * d, (i + 1) * d));
      const { mean, deviation } = moments(rows);
      const weights = model.weights.toArray() as number[][];
      const intercepts = model.intercepts.toArray() as number[];
      let total = 0;
      for (let c = 0; c < fixture.classes; c++) {
        const at = objectiveOf(fixture, c);
        const intercept = weights[c]!.reduce((sum, w, j) => sum + w * mean[j]!, intercepts[c]!);
        const parameters = [...weights[c]!.map((w, j) => w * deviation[j]!), intercept];
        total += at(parameters);
        const step = 1e-4;
        parameters.forEach((value, j) => {
          const moved = (by: number) => at(parameters.with(j, value + by));
          const slope = (moved(step) - moved(-step)) / (2 * step);
          expect(Math.abs(slope), `class ${c}, parameter ${j}`).toBeLessThan(1e-8 + 2e-9);
        });
      }
      expect(model.fit.objective).toBeCloseTo(total, 12);
    });
  });

  it('classifies separable classes without error', () => {
    scope(() => {
      // Three discs in the plane, each separated by a line from the others.
      const labels = arange(300)
        .mul(1 / 100)
        .to({ dtype: 'int64' });
      const centres = tensor([2, 0, -1, 1.7, -1, -1.7], { shape: [3, 2] });
      const features = hashed([300, 2], 5).add(centres.indexSelect(0, labels));
      using model = fitOneVersusRest(features, labels, { classes: 3 });
      expect(model.fit.converged).toBe(true);
      const scores = model.scores(features);
      expect(scores.argmax({ dim: 1 }).toArray()).toEqual(labels.toArray());
      const isRight = scores.gt(0).eq(labels.unsqueeze(1).eq(arange(3)));
      expect(isRight.all().item()).toBe(1);
    });
  });

  it('gives a constant feature the weight 0, also where its mean is rounded', () => {
    const fixture = named('a constant feature');
    scope(() => {
      using model = fitFixture(fixture);
      expect((model.weights.toArray() as number[][]).map((row) => row[2])).toEqual([0, 0, 0]);
    });
    scope(() => {
      const varying = hashed([30001, 1], 1).to({ dtype: 'float64' });
      const labels = varying.flatten().gt(0.1).to({ dtype: 'int64' });
      const features = cat([varying, varying.mul(0).add(0.1)], { dim: 1 });
      using model = fitOneVersusRest(features, labels, { classes: 2 });
      expect((model.weights.toArray() as number[][]).map((row) => row[1])).toEqual([0, 0]);
    });
  });

  it('gives the same scores in whatever units the features come', () => {
    const fixture = named('overlapping classes');
    scope(() => {
      using plain = fitFixture(fixture, { tolerance: 1e-10 });
      const features = decode(fixture.features).to({ dtype: 'float64' });
      const [d] = features.shape.slice(1) as [number];
      const moved = features.mul(tensor(Float64Array.from({ length: d }, (_, j) => 10 ** (3 - 2 * j)))).add(50);
      using scaled = fitOneVersusRest(moved, decode(fixture.labels), { classes: fixture.classes, tolerance: 1e-10 });
      expectNumbersClose(numbers(scaled.scores(moved)), numbers(plain.scores(features)), 'scores', {
        relative: 1e-5,
        ofLargest: true,
      });
    });
  });

  it('says when the iterations were not enough', () => {
    scope(() => {
      using model = fitFixture(named('overlapping classes'), { maxIterations: 1, tolerance: 1e-12 });
      expect(model.fit).toMatchObject({ converged: false, stopped: 'max-iterations', iterations: 1 });
      expect(model.fit.gradientNorm).toBeGreaterThan(1e-12);
    });
  });

  it('leaves no tensors but the weights, and none when disposed', () => {
    const fixture = named('overlapping classes');
    scope(() => {
      const [features, labels] = [decode(fixture.features), decode(fixture.labels)];
      features.requiresGrad = true;
      const before = memoryStats();
      const model = scope(() => fitOneVersusRest(features, labels, { classes: fixture.classes }));
      expect(memoryStats().liveTensors).toBe(before.liveTensors + 2);
      expect(model.weights.requiresGrad).toBe(false);
      scope(() => expect(model.scores(features).requiresGrad).toBe(false));
      model.dispose();
      expect(memoryStats()).toEqual(before);
      expect(() => model.scores(features)).toThrow(expect.objectContaining({ code: 'TENSOR_DISPOSED' }));
    });
  });

  it('takes features that were made in inference mode', () => {
    const fixture = named('overlapping classes');
    scope(() => {
      const features = inferenceMode(() => decode(fixture.features).mul(1));
      using model = fitOneVersusRest(features, decode(fixture.labels), { classes: fixture.classes });
      expect(model.fit.converged).toBe(true);
    });
  });
});

describe('fitOneVersusRest refuses', () => {
  const good = () => ({
    features: tensor([1, 2, 3, 5, 2, 7, 4, 4], { shape: [4, 2] }),
    labels: tensor([0, 1, 1, 0], { dtype: 'int64' }),
    classes: 2,
  });
  type Given = ReturnType<typeof good> & Partial<OneVersusRestOptions>;
  const labels = (values: number[]) => tensor(values, { dtype: 'int64' });
  const bad: [string, () => Partial<Given>, RegExp][] = [
    ['a label too large', () => ({ labels: labels([0, 1, 2, 0]) }), /expected 0 to 1 for labels, got 2/],
    ['a negative label', () => ({ labels: labels([0, 1, -1, 0]) }), /expected 0 to 1 for labels, got -1/],
    ['a class without examples', () => ({ classes: 3 }), /each of 3 classes for labels, got none of class 2/],
    ['one class with all examples', () => ({ labels: labels([1, 1, 1, 1]) }), /labels, got none of class 0/],
    ['another number of labels', () => ({ labels: labels([0, 1, 1]) }), /labels \[n\].*got Tensor\(int64\[3\]/],
    ['labels of another dtype', () => ({ labels: tensor([0, 1, 1, 0]) }), /expected int64 labels.*got Tensor\(float32/],
    ['labels that are no tensor', () => ({ labels: [0, 1, 1, 0] as never }), /expected int64 labels/],
    ['features of one dimension', () => ({ features: tensor([1, 2, 3, 4]) }), /\[n, d\].*features, got Tensor/],
    ['integral features', () => ({ features: labels([1, 2, 3, 4]).reshape([4, 1]) }), /floating-point.*features/],
    ['features without columns', () => ({ features: tensor([], { shape: [4, 0] }) }), /d above 0 for features/],
    ['no examples', () => ({ features: tensor([], { shape: [0, 2] }), labels: labels([]) }), /n above 0/],
    [
      'features that are NaN',
      () => ({ features: tensor([1, 2, 3, Number.NaN], { shape: [4, 1] }) }),
      /finite features/,
    ],
    [
      'features that are infinite',
      () => ({ features: tensor([1, 2, 3, 4, 5, 6, Number.POSITIVE_INFINITY, 8], { shape: [4, 2] }) }),
      /finite features.*1 of 2 columns/,
    ],
    ['one class', () => ({ classes: 1 }), /at least 2 for classes, got 1/],
    ['a fraction of a class', () => ({ classes: 2.5 }), /at least 2 for classes, got 2.5/],
    ['a penalty of 0', () => ({ l2: 0 }), /above 0 for l2, got 0/],
    ['an infinite penalty', () => ({ l2: Number.POSITIVE_INFINITY }), /above 0 for l2, got Infinity/],
  ];

  it.each(bad)('%s', (_name, change, message) => {
    scope(() => {
      const { features, labels, ...options } = { ...good(), ...change() };
      const attempt = () => fitOneVersusRest(features, labels, options);
      expect(attempt).toThrow(LogisticRegressionError);
      expect(attempt).toThrow(message);
    });
  });

  it('a bad tolerance and iteration limit', () => {
    scope(() => {
      const { features, labels, classes } = good();
      expect(() => fitOneVersusRest(features, labels, { classes, tolerance: -1 })).toThrow(OptimizerError);
      expect(() => fitOneVersusRest(features, labels, { classes, maxIterations: 0.5 })).toThrow(/maxIterations/);
    });
  });

  it('to score features of another width', () => {
    scope(() => {
      const { features, labels, classes } = good();
      using model = fitOneVersusRest(features, labels, { classes });
      expect(() => model.scores(tensor([1, 2, 3], { shape: [1, 3] }))).toThrow(/expected \[m, 2\].*got Tensor/);
      expect(model.scores(tensor([], { shape: [0, 2] })).shape).toEqual([0, 2]);
    });
  });
});
