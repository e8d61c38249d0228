import { describe, expect, it } from 'vitest';
import { AdamW, type AdamWOptions, OptimizerError } from '../../lib/optim/index.js';
import { full, measurePeak, rand, rehearse, scope, zeros } from '../../lib/tensor/index.js';
import { libtorchAtLeast, readFixture } from '../support/fixtures.js';
import { expectStep, leaves, type Trajectory } from './trajectories.js';

const TOLERANCE = { relative: 2e-6, absolute: 1e-7 };
const trajectories = readFixture<Trajectory<AdamWOptions>[]>('adamw.json');
const named = (name: string): Trajectory<AdamWOptions> => trajectories.find((trajectory) => trajectory.name === name)!;

it.each(trajectories.map((t) => [t.name, t] as const))('follows torch.optim.AdamW step by step: %s', (_name, given) => {
  scope(() => {
    const optimizer = new AdamW(leaves(given.parameters), given.options);
    given.steps.forEach((step, k) => {
      if (step.reset) optimizer.reset();
      optimizer.learningRate = step.learningRate;
      expectStep(optimizer, step, { name: `step ${k}`, tolerance: TOLERANCE });
    });
    optimizer.dispose();
  });
});

describe('AdamW', () => {
  it.each(['the defaults', 'a parameter without a gradient at first'])(
    'goes on from a saved state as if it had not stopped: %s',
    (name) => {
      const trajectory = named(name);
      scope(() => {
        const parameters = leaves(trajectory.parameters);
        let optimizer = new AdamW(parameters, trajectory.options);
        trajectory.steps.forEach((step, k) => {
          if (k === 3) {
            const next = new AdamW(parameters, trajectory.options);
            next.restore(optimizer.state);
            expect(next.state.isFirstStep).toBe(false);
            optimizer.dispose();
            optimizer = next;
          }
          expectStep(optimizer, step, { name: `step ${k}`, tolerance: TOLERANCE });
        });
        optimizer.dispose();
      });
    },
  );

  it('counts the gradients of each parameter, and forgets them in reset', () => {
    const trajectory = named('a parameter without a gradient at first');
    scope(() => {
      const optimizer = new AdamW(leaves(trajectory.parameters), trajectory.options);
      for (const [k, step] of trajectory.steps.slice(0, 3).entries())
        expectStep(optimizer, step, { name: `step ${k}`, tolerance: TOLERANCE });
      const { tensors } = optimizer.state;
      expect([...tensors.keys()]).toEqual([
        ...['exp_avg.0', 'exp_avg.1', 'exp_avg.2', 'exp_avg_sq.0', 'exp_avg_sq.1', 'exp_avg_sq.2'],
        'step',
      ]);
      expect(tensors.get('step')!.toArray()).toEqual([3, 1, 3]);
      optimizer.reset();
      expect(tensors.get('step')!.toArray()).toEqual([0, 0, 0]);
      expect(tensors.get('exp_avg_sq.1')!.toArray()).toEqual([0, 0, 0, 0, 0]);
      expect(optimizer.state.isFirstStep).toBe(true);
      optimizer.dispose();
    });
  });

  it('steps correctly when a parameter lies otherwise in memory than its averages and its gradient', () => {
    const trajectory = named('channels last');
    scope(() => {
      const parameters = leaves(trajectory.parameters);
      const optimizer = new AdamW(parameters, trajectory.options);
      expectStep(optimizer, trajectory.steps[0]!, { name: 'step 0', tolerance: TOLERANCE });
      const moved = parameters[2]!.detach().contiguous();
      moved.requiresGrad = true;
      parameters[2]!.become(moved);
      for (const [k, step] of trajectory.steps.slice(1).entries())
        expectStep(optimizer, step, { name: `step ${k + 1}`, tolerance: TOLERANCE });
      optimizer.dispose();
    });
  });

  // With a constant gradient the corrected averages are it and its square: each step is the learning rate. More elements than a
  // vector register holds, with a rest.
  it.each(['float32', 'float64', 'bfloat16', 'float16'] as const)(
    'updates every element of a %s parameter',
    (dtype) => {
      scope(() => {
        const parameter = full([67], 1, { dtype });
        parameter.requiresGrad = true;
        const optimizer = new AdamW([parameter], { learningRate: 0.25, betas: [0.5, 0.75], weightDecay: 0 });
        for (const expected of [0.75, 0.5, 0.25]) {
          optimizer.zeroGrad();
          parameter.sum().backward();
          optimizer.step();
          for (const value of parameter.toArray() as number[]) expect(value).toBeCloseTo(expected, 6);
        }
        optimizer.dispose();
      });
    },
  );

  it.skipIf(!libtorchAtLeast('2.4'))('takes no memory in a step, as a plan says', () => {
    scope(() => {
      const optimizerOf = (device: 'cpu' | 'meta'): AdamW => {
        const parameter = zeros([64, 32, 3, 3], { device }).contiguous({ memoryFormat: 'channelsLast' });
        parameter.requiresGrad = true;
        const optimizer = new AdamW([parameter]);
        parameter.sum().backward();
        return optimizer;
      };
      const [real, rehearsed] = [optimizerOf('cpu'), optimizerOf('meta')];
      expect(measurePeak(() => real.step()).peakBytes).toBeLessThan(1024);
      expect(rehearse(() => rehearsed.step()).peakBytes).toBeLessThan(1024);
      for (const optimizer of [real, rehearsed]) optimizer.dispose();
    });
  });

  it.each<[string, (tensors: Map<string, unknown>) => void, string]>([
    [
      'a shape that would be broadcast',
      (t) => t.set('exp_avg.0', full([3], 5)),
      'expected [2, 3] for exp_avg.0, got [3]',
    ],
    ['what is no tensor', (t) => t.set('exp_avg_sq.0', 7), 'expected a tensor for exp_avg_sq.0, got 7'],
    ['no count of steps', (t) => t.delete('step'), 'expected a tensor for step, got undefined'],
    [
      'a tensor too many',
      (t) => t.set('exp_avg.1', full([1], 5)),
      'expected exp_avg.0, exp_avg_sq.0, step, got exp_avg.1',
    ],
  ])('refuses to restore %s, and keeps its own', (_name, change, problem) => {
    scope(() => {
      const parameter = full([2, 3], 1);
      parameter.requiresGrad = true;
      const optimizer = new AdamW([parameter]);
      parameter.sum().backward();
      optimizer.step();
      const before = [...optimizer.state.tensors.values()].map((tensor) => tensor.toArray());
      const tensors = new Map<string, unknown>([
        ['exp_avg.0', rand([2, 3])],
        ['exp_avg_sq.0', rand([2, 3])],
        ['step', full([1], 9)],
      ]);
      change(tensors);
      expect(() => optimizer.restore({ tensors, isFirstStep: false } as never)).toThrow(
        new OptimizerError(`AdamW: ${problem}`),
      );
      expect([...optimizer.state.tensors.values()].map((tensor) => tensor.toArray())).toEqual(before);
      optimizer.dispose();
    });
  });

  it.each([
    ['learningRate', { learningRate: -0.1 }],
    ['learningRate', { learningRate: Number.NaN }],
    ['betas', { betas: 0.9 as never }],
    ['betas', { betas: [0.9] as never }],
    ['betas\\[1\\]', { betas: [0.9, 1] as const }],
    ['betas\\[0\\]', { betas: [-0.1, 0.9] as const }],
    ['eps', { eps: -1e-8 }],
    ['weightDecay', { weightDecay: Number.POSITIVE_INFINITY }],
  ])('refuses a bad %s by its name', (name, options) => {
    expect(() => new AdamW([], options)).toThrow(new RegExp(`AdamW: expected .* for ${name}, got`));
    expect(() => new AdamW([], options)).toThrow(OptimizerError);
  });
});
