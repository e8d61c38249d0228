import { type Generator, noGrad, type Tensor } from '../tensor/index.js';

/** A weight of [out, in, ...kernel] or [out, in], and the bias of the same layer. */
export interface LayerParameters {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
}

/** Fills the parameters of a convolution or linear layer. */
export type Initializer = (layer: LayerParameters) => void;

/** Inputs of one output value: in * kernel height * kernel width. */
const fanIn = (weight: Tensor): number => weight.shape.slice(1).reduce((product, size) => product * size, 1);

/** Outputs that one input value reaches: out * kernel height * kernel width. */
const fanOut = (weight: Tensor): number => weight.shape[0]! * (fanIn(weight) / weight.shape[1]!);

/**
 * PyTorch's default for Conv2d and Linear: weight and bias from U(-b, b) with b = 1 / sqrt(fan in)
 * (torch.nn.Conv2d.reset_parameters: kaiming_uniform_ with a = sqrt(5) comes to the same bound).
 */
export function defaultInit(generator?: Generator): Initializer {
  return ({ weight, bias }) => {
    const bound = 1 / Math.sqrt(fanIn(weight));
    noGrad(() => {
      weight.uniform_({ from: -bound, to: bound, generator: generator ?? null });
      bias?.uniform_({ from: -bound, to: bound, generator: generator ?? null });
    });
  };
}

/** Weight from N(0, 2 / fan out), for layers followed by ReLU (He et al., 2015), bias 0. */
export function kaimingNormalFanOut(generator?: Generator): Initializer {
  return ({ weight, bias }) => {
    noGrad(() => {
      weight.normal_({ std: Math.sqrt(2 / fanOut(weight)), generator: generator ?? null });
      bias?.fill_(0);
    });
  };
}

/** Weight from N(0, std^2), bias 0. */
export function normalInit(std: number, generator?: Generator): Initializer {
  return ({ weight, bias }) => {
    noGrad(() => {
      weight.normal_({ std, generator: generator ?? null });
      bias?.fill_(0);
    });
  };
}
