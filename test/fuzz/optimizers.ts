// Steps of SGD, AdamW and Muon, and unscaling, with parameters, gradients and buffers of every kind; what is accepted, against the formula.
import {
  type AdamWStep,
  adamwStep,
  type DType,
  type MuonStep,
  memoryStats,
  muonStep,
  noGrad,
  type SgdStep,
  scope,
  sgdStep,
  type Tensor,
  TensorError,
  tensor,
  unscaleGradients,
} from '../../lib/tensor/index.js';
import { Choices } from './choices.js';
import type { Fuzzed } from './fuzzed.js';
import { anyDType, anyShape, anyTensor, isFloating, laidOut, plain } from './tensors.js';

const ODD_NUMBERS: readonly unknown[] = [NaN, Infinity, -1, 1e300, undefined, null, 'x', {}];

/** A parameter, mostly one with a gradient. */
function anyParameter(choices: Choices, dtype: DType): Tensor {
  const parameter = noGrad(() => {
    const made = laidOut(choices, anyShape(choices, choices.below(5)), dtype);
    // A view that repeats its elements cannot be written.
    return choices.chance(0.9) ? made.clone() : made;
  });
  if (!isFloating(dtype)) return parameter;
  parameter.requiresGrad = true;
  if (choices.chance(0.85)) {
    const coefficients = laidOut(choices, parameter.shape, dtype);
    parameter.mul(coefficients).sum().backward();
  }
  return parameter;
}

function anyBuffer(choices: Choices, parameter: Tensor, all: readonly Tensor[]): Tensor {
  const kind = choices.below(20);
  if (kind === 0) return anyTensor(choices, anyShape(choices), anyDType(choices));
  if (kind === 1) return anyTensor(choices, parameter.shape, anyDType(choices));
  if (kind === 2) return choices.of(all);
  if (kind < 6) return laidOut(choices, parameter.shape, parameter.dtype);
  return plain(choices, parameter.shape, parameter.dtype).clone();
}

function anyStep(choices: Choices): SgdStep {
  const number = (good: readonly number[]): number =>
    (choices.chance(0.98) ? choices.of(good) : choices.of(ODD_NUMBERS)) as number;
  return {
    learningRate: number([0.1, 0.01, 1, 0]),
    momentum: number([0, 0.9, 0.9, 1]),
    dampening: number([0, 0, 0.5]),
    weightDecay: number([0, 0, 1e-2]),
    nesterov: choices.chance(0.3),
    isFirstStep: choices.chance(0.3),
  };
}

const valuesOf = (tensor: Tensor): Float64Array =>
  scope(() => tensor.detach().to({ dtype: 'float64' }).toTypedArray() as Float64Array);

/** torch.optim.SGD's update of one element, from its documentation; `b` is null without momentum. */
function update(p: number, g: number, b: number | null, step: SgdStep): { parameter: number; buffer: number | null } {
  const gradient = g + (step.weightDecay === 0 ? 0 : step.weightDecay * p);
  if (b === null) return { parameter: p - step.learningRate * gradient, buffer: null };
  const buffer = step.isFirstStep ? gradient : step.momentum * b + (1 - step.dampening) * gradient;
  const direction = step.nesterov ? gradient + step.momentum * buffer : buffer;
  return { parameter: p - step.learningRate * direction, buffer };
}

/** Some roundings of each dtype. */
const PRECISION: Partial<Record<DType, number>> = {
  float32: 2 ** -20,
  float64: 2 ** -48,
  bfloat16: 2 ** -5,
  float16: 2 ** -8,
};
const LARGEST: Partial<Record<DType, number>> = { float32: 3e38, float64: 1e308, bfloat16: 3e38, float16: 65504 };

