import { expect, it } from 'vitest';
import { GradScaler, OptimizerError, Sgd } from '../../lib/optim/index.js';
import { scope, tensor, unscaleGradients } from '../../lib/tensor/index.js';
import { decode, type EncodedTensor, expectClose, readFixture } from '../support/fixtures.js';

interface ScalingFixture {
  readonly parameter: EncodedTensor;
  readonly scale: number;
  readonly growthInterval: number;
  readonly learningRate: number;
  readonly momentum: number;
  readonly steps: readonly {
    readonly factor: EncodedTensor;
    readonly expected: EncodedTensor;
    readonly scale: number;
  }[];
}

const fixture = readFixture<ScalingFixture>('grad-scaler.json');

/** Runs the fixture's steps; `between` may exchange the scaler. */
function run(between: (scaler: GradScaler, step: number) => GradScaler): void {
  scope(() => {
    const parameter = decode(fixture.parameter);
    parameter.requiresGrad = true;
    const { learningRate, momentum, scale, growthInterval } = fixture;
    const optimizer = new Sgd([parameter], { learningRate, momentum });
    let scaler = new GradScaler({ scale, growthInterval });
    let previousScale = fixture.scale;
    fixture.steps.forEach((step, k) => {
      scaler = between(scaler, k);
      optimizer.zeroGrad();
      scaler.backward(parameter.mul(decode(step.factor)).sum());
      const stepped = scaler.step(optimizer);
      expect(stepped, `step ${k}: a skipped step halves the scale`).toBe(step.scale >= previousScale);
      expect(scaler.scale, `step ${k}: scale`).toBe(step.scale);
      expectClose(parameter, step.expected, `step ${k}`, { relative: 1e-6 });
      previousScale = step.scale;
    });
    expect(scaler.skipped).toBe(3);
    optimizer.dispose();
  });
}

it('scales, skips and grows as torch.amp.GradScaler does', () => run((scaler) => scaler));

it('goes on from its saved state', () => run((scaler, step) => (step === 3 || step === 9 ? resumed(scaler) : scaler)));

function resumed(scaler: GradScaler): GradScaler {
  return new GradScaler({ ...scaler.state, growthInterval: fixture.growthInterval });
}

it.each(['float16', 'float32', 'bfloat16'] as const)('unscales %s gradients and sees what is not finite', (dtype) => {
  scope(() => {
    const leaf = (values: number[]) => {
      const made = tensor(values).to({ dtype });
      made.requiresGrad = true;
      return made;
    };
    const [first, second, without] = [leaf([1, 2]), leaf([3, 4]), leaf([5])];
    first
      .mul(tensor([8, -16]).to({ dtype }))
      .sum()
      .backward();
    second.mul(32).sum().backward();
    expect(unscaleGradients([first, second, without], 1 / 8)).toBe(true);
    expect(first.grad!.toArray()).toEqual([1, -2]);
    expect(second.grad!.toArray()).toEqual([4, 4]);
    second.mul(Number.POSITIVE_INFINITY).sum().backward();
    expect(unscaleGradients([first, second, without], 1 / 8)).toBe(false);
  });
});

it('unscales in the precision of the gradients, sees what becomes infinite, and refuses what is no scale', () => {
  scope(() => {
    const leaf = (dtype: 'float16' | 'float64', gradient: number) => {
      const made = tensor([1]).to({ dtype });
      made.requiresGrad = true;
      made.backward({ gradient: tensor([gradient]).to({ dtype }) });
      return made;
    };
    const half = leaf('float16', 60_000);
    expect(unscaleGradients([half], 4)).toBe(false);
    const double = leaf('float64', 1);
    expect(unscaleGradients([double, leaf('float16', 8)], 1e-30)).toBe(true);
    expect(double.grad!.toArray()).toEqual([1e-30]);
    for (const scale of [Number.NaN, Number.POSITIVE_INFINITY, 0, -1, 1e-50, 1e39]) {
      expect(() => unscaleGradients([double], scale)).toThrow(/expected a number above 0 that float32 holds/);
    }
    expect(double.grad!.toArray()).toEqual([1e-30]);
  });
});

it.each([
  ['scale', 0],
  ['scale', -1],
  ['scale', Number.NaN],
  ['scale', 'x'],
  ['scale', 2 ** 128],
  ['scale', 2 ** -127],
  ['growthInterval', 0],
  ['growthInterval', 1.5],
  ['goodSteps', -1],
  ['skipped', Number.NaN],
])('refuses %s %s by its name', (name, value) => {
  const make = () => new GradScaler({ [name]: value });
  expect(make).toThrow(OptimizerError);
  expect(make).toThrow(new RegExp(`^GradScaler: expected .* for ${name}, got `));
  expect(make).toThrow(`got ${value}`);
});

// torch.amp.GradScaler does not let the scale grow to infinity either.
it('keeps the scale, and so the weights, finite', () => {
  scope(() => {
    const parameter = tensor([1]);
    parameter.requiresGrad = true;
    const optimizer = new Sgd([parameter], { learningRate: 0 });
    const largest = new GradScaler({ scale: 2 ** 127, growthInterval: 1 });
    const least = new GradScaler({ scale: 2 ** -126 });
    for (const [scaler, factor] of [
      [largest, 2 ** -100],
      [least, Number.POSITIVE_INFINITY],
    ] as const) {
      const before = scaler.scale;
      optimizer.zeroGrad();
      scaler.backward(parameter.mul(factor).sum());
      expect(scaler.step(optimizer)).toBe(scaler === largest);
      expect(scaler.scale).toBe(before);
      expect(parameter.toArray()).toEqual([1]);
    }
    optimizer.dispose();
  });
});
