import { describe, expect, it } from 'vitest';
import { Muon, type MuonOptions, OptimizerError } from '../../lib/optim/index.js';
import { full, measurePeak, rand, rehearse, scope, type Tensor, tensor, zeros } from '../../lib/tensor/index.js';
import { libtorchAtLeast, readFixture } from '../support/fixtures.js';
import { expectStep, leaves, type Trajectory } from './trajectories.js';

const TOLERANCE = { relative: 1e-5, absolute: 1e-6 };

/** Of products in bfloat16, which another machine, or release of LibTorch, rounds to other numbers: up to two tenths of a step of 0.1. */
const ROUNDED = { relative: 1e-5, absolute: 3e-2 };
const MATRICES = 4;

interface Recorded extends Trajectory<MuonOptions> {
  readonly sgd: { readonly learningRate: number; readonly weightDecay?: number } | null;
}

const trajectories = readFixture<Recorded[]>('muon.json');
const named = (name: string): Recorded => trajectories.find((trajectory) => trajectory.name === name)!;

function muonOf(parameters: readonly Tensor[], { options, sgd }: Recorded): Muon {
  const others = sgd === null ? {} : { sgd: { ...sgd, parameters: parameters.slice(MATRICES) } };
  return new Muon(parameters.slice(0, MATRICES), { ...options, ...others });
}

it.each(trajectories.map((t) => [t.name, t] as const))('follows torch.optim.Muon step by step: %s', (_name, given) => {
  scope(() => {
    const optimizer = muonOf(leaves(given.parameters), given);
    const tolerance = given.options.dtype === 'bfloat16' ? ROUNDED : TOLERANCE;
    given.steps.forEach((step, k) => {
      if (step.reset) optimizer.reset();
      optimizer.learningRate = step.learningRate;
      expectStep(optimizer, step, { name: `step ${k}`, tolerance });
    });
    optimizer.dispose();
  });
});