function checkStep(choices: Choices): void {
  const dtype = choices.chance(0.9)
    ? choices.of<DType>(['float32', 'float32', 'bfloat16', 'float64'])
    : anyDType(choices);
  const parameters = choices.list(1 + choices.below(3), () =>
    anyParameter(choices, choices.chance(0.9) ? dtype : anyDType(choices)),
  );
  const step = anyStep(choices);
  const buffers = step.momentum === 0 ? [] : parameters.map((parameter) => anyBuffer(choices, parameter, parameters));
  if (choices.chance(0.03)) parameters.push(choices.of(parameters));
  if (choices.chance(0.03)) buffers.pop();
  if (choices.chance(0.03)) choices.of(parameters).dispose();
  // What shares memory is updated in an order that the formula does not say.
  const isPlain = new Set([...parameters, ...buffers]).size === parameters.length + buffers.length;
  const before = [...parameters, ...buffers].map((tensor) =>
    tensor.isDisposed || tensor.device !== 'cpu' ? null : valuesOf(tensor),
  );
  const gradients = parameters.map((parameter) =>
    scope(() => (parameter.isDisposed || parameter.grad === null ? null : valuesOf(parameter.grad))),
  );

  sgdStep(parameters, buffers, step);

  if (!isPlain) return;
  // Nor what such numbers make.
  if (Object.values(step).some((value) => ODD_NUMBERS.includes(value))) return;
  parameters.forEach((parameter, i) => {
    const [was, gradient] = [before[i]!, gradients[i]!];
    const buffer = step.momentum === 0 ? null : buffers[i]!;
    const velocity = buffer === null ? null : before[parameters.length + i]!;
    const [now, velocityNow] = [valuesOf(parameter), buffer === null ? null : valuesOf(buffer)];
    const dtypes = buffer === null ? [parameter.dtype] : [parameter.dtype, buffer.dtype];
    const precision = Math.max(...dtypes.map((own) => PRECISION[own] ?? Infinity));
    const largest = Math.min(...dtypes.map((own) => LARGEST[own] ?? 0));
    was.forEach((p, n) => {
      const [g, b] = [gradient?.[n] ?? 0, velocity?.[n] ?? null];
      const terms = Math.abs(p) + Math.abs(g) + Math.abs(b ?? 0);
      // Where a sum overflows on its way, the order of the operations decides.
      if (!(terms * 4 < largest)) return;
      const expected = gradient === null ? { parameter: p, buffer: b } : update(p, g, b, step);
      const isClose = (got: number, value: number): boolean => Math.abs(got - value) <= precision * terms + 1e-30;
      if (!isClose(now[n]!, expected.parameter)) {
        throw new Error(`element ${n} of ${parameter} became ${now[n]}, expected ${expected.parameter}`);
      }
      if (expected.buffer !== null && !isClose(velocityNow![n]!, expected.buffer)) {
        throw new Error(
          `element ${n} of the buffer of ${parameter} became ${velocityNow![n]}, expected ${expected.buffer}`,
        );
      }
    });
  });
}

function anyAdamWStep(choices: Choices): AdamWStep {
  const number = (good: readonly number[]): number =>
    (choices.chance(0.98) ? choices.of(good) : choices.of(ODD_NUMBERS)) as number;
  return {
    learningRate: number([0.1, 0.01, 1, 0]),
    beta1: number([0.9, 0.5, 0]),
    beta2: number([0.999, 0.9, 0]),
    eps: number([1e-8, 1e-3]),
    weightDecay: number([0, 1e-2]),
  };
}

/** torch.optim.AdamW's update of one element at its `count`th gradient, from its documentation, and the sizes of what is added up. */
function updateAdamW(
  [p, g, m, v]: readonly [number, number, number, number],
  count: number,
  step: AdamWStep,
): { value: number; terms: number }[] {
  const average = step.beta1 * m + (1 - step.beta1) * g;
  const square = step.beta2 * v + (1 - step.beta2) * g * g;
  const denominator = Math.sqrt(square / (1 - step.beta2 ** count)) + step.eps;
  const scale = step.learningRate / (1 - step.beta1 ** count) / denominator;
  const decayed = p * (1 - step.learningRate * step.weightDecay);
  return [
    { value: decayed - scale * average, terms: Math.abs(p) + scale * (Math.abs(m) + Math.abs(g)) },
    { value: average, terms: Math.abs(m) + Math.abs(g) },
    { value: square, terms: v + g * g },
  ];
}

