// batchNormRelu against LibTorch's batch norm and ReLU, both against the same in float64.
import { noGrad, ones, scope, type Tensor, TensorError, tensor, zeros } from '../../lib/tensor/index.js';
import { Choices } from './choices.js';
import type { Fuzzed } from './fuzzed.js';
import { laidOut } from './tensors.js';

interface Input {
  readonly x: Tensor;
  readonly gradient: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
  readonly momentum: number;
  readonly eps: number;
}

/** Sums of four draws, nearly normal. */
function noise(choices: Choices, count: number): Float64Array {
  const table = choices.list(61, () => [0, 0, 0, 0].reduce((sum) => sum + choices.below(1024) / 512 - 1, 0));
  // Two strides without a common factor, so that channels differ and rows do not repeat.
  return Float64Array.from(
    { length: count },
    (_, i) => table[(i * 7 + Math.floor(i / 61) * 13) % 61]! + 1e-3 * (i % 17),
  );
}

function anyInput(choices: Choices): Input {
  const [n, channels] = [1 + choices.below(4), choices.of([1, 2, 3, 5, 8, 16, 17, 64, 130, 300])];
  const [height, width] = [1 + choices.below(12), 1 + choices.below(12)];
  const shape = [n, channels, height, width];
  const make = (like: readonly number[], scale: number, offset: number): Tensor => {
    const values = noise(
      choices,
      like.reduce((product, size) => product * size, 1),
    );
    return tensor(
      Float32Array.from(values, (value) => value * scale + offset),
      { shape: like },
    );
  };
  const as = (values: Tensor): Tensor => {
    const target = noGrad(() => laidOut(choices, shape, 'float32'));
    // A view that repeats its elements cannot be written: its values stay.
    const isOwn = shape.every((size, i) => size === 1 || target.strides[i]! > 0);
    const lying = isOwn ? target.copy_(values) : values;
    const formatted = choices.chance(0.7) ? lying.contiguous({ memoryFormat: 'channelsLast' }) : lying;
    return dtype === 'float32' ? formatted : formatted.to({ dtype });
  };
  const dtype = choices.chance(0.6) ? 'float32' : 'bfloat16';
  return {
    x: as(make(shape, choices.of([1e-2, 1, 50]), choices.of([0, 0, 1, -30]))),
    gradient: as(make(shape, choices.of([1e-3, 1, 10]), 0)),
    weight: make([channels], choices.of([0, 0.5, 1]), 1),
    bias: make([channels], 0.5, choices.of([0, 1, -1])),
    runningMean: choices.chance(0.5) ? zeros([channels]) : make([channels], 1, 2),
    runningVar: choices.chance(0.5) ? ones([channels]) : make([channels], 0.1, 2),
    momentum: choices.of([0.1, 0, 1, 0.5]),
    eps: choices.of([1e-5, 1e-3, 1]),
  };
}

type Results = Readonly<Record<'output' | 'x' | 'weight' | 'bias' | 'runningMean' | 'runningVar', Tensor>>;

/** Forward and backward on copies of the input: batchNormRelu as it is, or batch norm and ReLU in float64. */
function pass(input: Input, isExact: boolean): Results {
  const copy = (value: Tensor, requiresGrad: boolean): Tensor => {
    const own = (isExact ? wide(value) : value).detach().clone();
    own.requiresGrad = requiresGrad;
    return own;
  };
  const [x, weight, bias] = [copy(input.x, true), copy(input.weight, true), copy(input.bias, true)];
  const [runningMean, runningVar] = [copy(input.runningMean, false), copy(input.runningVar, false)];
  const { momentum, eps } = input;
  const output = isExact
    ? x.batchNorm(weight, bias, runningMean, runningVar, { training: true, momentum, eps }).relu()
    : x.batchNormRelu(weight, bias, runningMean, runningVar, { momentum, eps });
  output.backward({ gradient: copy(input.gradient, false) });
  return { output, x: x.grad!, weight: weight.grad!, bias: bias.grad!, runningMean, runningVar };
}

const wide = (value: Tensor): Tensor => value.to({ dtype: 'float64' });
const largest = (value: Tensor): number => wide(value).abs().amax().item();

/** Some tens of float32's roundings: sums of hundreds of values are among what is done. */
const FLOAT32 = 2 ** -18;
/** One rounding to bfloat16. */
const BFLOAT16 = 2 ** -8;

/** How far off each result may be: its condition, in roundings. A mean beside a small deviation costs digits. */
function allowances(input: Input, exact: Results): Readonly<Record<keyof Results, number>> {
  const dims = [0, 2, 3];
  const x = wide(input.x);
  const variance = x
    .sub(x.mean({ dims, keepDim: true }))
    .pow(2)
    .mean({ dims });
  const inverse = variance.add(input.eps).pow(-0.5);
  const [most, gradient] = [largest(x), largest(input.gradient)];
  const condition = 1 + most * largest(inverse);
  const narrow = input.x.dtype === 'bfloat16' ? BFLOAT16 : 0;
  // Elsewhere it is LibTorch's two operators, which keep sums of bfloat16 in bfloat16 where nothing is contiguous.
  const rounding = input.x.isContiguous('channelsLast') ? FLOAT32 : Math.max(FLOAT32, narrow);
  const gradients = largest(wide(input.gradient).abs().sum({ dims }));
  const output = rounding * condition * (largest(input.weight) + largest(input.bias));
  return {
    output: output + narrow * largest(exact.output),
    x: rounding * condition ** 2 * gradient * largest(input.weight) * largest(inverse) + narrow * largest(exact.x),
    weight: rounding * condition ** 2 * gradients,
    bias: rounding * gradients,
    runningMean: rounding * (most + largest(input.runningMean)),
    runningVar: rounding * (most * Math.sqrt(largest(variance)) + largest(input.runningVar)) + (rounding * most) ** 2,
  };
}

/** Whether a value is so near to 0 that rounding decides whether the ReLU lets its gradient through. */
function hasKink(input: Input, width: number): boolean {
  const { momentum, eps } = input;
  const parameters = [input.weight, input.bias, input.runningMean, input.runningVar].map((value) =>
    wide(value).clone(),
  );
  const [weight, bias, mean, variance] = parameters;
  const before = wide(input.x).batchNorm(weight!, bias!, mean!, variance!, { training: true, momentum, eps });
  return wide(before.abs().lt(width)).sum().item() > 0;
}

function check(choices: Choices): void {
  const input = anyInput(choices);
  const [got, exact] = [pass(input, false), pass(input, true)];
  const allowed = allowances(input, exact);
  const isKinked = hasKink(input, allowed.output);
  for (const name of Object.keys(exact) as (keyof Results)[]) {
    const dtype = name === 'output' || name === 'x' ? input.x.dtype : 'float32';
    if (got[name].dtype !== dtype) throw new Error(`${name} is ${got[name].dtype}, expected ${dtype}`);
    if (isKinked && ['x', 'weight', 'bias'].includes(name)) continue;
    const error = largest(wide(got[name]).sub(exact[name]));
    if (error <= allowed[name]) continue;
    throw new Error(
      `${name} of ${input.x}: off by ${error}, allowed ${allowed[name]}, largest ${largest(exact[name])}`,
    );
  }
}

export const batchNorm: Fuzzed = {
  name: 'batch-norm',
  runCase(position) {
    try {
      scope(() => check(new Choices(position)));
    } catch (error) {
      // One value a channel has no variance.
      if (!(error instanceof TensorError) || !error.message.includes('more than one value a channel')) throw error;
    }
  },
};
