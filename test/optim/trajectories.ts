// Steps of an optimiser as PyTorch took them: what the fixtures of optimisers have in common.
import type { Optimizer } from '../../lib/optim/index.js';
import type { Tensor } from '../../lib/tensor/index.js';
import { decode, type EncodedTensor, expectClose, type Tolerance } from '../support/fixtures.js';

export interface Step {
  readonly learningRate: number;
  readonly reset: boolean;
  readonly gradients: readonly (EncodedTensor | null)[];
  readonly expected: readonly EncodedTensor[];
}

export interface Trajectory<Options> {
  readonly name: string;
  readonly options: Options;
  readonly parameters: readonly EncodedTensor[];
  readonly steps: readonly Step[];
}

export function leaves(encoded: readonly EncodedTensor[]): Tensor[] {
  return encoded.map((each) => {
    const leaf = decode(each);
    leaf.requiresGrad = true;
    return leaf;
  });
}

/** Gives each parameter that gradient: the derivative of sum(parameter * gradient). */
export function setGradients(parameters: readonly Tensor[], gradients: readonly (EncodedTensor | null)[]): void {
  parameters.forEach((parameter, i) => {
    const gradient = gradients[i];
    if (gradient != null) parameter.mul(decode(gradient)).sum().backward();
  });
}

/** Steps by the gradients of a recorded step, and compares the parameters with what PyTorch's step made of them. */
export function expectStep(
  optimizer: Optimizer,
  step: Step,
  { name, tolerance }: { name: string; tolerance: Tolerance },
): void {
  optimizer.zeroGrad();
  setGradients(optimizer.parameters, step.gradients);
  optimizer.step();
  optimizer.parameters.forEach((parameter, i) => {
    expectClose(parameter, step.expected[i]!, `${name}, parameter ${i}`, tolerance);
  });
}