function checkAdamWStep(choices: Choices): void {
  const dtype = choices.chance(0.9)
    ? choices.of<DType>(['float32', 'float32', 'bfloat16', 'float64'])
    : anyDType(choices);
  const parameters = choices.list(1 + choices.below(3), () =>
    anyParameter(choices, choices.chance(0.9) ? dtype : anyDType(choices)),
  );
  const step = anyAdamWStep(choices);
  const expAvg = parameters.map((parameter) => anyBuffer(choices, parameter, parameters));
  // Squares are none below 0.
  const expAvgSq = parameters.map((parameter) => noGrad(() => anyBuffer(choices, parameter, parameters).abs()));
  const counts = parameters.map(() => choices.below(3));
  const isOdd = choices.chance(0.03);
  const count = isOdd ? anyTensor(choices, anyShape(choices), anyDType(choices)) : tensor(Float32Array.from(counts));
  if (choices.chance(0.03)) expAvg.pop();
  if (choices.chance(0.03)) choices.of(parameters).dispose();
  const all = [...parameters, ...expAvg, ...expAvgSq];
  const isPlain =
    !isOdd && new Set(all).size === all.length && all.every((each) => each.isDisposed || each.device === 'cpu');
  const read = (tensors: readonly Tensor[]): (Float64Array | null)[] =>
    tensors.map((each) => (each.isDisposed || each.device !== 'cpu' ? null : valuesOf(each)));
  const before = [parameters, expAvg, expAvgSq].map(read);
  const gradients = parameters.map((parameter) =>
    scope(() => (parameter.isDisposed || parameter.grad === null ? null : valuesOf(parameter.grad))),
  );

  adamwStep(parameters, { expAvg, expAvgSq, step: count }, step);

  if (!isPlain || Object.values(step).some((value) => ODD_NUMBERS.includes(value))) return;
  const after = [parameters, expAvg, expAvgSq].map(read);
  const countsAfter = valuesOf(count);
  parameters.forEach((parameter, i) => {
    const gradient = gradients[i]!;
    const expectedCount = counts[i]! + (gradient === null ? 0 : 1);
    if (countsAfter[i] !== expectedCount) throw new Error(`count ${i} is ${countsAfter[i]}, expected ${expectedCount}`);
    const dtypes = [parameter, expAvg[i]!, expAvgSq[i]!].map((each) => each.dtype);
    const precision = Math.max(...dtypes.map((own) => PRECISION[own] ?? Infinity));
    const largest = Math.min(...dtypes.map((own) => LARGEST[own] ?? 0));
    // Where float16 holds no more than a few bits.
    const least = dtypes.includes('float16') ? 2 ** -22 : 1e-30;
    if (precision === Infinity) return;
    before[0]![i]!.forEach((p, n) => {
      const [m, v] = [before[1]![i]![n]!, before[2]![i]![n]!];
      const g = gradient?.[n] ?? 0;
      // Numbers whose squares all types hold, and which are no subnormals.
      if (![p, g, m, v].every((value) => value === 0 || (Math.abs(value) > 1e-3 && Math.abs(value) < 100))) return;
      const expected =
        gradient === null
          ? [p, m, v].map((value) => ({ value, terms: 0 }))
          : updateAdamW([p, g, m, v], expectedCount, step);
      expected.forEach(({ value, terms }, k) => {
        if (!(terms * 4 < largest)) return;
        const got = after[k]![i]![n]!;
        if (Math.abs(got - value) <= 4 * precision * terms + least) return;
        throw new Error(
          `element ${n} of ${['parameter', 'expAvg', 'expAvgSq'][k]} ${i} became ${got}, expected ${value}`,
        );
      });
    });
  });
}

function anyMuonStep(choices: Choices): MuonStep {
  const number = (good: readonly number[]): number =>
    (choices.chance(0.98) ? choices.of(good) : choices.of(ODD_NUMBERS)) as number;
  return {
    learningRate: number([0.1, 0.01, 1, 0]),
    momentum: number([0.9, 0.5, 0]),
    weightDecay: number([0, 1e-2]),
    nesterov: choices.chance(0.5),
    iterations: number([0, 1, 3, 5]),
    eps: number([1e-7, 1e-3]),
    dtype: choices.of(['bfloat16', 'float32'] as const),
  };
}

