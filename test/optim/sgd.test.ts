import { describe, expect, it } from 'vitest';
import { OptimizerError, Sgd, type SgdOptions } from '../../lib/optim/index.js';
import { full, scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import { readFixture } from '../support/fixtures.js';
import { expectStep, leaves, setGradients, type Trajectory } from './trajectories.js';

const TOLERANCE = { relative: 1e-6, absolute: 1e-7 };

describe('Sgd follows torch.optim.SGD step by step', () => {
  it.each(readFixture<Trajectory<SgdOptions>[]>('sgd.json').map((t) => [t.name, t] as const))(
    '%s',
    (_name, trajectory) => {
      scope(() => {
        const parameters = leaves(trajectory.parameters);
        const optimizer = new Sgd(parameters, trajectory.options);
        trajectory.steps.forEach((step, k) => {
          if (step.reset) optimizer.reset();
          optimizer.learningRate = step.learningRate;
          expectStep(optimizer, step, { name: `step ${k}`, tolerance: TOLERANCE });
        });
        optimizer.dispose();
      });
    },
  );
});

describe('Sgd', () => {
  const trajectories = readFixture<Trajectory<SgdOptions>[]>('sgd.json');
  const withMomentum = trajectories.find((t) => t.name === 'momentum and dampening')!;

  it('goes on from a saved state as if it had not stopped', () => {
    scope(() => {
      const parameters = leaves(withMomentum.parameters);
      let optimizer = new Sgd(parameters, withMomentum.options);
      withMomentum.steps.forEach((step, k) => {
        if (k === 2) {
          const saved = optimizer.state;
          const next = new Sgd(parameters, withMomentum.options);
          next.restore(saved);
          optimizer.dispose();
          optimizer = next;
        }
        expectStep(optimizer, step, { name: `step ${k}`, tolerance: TOLERANCE });
      });
      optimizer.dispose();
    });
  });

  it('dampens after a first gradient, also one of zeros, of each parameter, and after a checkpoint', () => {
    scope(() => {
      const options = { learningRate: 1, momentum: 0.9, dampening: 0.5 };
      const parameters = [tensor([1, 2]), tensor([1])];
      for (const parameter of parameters) parameter.requiresGrad = true;
      const give = (...gradients: (number[] | null)[]): void => {
        optimizer.zeroGrad();
        parameters.forEach((parameter, i) => {
          if (gradients[i] !== null) parameter.backward({ gradient: tensor(gradients[i]!) });
        });
        optimizer.step();
      };
      let optimizer = new Sgd(parameters, options);
      give([0, 0], null);
      const { tensors, isFirstStep } = optimizer.state;
      const next = new Sgd(parameters, options);
      next.restore({ tensors, isFirstStep });
      optimizer.dispose();
      optimizer = next;
      // 0.9 * 0 + 0.5 * 1; and 1, the first gradient of the other.
      give([1, 1], [1]);
      expect(parameters.map((parameter) => parameter.toArray())).toEqual([[0.5, 1.5], [0]]);
      optimizer.reset();
      give([1, 1], [1]);
      expect(parameters.map((parameter) => parameter.toArray())).toEqual([[-0.5, 0.5], [-1]]);
      optimizer.dispose();
    });
  });

  it('steps correctly when a parameter lies otherwise in memory than its momentum buffer and its gradient', () => {
    const trajectory = trajectories.find((t) => t.name === 'channels last')!;
    scope(() => {
      const parameters = leaves(trajectory.parameters);
      const optimizer = new Sgd(parameters, trajectory.options);
      const first = trajectory.steps[0]!;
      setGradients(parameters, first.gradients);
      optimizer.step();
      const moved = parameters[2]!.detach().contiguous();
      moved.requiresGrad = true;
      parameters[2]!.become(moved);
      expect(parameters[2]!.isContiguous()).toBe(true);
      for (const [k, step] of trajectory.steps.slice(1).entries()) {
        expectStep(optimizer, step, { name: `step ${k + 1}`, tolerance: TOLERANCE });
      }
      optimizer.dispose();
    });
  });

  // Numbers that each dtype holds exactly, and more than a vector register holds, with a rest.
  it.each(['float32', 'float64', 'bfloat16', 'float16'] as const)(
    'updates every element of a %s parameter',
    (dtype) => {
      scope(() => {
        const parameter = full([67], 1, { dtype });
        parameter.requiresGrad = true;
        const optimizer = new Sgd([parameter], { learningRate: 0.25, momentum: 0.5 });
        for (const expected of [0.75, 0.375]) {
          optimizer.zeroGrad();
          parameter.sum().backward();
          optimizer.step();
          expect(new Set(parameter.toArray() as number[])).toEqual(new Set([expected]));
        }
        optimizer.dispose();
      });
    },
  );

  it('forgets gradients in zeroGrad', () => {
    scope(() => {
      const [parameter] = leaves([withMomentum.parameters[0]!]);
      const optimizer = new Sgd([parameter!], { learningRate: 1 });
      parameter!.sum().backward();
      expect(parameter!.grad).not.toBeNull();
      optimizer.zeroGrad();
      expect(parameter!.grad).toBeNull();
    });
  });

  it('refuses to restore buffers of another network', () => {
    scope(() => {
      const optimizer = new Sgd([tensor([1])], { learningRate: 0.1, momentum: 0.9 });
      expect(() => optimizer.restore({ tensors: new Map(), isFirstStep: false })).toThrow(OptimizerError);
      optimizer.dispose();
    });
  });

  it.each<[string, object, string]>([
    ['a shape that would be broadcast', { momentum: [3] }, 'expected [2, 3] for momentum.0, got [3]'],
    ['a scalar', { momentum: [] }, 'expected [2, 3] for momentum.0, got []'],
    ['what says not whether it is the first step', { isFirstStep: 'x' }, 'expected a boolean for isFirstStep, got x'],
    ['buffers that are no tensors', { momentum: 7 }, 'expected a tensor for momentum.0, got 7'],
    ['no buffers', { tensors: null }, 'expected a Map of tensors by name for tensors, got null'],
  ])('refuses to restore %s, and keeps its own', (_name, given, problem) => {
    scope(() => {
      const parameter = full([2, 3], 1);
      parameter.requiresGrad = true;
      const optimizer = new Sgd([parameter], { learningRate: 0.1, momentum: 0.9 });
      parameter.sum().backward();
      optimizer.step();
      const { momentum = [2, 3], isFirstStep = true, ...others } = given as Record<string, unknown>;
      const tensors = new Map([['momentum.0', Array.isArray(momentum) ? full(momentum, 5) : momentum]]);
      expect(() => optimizer.restore({ tensors, isFirstStep, ...others } as never)).toThrow(
        new OptimizerError(`Sgd: ${problem}`),
      );
      expect(optimizer.state.tensors.get('momentum.0')!.toArray()).toEqual([
        [1, 1, 1],
        [1, 1, 1],
      ]);
      expect(optimizer.state.isFirstStep).toBe(false);
      optimizer.dispose();
    });
  });

  it.each([Number.NaN, -1, Number.POSITIVE_INFINITY, '1'])('refuses the learning rate %s between steps', (rate) => {
    const optimizer = new Sgd([], { learningRate: 0.5 });
    expect(() => {
      optimizer.learningRate = rate as number;
    }).toThrow(new OptimizerError(`Sgd: expected a number of at least 0 for learningRate, got ${rate}`));
    expect(optimizer.learningRate).toBe(0.5);
  });

  it('refuses parameters that are none, or the same twice, which would be stepped twice', () => {
    scope(() => {
      const parameter = full([1], 1);
      const make = (parameters: unknown) => () => new Sgd(parameters as Tensor[], { learningRate: 1 });
      expect(make(undefined)).toThrow('Sgd: expected an array of tensors for parameters, got undefined');
      expect(make([parameter, 1])).toThrow('Sgd: expected a tensor for parameters[1], got 1');
      expect(make([parameter, parameter])).toThrow('Sgd: expected each tensor once for parameters');
    });
  });

  it.each([
    ['learningRate', { learningRate: -0.1 }],
    ['learningRate', { learningRate: Number.NaN }],
    ['momentum', { learningRate: 0.1, momentum: -1 }],
    ['dampening', { learningRate: 0.1, momentum: 0.9, dampening: Number.NaN }],
    ['weightDecay', { learningRate: 0.1, weightDecay: Number.POSITIVE_INFINITY }],
    ['learningRate', { learningRate: '0.1' as never }],
    ['nesterov', { learningRate: 0.1, momentum: 0.9, nesterov: 'yes' as never }],
    ['nesterov', { learningRate: 0.1, nesterov: true }],
    ['nesterov', { learningRate: 0.1, nesterov: true, momentum: 0.9, dampening: 0.1 }],
  ])('refuses a bad %s by its name', (name, options) => {
    expect(() => new Sgd([], options)).toThrow(new RegExp(name));
    expect(() => new Sgd([], options)).toThrow(OptimizerError);
  });
});