describe('Muon', () => {
  it.each(['a parameter without a gradient at first', 'all else by SGD'])(
    'goes on from a saved state as if it had not stopped: %s',
    (name) => {
      const trajectory = named(name);
      scope(() => {
        const parameters = leaves(trajectory.parameters);
        let optimizer = muonOf(parameters, trajectory);
        trajectory.steps.forEach((step, k) => {
          if (k === 3) {
            const next = muonOf(parameters, trajectory);
            next.restore(optimizer.state);
            expect(next.state.isFirstStep).toBe(false);
            optimizer.dispose();
            optimizer = next;
          }
          optimizer.learningRate = step.learningRate;
          expectStep(optimizer, step, { name: `step ${k}`, tolerance: TOLERANCE });
        });
        optimizer.dispose();
      });
    },
  );

  it('has a buffer of each parameter, those of SGD after those of matrices', () => {
    const trajectory = named('all else by SGD');
    scope(() => {
      const optimizer = muonOf(leaves(trajectory.parameters), trajectory);
      expectStep(optimizer, trajectory.steps[0]!, { name: 'step 0', tolerance: TOLERANCE });
      const { tensors } = optimizer.state;
      expect([...tensors.keys()]).toEqual([0, 1, 2, 3, 4, 5].map((i) => `momentum.${i}`));
      expect(tensors.get('momentum.4')!.shape).toEqual([5]);
      optimizer.reset();
      for (const buffer of tensors.values()) expect(buffer.eq(0).all().item()).toBe(1);
      optimizer.dispose();
    });
  });

  // Of a gradient of rank 1 only the direction is left, u v^T; the singular value is that of the polynomial after so many iterations.
  it('steps as far for a small gradient as for a large one', () => {
    scope(() => {
      const steps = [1e-3, 1e3].map((size) => {
        const parameter = zeros([2, 8]);
        parameter.requiresGrad = true;
        const optimizer = new Muon([parameter], { learningRate: 1, momentum: 0, weightDecay: 0, dtype: 'float32' });
        parameter
          .mul(full([2, 8], size))
          .sum()
          .backward();
        optimizer.step();
        optimizer.dispose();
        return parameter.detach().toTypedArray();
      });
      expect(Number(steps[1]![0]) / Number(steps[0]![0])).toBeCloseTo(1, 5);
      let value = 1;
      for (let i = 0; i < 5; i++) value = 3.4445 * value - 4.775 * value ** 3 + 2.0315 * value ** 5;
      for (const element of steps[0]!) expect(Number(element)).toBeCloseTo(-value / 4, 5);
    });
  });

  it('gives every direction of a gradient about the same length', () => {
    scope(() => {
      // Singular values 100, 1 and 0.5.
      const parameter = zeros([3, 5]);
      parameter.requiresGrad = true;
      const gradient = tensor(Float32Array.of(100, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0.5, 0, 0), { shape: [3, 5] });
      const optimizer = new Muon([parameter], { learningRate: 1, momentum: 0, weightDecay: 0 });
      parameter.mul(gradient).sum().backward();
      optimizer.step();
      const step = parameter.detach().toTypedArray();
      for (const i of [0, 6, 12]) {
        expect(-Number(step[i])).toBeGreaterThan(0.5);
        expect(-Number(step[i])).toBeLessThan(1.3);
      }
      for (const i of [1, 2, 5, 7, 10, 11]) expect(Number(step[i])).toBeCloseTo(0, 6);
      optimizer.dispose();
    });
  });

  // The polynomial of each singular value.
  it('iterates in float32 where asked to', () => {
    scope(() => {
      const values = [0.8, 0.5, 0.1];
      const parameter = zeros([3, 4]);
      parameter.requiresGrad = true;
      const gradient = new Float32Array(12);
      for (const [i, value] of values.entries()) gradient[5 * i] = value;
      const optimizer = new Muon([parameter], { learningRate: 1, momentum: 0, weightDecay: 0, dtype: 'float32' });
      parameter
        .mul(tensor(gradient, { shape: [3, 4] }))
        .sum()
        .backward();
      optimizer.step();
      const step = parameter.detach().toTypedArray();
      for (const [i, value] of values.entries()) {
        let x = value / Math.hypot(...values);
        for (let k = 0; k < 5; k++) x = 3.4445 * x - 4.775 * x ** 3 + 2.0315 * x ** 5;
        expect(-Number(step[5 * i])).toBeCloseTo(x, 5);
      }
      optimizer.dispose();
    });
  });

  it('moves no parameter whose gradient is 0', () => {
    scope(() => {
      const parameter = full([2, 3], 1);
      parameter.requiresGrad = true;
      const optimizer = new Muon([parameter], { learningRate: 0.1, weightDecay: 0 });
      parameter.mul(0).sum().backward();
      optimizer.step();
      expect([...parameter.detach().toTypedArray()]).toEqual([1, 1, 1, 1, 1, 1]);
      optimizer.dispose();
    });
  });

  it.skipIf(!libtorchAtLeast('2.4'))('takes the memory of one matrix at a time, as a plan says', () => {
    scope(() => {
      const optimizerOf = (device: 'cpu' | 'meta'): Muon => {
        const parameters = [0, 1, 2].map(() => {
          const parameter = zeros([64, 32, 3, 3], { device }).contiguous({ memoryFormat: 'channelsLast' });
          parameter.requiresGrad = true;
          parameter.sum().backward();
          return parameter;
        });
        return new Muon(parameters);
      };
      const [real, rehearsed] = [optimizerOf('cpu'), optimizerOf('meta')];
      const { peakBytes } = measurePeak(() => real.step());
      const planned = rehearse(() => rehearsed.step()).peakBytes;
      expect(peakBytes).toBeLessThan(4 * 64 * 32 * 9 * 4);
      expect(planned / peakBytes).toBeGreaterThan(0.85);
      expect(planned / peakBytes).toBeLessThan(1.15);
      for (const optimizer of [real, rehearsed]) optimizer.dispose();
    });
  });

  it('without matrices steps what SGD has', () => {
    scope(() => {
      const parameter = full([2], 1);
      parameter.requiresGrad = true;
      const optimizer = new Muon([], {
        momentum: 0,
        nesterov: false,
        sgd: { parameters: [parameter], learningRate: 0.5 },
      });
      parameter.sum().backward();
      optimizer.step();
      expect([...parameter.detach().toTypedArray()]).toEqual([0.5, 0.5]);
      optimizer.dispose();
    });
  });

  it.each<[string, (matrix: Tensor, vector: Tensor) => unknown, string]>([
    [
      'a vector',
      (_, vector) => new Muon([vector]),
      'expected two or more dimensions, none of size 0, for parameters[0], got [3]',
    ],
    ['no array', (matrix) => new Muon(matrix as never), 'expected an array of tensors for parameters, got Tensor'],
    [
      'a rate of 0',
      (matrix) => new Muon([matrix], { learningRate: 0 }),
      'expected a number above 0 for learningRate, got 0',
    ],
    [
      'a momentum of 1',
      (matrix) => new Muon([matrix], { momentum: 1 }),
      'expected a number of at least 0, less than 1 for momentum, got 1',
    ],
    [
      'half an iteration',
      (matrix) => new Muon([matrix], { iterations: 2.5 }),
      'expected an integer of 1 to 99 for iterations, got 2.5',
    ],
    [
      'a negative decay',
      (matrix) => new Muon([matrix], { weightDecay: -1 }),
      'expected a number of at least 0 for weightDecay, got -1',
    ],
    [
      'another dtype',
      (matrix) => new Muon([matrix], { dtype: 'float16' as never }),
      'expected bfloat16 or float32 for dtype, got float16',
    ],
    [
      'nesterov by a word',
      (matrix) => new Muon([matrix], { nesterov: 'yes' as never }),
      'expected a boolean for nesterov, got yes',
    ],
    ['an unknown option', (matrix) => new Muon([matrix], { lr: 1 } as never), 'unknown option lr'],
    [
      'an unknown option of SGD',
      (matrix, vector) => new Muon([matrix], { sgd: { parameters: [vector], learningRate: 1, momentum: 0 } as never }),
      'unknown option momentum',
    ],
    [
      'no rate of SGD',
      (matrix, vector) => new Muon([matrix], { sgd: { parameters: [vector] } as never }),
      'expected a number of at least 0 for sgd.learningRate, got undefined',
    ],
    [
      'parameters of SGD that are no array',
      (matrix, vector) => new Muon([matrix], { sgd: { parameters: vector as never, learningRate: 1 } }),
      'expected an array of tensors for sgd.parameters, got Tensor',
    ],
    [
      'sgd that is no object',
      (matrix) => new Muon([matrix], { sgd: 3 as never }),
      'expected an object for sgd, got number',
    ],
    [
      'a parameter on both sides',
      (matrix) => new Muon([matrix], { sgd: { parameters: [matrix], learningRate: 1 } }),
      'expected each tensor once for parameters, got that of [0] again at [1]',
    ],
  ])('refuses %s', (_name, make, problem) => {
    scope(() => {
      const [matrix, vector] = [rand([2, 3]), rand([3])];
      expect(() => make(matrix, vector)).toThrow(OptimizerError);
      expect(() => make(matrix, vector)).toThrow(`Muon: ${problem}`);
    });
  });
});