/** No direction of a step is longer than the iteration makes any: 1.21 after the first, whatever the gradient is. */
function checkMuonStep(choices: Choices): void {
  const dtype = choices.chance(0.9) ? choices.of<DType>(['float32', 'bfloat16', 'float64']) : anyDType(choices);
  const parameters = choices.list(1 + choices.below(3), () => anyParameter(choices, dtype));
  const buffers = parameters.map((parameter) => anyBuffer(choices, parameter, parameters));
  const step = anyMuonStep(choices);
  if (choices.chance(0.03)) buffers.pop();
  if (choices.chance(0.03)) choices.of(parameters).dispose();
  const all = [...parameters, ...buffers];
  const isPlain = new Set(all).size === all.length && all.every((each) => each.isDisposed || each.device === 'cpu');
  const read = (): Float64Array[] => (isPlain ? parameters.map(valuesOf) : []);
  const before = parameters.some(({ isDisposed }) => isDisposed) ? [] : read();
  const gradients = parameters.map((parameter) =>
    scope(() => (parameter.isDisposed || parameter.grad === null ? null : valuesOf(parameter.grad))),
  );
  const ofBuffers = isPlain ? buffers.map((buffer) => (buffer.isDisposed ? null : valuesOf(buffer))) : [];

  muonStep(parameters, buffers, step);

  if (!isPlain || Object.values(step).some((value) => ODD_NUMBERS.includes(value))) return;
  const after = read();
  parameters.forEach(({ shape, dtype: own }, i) => {
    const [was, now, gradient] = [before[i]!, after[i]!, gradients[i]!];
    if (gradient === null && now.some((value, n) => !Object.is(value, was[n])))
      throw new Error(`parameter ${i} moved without a gradient`);
    const precision = PRECISION[own];
    if (gradient === null || precision === undefined) return;
    // Numbers whose squares bfloat16 holds.
    const isUsual = (values: Float64Array): boolean => values.every((value) => Math.abs(value) < 1e15);
    if (![was, gradient, ofBuffers[i]!].every(isUsual)) return;
    // The buffer is a running average of gradients.
    const [wasBuffer, nowBuffer] = [ofBuffers[i]!, valuesOf(buffers[i]!)];
    wasBuffer.forEach((value, n) => {
      const expected = step.momentum * value + (1 - step.momentum) * gradient[n]!;
      if (Math.abs(nowBuffer[n]! - expected) <= 4 * precision * (Math.abs(value) + Math.abs(gradient[n]!)) + 1e-30)
        return;
      throw new Error(`element ${n} of the buffer of parameter ${i} became ${nowBuffer[n]}, expected ${expected}`);
    });
    const rows = shape[0]!;
    const columns = was.length / rows;
    const longest = 1.3 * step.learningRate * Math.sqrt(Math.max(1, rows / columns));
    was.forEach((value, n) => {
      const moved = Math.abs(now[n]! - value * (1 - step.learningRate * step.weightDecay));
      if (moved <= longest + 4 * precision * Math.abs(value)) return;
      throw new Error(`element ${n} of parameter ${i} moved by ${moved}, expected at most ${longest}`);
    });
  });
}

function checkUnscale(choices: Choices): void {
  const dtype = choices.of<DType>(['float32', 'float16', 'bfloat16', 'float64']);
  const parameters = choices.list(choices.below(4), () =>
    anyParameter(choices, choices.chance(0.8) ? dtype : anyDType(choices)),
  );
  if (choices.chance(0.05)) choices.of(parameters)?.dispose();
  const scale = choices.chance(0.9) ? 2 ** -choices.below(4) : (choices.of(ODD_NUMBERS) as number);
  const read = (): (Float64Array | null)[] =>
    scope(() => parameters.map((p) => (p.isDisposed || p.grad === null ? null : valuesOf(p.grad))));
  const before = read();
  const areFinite = unscaleGradients(parameters, scale);
  const all = [...before, ...read()].flatMap((values) => [...(values ?? [])]);
  const expected = all.every((value) => Number.isFinite(value));
  if (areFinite !== expected) throw new Error(`unscaleGradients gave ${areFinite}, expected ${expected}`);
  if (ODD_NUMBERS.includes(scale)) return;
  read().forEach((after, i) => {
    before[i]?.forEach((value, n) => {
      // A power of two, and the values are no subnormals where it matters.
      if (!Number.isFinite(value) || Math.abs(after![n]! - value * scale) <= 2 ** -8 * Math.abs(value)) return;
      throw new Error(
        `element ${n} of the gradient of ${parameters[i]} became ${after![n]}, expected ${value * scale}`,
      );
    });
  });
}

export const optimizers: Fuzzed = {
  name: 'optimizers',
  runCase(position) {
    const choices = new Choices(position);
    const { liveTensors } = memoryStats();
    try {
      scope(() =>
        choices.of([checkStep, checkStep, checkAdamWStep, checkAdamWStep, checkMuonStep, checkUnscale])(choices),
      );
    } catch (error) {
      if (!(error instanceof TensorError)) throw error;
    }
    if (memoryStats().liveTensors !== liveTensors) throw new Error('tensors leaked');
  },
};
