import { checkOptions, handleOf, handlesOf, tensorsOf } from './handle.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

export interface SgdStep {
  readonly learningRate: number;
  readonly momentum: number;
  readonly dampening: number;
  readonly weightDecay: number;
  readonly nesterov: boolean;
  /** The momentum buffers hold nothing yet: they are set to the gradient instead of being decayed. */
  readonly isFirstStep: boolean;
}

const STEP = ['learningRate', 'momentum', 'dampening', 'weightDecay', 'nesterov', 'isFirstStep'] as const;

/**
 * One step of torch.optim.SGD over all parameters in one native call, fused where LibTorch can. `momentumBuffers` has
 * one tensor a parameter, laid out like it, or is empty without momentum. Parameters without a gradient stay.
 */
export function sgdStep(parameters: readonly Tensor[], momentumBuffers: readonly Tensor[], step: SgdStep): void {
  checkOptions(step, 'sgdStep', STEP, 'step');
  const { learningRate, momentum, dampening, weightDecay, nesterov, isFirstStep } = step;
  const updated = tensorsOf(parameters, 'parameters', 'sgdStep');
  const buffers = tensorsOf(momentumBuffers, 'momentumBuffers', 'sgdStep');
  native.sgdStep(
    handlesOf(updated),
    handlesOf(buffers),
    learningRate,
    momentum,
    dampening,
    weightDecay,
    nesterov,
    isFirstStep,
  );
}

/** What AdamW has of each parameter: averages of its gradient and of that squared, laid out like it. */
export interface AdamWMoments {
  readonly expAvg: readonly Tensor[];
  readonly expAvgSq: readonly Tensor[];
  /** How many gradients each parameter has had: float32 [parameters]. */
  readonly step: Tensor;
}

export interface AdamWStep {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
}

const MOMENTS = ['expAvg', 'expAvgSq', 'step'] as const;
const ADAMW_STEP = ['learningRate', 'beta1', 'beta2', 'eps', 'weightDecay'] as const;

/**
 * One step of torch.optim.AdamW over all parameters in one native call, fused where LibTorch can; it counts the step. Parameters
 * without a gradient stay, and their counts too.
 */
export function adamwStep(parameters: readonly Tensor[], moments: AdamWMoments, step: AdamWStep): void {
  checkOptions(moments, 'adamwStep', MOMENTS, 'moments');
  checkOptions(step, 'adamwStep', ADAMW_STEP, 'step');
  const { learningRate, beta1, beta2, eps, weightDecay } = step;
  const counts = moments.step;
  const updated = tensorsOf(parameters, 'parameters', 'adamwStep');
  const expAvg = tensorsOf(moments.expAvg, 'expAvg', 'adamwStep');
  const expAvgSq = tensorsOf(moments.expAvgSq, 'expAvgSq', 'adamwStep');
  native.adamwStep(
    handlesOf(updated),
    handlesOf(expAvg),
    handlesOf(expAvgSq),
    handleOf(counts, 'step', 'adamwStep'),
    learningRate,
    beta1,
    beta2,
    eps,
    weightDecay,
  );
}

export interface MuonStep {
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly nesterov: boolean;
  /** Of Newton and Schulz's iteration, which makes a step's rows orthonormal. */
  readonly iterations: number;
  readonly eps: number;
  /** What the iteration multiplies in. */
  readonly dtype: 'bfloat16' | 'float32';
}

const MUON_STEP = ['learningRate', 'momentum', 'weightDecay', 'nesterov', 'iterations', 'eps', 'dtype'] as const;

/**
 * One step of torch.optim.Muon over all parameters in one native call. Each parameter is a matrix [first dimension, all others].
 * `momentumBuffers` has one tensor a parameter, of its shape. Parameters without a gradient stay.
 */
export function muonStep(parameters: readonly Tensor[], momentumBuffers: readonly Tensor[], step: MuonStep): void {
  checkOptions(step, 'muonStep', MUON_STEP, 'step');
  const { learningRate, momentum, weightDecay, nesterov, iterations, eps, dtype } = step;
  const updated = tensorsOf(parameters, 'parameters', 'muonStep');
  const buffers = tensorsOf(momentumBuffers, 'momentumBuffers', 'muonStep');
  native.muonStep(
    handlesOf(updated),
    handlesOf(buffers),
    learningRate,
    momentum,
    weightDecay,
    nesterov,
    iterations,
    eps,
    dtype === 'float32',
  );
}

/** Multiplies every gradient by `inverseScale`, in place; false when one of them is not finite. Waits for the device. */
export function unscaleGradients(parameters: readonly Tensor[], inverseScale: number): boolean {
  return native.unscaleGradients(handlesOf(tensorsOf(parameters, 'parameters', 'unscaleGradients')), inverseScale);
}
