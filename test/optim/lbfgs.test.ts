import { describe, expect, it } from 'vitest';
import { type LbfgsOptions, type LbfgsResult, minimizeLbfgs, OptimizerError } from '../../lib/optim/index.js';
import { memoryStats, scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import { expectNumbersClose, scatter } from '../support/fixtures.js';

type PlainObjective = (x: readonly number[]) => { value: number; gradient: readonly number[] };

/** An objective of plain numbers as one of tensors. */
const lift = (objective: PlainObjective) => (point: Tensor) => {
  const { value, gradient } = objective(point.toArray() as number[]);
  return { value, gradient: tensor(Float64Array.from(gradient)) };
};

/** Minimises from `start`; the result with the minimiser as numbers. */
function minimize(
  objective: PlainObjective,
  start: readonly number[],
  options?: LbfgsOptions,
): Omit<LbfgsResult, 'minimizer'> & { minimizer: number[] } {
  return scope(() => {
    const { minimizer, ...result } = minimizeLbfgs(lift(objective), tensor(Float64Array.from(start)), options);
    const numbers = minimizer.toArray() as number[];
    minimizer.dispose();
    return { ...result, minimizer: numbers };
  });
}

/** The chained function of Rosenbrock: 0 at (1, ..., 1), at the end of a curved valley. */
const rosenbrock: PlainObjective = (x) => {
  const gradient = x.map(() => 0);
  let value = 0;
  for (let i = 0; i + 1 < x.length; i++) {
    const valley = x[i + 1]! - x[i]! ** 2;
    value += 100 * valley ** 2 + (1 - x[i]!) ** 2;
    gradient[i]! += -400 * valley * x[i]! - 2 * (1 - x[i]!);
    gradient[i + 1]! += 200 * valley;
  }
  return { value, gradient };
};

/** sum_i curvature_i (x_i - target_i)^2 / 2 + offset. */
const quadratic =
  (curvatures: readonly number[], target: readonly number[], offset = 0): PlainObjective =>
  (x) => {
    const gradient = x.map((value, i) => curvatures[i]! * (value - target[i]!));
    return { value: gradient.reduce((sum, g, i) => sum + (g * (x[i]! - target[i]!)) / 2, offset), gradient };
  };

describe('minimizeLbfgs', () => {
  it.each([2, 5, 10, 50])('finds the minimum of the Rosenbrock function in %i dimensions', (n) => {
    const start = Array.from({ length: n }, (_, i) => (i % 2 === 0 ? -1.2 : 1));
    // In 4 to 7 dimensions there is a local minimum near (-1, 1, ..., 1) besides.
    const from = n === 5 ? start.map(() => 0) : start;
    const result = minimize(rosenbrock, from, { tolerance: 1e-9 });
    expect(result.stopped).toBe('converged');
    expect(result.gradientNorm).toBeLessThanOrEqual(1e-9);
    expect(result.evaluations).toBeLessThan(20 * n + 100);
    expect(result.value).toBeLessThan(1e-17);
    expectNumbersClose(
      result.minimizer,
      from.map(() => 1),
      'minimiser',
      { relative: 1e-8 },
    );
  });

  it.each([
    [4, 10],
    [6, 40],
  ])('finds the minimum of a quadratic whose curvatures span %i orders of magnitude', (orders, history) => {
    const curvatures = Array.from({ length: 30 }, (_, i) => 10 ** ((orders * i) / 29));
    const target = Array.from(scatter(30, 1));
    const start = target.map(() => 0);
    const result = minimize(quadratic(curvatures, target, 7), start, { history, tolerance: 1e-8 });
    expect(result.stopped).toBe('converged');
    // The smallest curvature is 1, so that no coordinate is farther off than its gradient.
    expectNumbersClose(result.minimizer, target, 'minimiser', { relative: 0, absolute: 1.1e-8 });
    expect(result.value).toBeCloseTo(7, 12);
  });

  it('needs hardly a step when the preconditioner is the inverse Hessian up to a factor', () => {
    const curvatures = Array.from({ length: 30 }, (_, i) => 10 ** ((6 * i) / 29));
    const target = Array.from(scatter(30, 2));
    const result = minimize(quadratic(curvatures, target), new Array(30).fill(0), {
      tolerance: 1e-8,
      preconditioner: (vector) => vector.div(tensor(Float64Array.from(curvatures))).mul(0.3),
    });
    expect(result.stopped).toBe('converged');
    expect(result.iterations).toBeLessThanOrEqual(4);
    expectNumbersClose(result.minimizer, target, 'minimiser', { relative: 0, absolute: 1e-8 });
  });

  it('converges where the decrease of values is lost in rounding', () => {
    const target = [3, -2];
    const result = minimize(quadratic([1, 40], target, 1e6), [0, 0], { tolerance: 1e-9 });
    expect(result.stopped).toBe('converged');
    expectNumbersClose(result.minimizer, target, 'minimiser', { relative: 1e-9 });
  });

  it('is the same however long the first step is in units of the function', () => {
    for (const unit of [1e-8, 1e8]) {
      const result = minimize(quadratic([unit, 3 * unit], [1, 2]), [500, -700], { tolerance: 1e-9 * unit });
      expect(result.stopped).toBe('converged');
      expectNumbersClose(result.minimizer, [1, 2], 'minimiser', { relative: 1e-8 });
    }
  });

  it('stops at once where the gradient is small enough', () => {
    const result = minimize(quadratic([1, 1], [2, 3]), [2, 3]);
    expect(result).toMatchObject({ stopped: 'converged', iterations: 0, evaluations: 1, value: 0, gradientNorm: 0 });
    expect(result.minimizer).toEqual([2, 3]);
  });

  it('stops at the iteration limit with the best point so far', () => {
    const start = [-1.2, 1];
    const result = minimize(rosenbrock, start, { maxIterations: 3 });
    expect(result).toMatchObject({ stopped: 'max-iterations', iterations: 3 });
    expect(result.value).toBeLessThan(rosenbrock(start).value);
    expect(result.value).toBe(rosenbrock(result.minimizer).value);
    expect(result.gradientNorm).toBe(Math.max(...rosenbrock(result.minimizer).gradient.map(Math.abs)));
    expect(minimize(rosenbrock, start, { maxIterations: 0 })).toMatchObject({
      stopped: 'max-iterations',
      iterations: 0,
    });
  });

  it('gives up in the line search when the gradient is not that of the function', () => {
    const uphill = minimize((x) => ({ value: x[0]! ** 2, gradient: [-2 * x[0]!] }), [1]);
    expect(uphill).toMatchObject({ stopped: 'line-search', minimizer: [1] });
    const unbounded = minimize((x) => ({ value: -x[0]!, gradient: [-1] }), [0]);
    expect(unbounded.stopped).toBe('line-search');
  });

  it('shortens a step to where the function is infinite or NaN', () => {
    // -log x + x on x > 0 is 1 at its minimum, 1.
    const barrier: PlainObjective = ([x]) => ({ value: x! - Math.log(x!), gradient: [1 - 1 / x!] });
    for (const start of [1e-3, 30]) {
      const result = minimize(barrier, [start], { tolerance: 1e-10 });
      expect(result.stopped).toBe('converged');
      expectNumbersClose([result.minimizer[0]!, result.value], [1, 1], 'minimiser and value', { relative: 1e-9 });
    }
  });

  it.each([
    ['NaN', { value: Number.NaN, gradient: [1] }],
    ['-Infinity', { value: Number.NEGATIVE_INFINITY, gradient: [1] }],
    ['NaN', { value: 1, gradient: [Number.NaN] }],
    ['Infinity', { value: 1, gradient: [Number.POSITIVE_INFINITY] }],
  ])('refuses an objective that is %s at the start', (name, evaluated) => {
    const attempt = () => minimize(() => evaluated, [0]);
    expect(attempt).toThrow(OptimizerError);
    expect(attempt).toThrow(new RegExp(`finite objective.*${name}.*start`));
    expect(attempt).toThrow(expect.objectContaining({ code: 'OBJECTIVE_NOT_FINITE' }));
  });

  it('refuses an objective that is finite nowhere but at the start', () => {
    const attempt = () => minimize(([x]) => ({ value: x === 0 ? 1 : Number.NaN, gradient: [1] }), [0]);
    expect(attempt).toThrow(expect.objectContaining({ name: 'OptimizerError', code: 'OBJECTIVE_NOT_FINITE' }));
  });

  it('leaves the start as it is, keeps only the minimiser, and copies the gradients', () => {
    scope(() => {
      const start = tensor(Float64Array.of(4, 5));
      const buffer = tensor(Float64Array.of(0, 0));
      const before = memoryStats();
      const { minimizer } = minimizeLbfgs((point) => {
        buffer.copy_(point.mul(tensor(Float64Array.of(1, 9))));
        return { value: point.mul(buffer).sum().item() / 2, gradient: buffer };
      }, start);
      expect(memoryStats().liveTensors).toBe(before.liveTensors + 1);
      expect(start.toArray()).toEqual([4, 5]);
      expectNumbersClose(minimizer.toArray() as number[], [0, 0], 'minimiser', { relative: 0, absolute: 1e-5 });
      minimizer.dispose();
    });
  });

  it('lets the minimiser outlive the scope it was found in', () => {
    const { minimizer } = scope(() =>
      minimizeLbfgs(lift(quadratic([1], [2])), tensor(Float64Array.of(0)), { tolerance: 1e-9 }),
    );
    expect(minimizer.item()).toBeCloseTo(2, 8);
    minimizer.dispose();
  });

  it('frees everything when the objective throws, in the middle too', () => {
    let calls = 0;
    const attempt = () =>
      minimize(
        (x) => {
          if (++calls === 7) throw new RangeError('no more');
          return rosenbrock(x);
        },
        [-1.2, 1],
      );
    // The leak check after each test looks at what is left.
    expect(attempt).toThrow(RangeError);
  });

  it.each([
    ['history', { history: 0 }],
    ['history', { history: 2.5 }],
    ['tolerance', { tolerance: -1 }],
    ['tolerance', { tolerance: Number.NaN }],
    ['maxIterations', { maxIterations: -1 }],
    ['maxIterations', { maxIterations: Number.POSITIVE_INFINITY }],
  ])('refuses a bad %s by its name', (name, options) => {
    expect(() => minimize(rosenbrock, [0, 0], options)).toThrow(OptimizerError);
    expect(() => minimize(rosenbrock, [0, 0], options)).toThrow(new RegExp(name));
  });

  it('refuses a start and a gradient of the wrong kind', () => {
    scope(() => {
      const objective = lift(rosenbrock);
      for (const start of [
        tensor([1, 2]),
        tensor(Float64Array.of(1, 2), { shape: [1, 2] }),
        tensor(new Float64Array(0)),
      ]) {
        expect(() => minimizeLbfgs(objective, start)).toThrow(/float64 tensor \[n\].*start, got Tensor/);
      }
      expect(() => minimizeLbfgs(objective, null as never)).toThrow(OptimizerError);
      const start = tensor(Float64Array.of(1, 2));
      for (const gradient of [tensor([1, 2]), tensor(Float64Array.of(1)), [1, 2] as never]) {
        expect(() => minimizeLbfgs(() => ({ value: 1, gradient }), start)).toThrow(/objective's gradient, got/);
      }
      const text = () => ({ value: '1' as never, gradient: start });
      expect(() => minimizeLbfgs(text, start)).toThrow(/a number for the objective's value, got string/);
    });
  });
});
