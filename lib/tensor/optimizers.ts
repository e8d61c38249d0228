import { checkOptions, handlesOf, tensorsOf } from './handle.js';
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

/** Multiplies every gradient by `inverseScale`, in place; false when one of them is not finite. Waits for the device. */
export function unscaleGradients(parameters: readonly Tensor[], inverseScale: number): boolean {
  return native.unscaleGradients(handlesOf(tensorsOf(parameters, 'parameters', 'unscaleGradients')), inverseScale);
}
