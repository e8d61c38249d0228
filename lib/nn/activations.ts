import type { GeluApproximation, Tensor } from '../tensor/index.js';
import { checkBooleans, optionsOf, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

/** max(input, 0). In place it saves the memory of a copy, where the input is nobody else's. */
export class ReLU extends Module {
  readonly inPlace: boolean;

  constructor(options: { inPlace?: boolean } = {}) {
    super();
    const { inPlace = false } = optionsOf('ReLU', options, ['inPlace']);
    checkBooleans('ReLU', { inPlace });
    this.inPlace = inPlace;
  }

  forward(input: Tensor): Tensor {
    return this.inPlace ? input.relu_() : input.relu();
  }
}

/** input where it is above 0, negativeSlope * input elsewhere; names and defaults of torch.nn.LeakyReLU. */
export class LeakyReLU extends Module {
  readonly #negativeSlope: number;

  constructor(options: { negativeSlope?: number } = {}) {
    super();
    const { negativeSlope = 0.01 } = optionsOf('LeakyReLU', options, ['negativeSlope']);
    if (!Number.isFinite(negativeSlope)) refuse('LeakyReLU', 'a finite number', 'negativeSlope', negativeSlope);
    this.#negativeSlope = negativeSlope;
  }

  forward(input: Tensor): Tensor {
    return input.leakyRelu({ negativeSlope: this.#negativeSlope });
  }
}

/**
 * input times the normal distribution's cumulative function of it (Hendrycks and Gimpel, 2016), or an approximation of that by
 * tanh; names and defaults of torch.nn.GELU.
 */
export class GELU extends Module {
  readonly #approximate: GeluApproximation;

  constructor(options: { approximate?: GeluApproximation } = {}) {
    super();
    const { approximate = 'none' } = optionsOf('GELU', options, ['approximate']);
    if (approximate !== 'none' && approximate !== 'tanh') refuse('GELU', 'none or tanh', 'approximate', approximate);
    this.#approximate = approximate;
  }

  forward(input: Tensor): Tensor {
    return input.gelu({ approximate: this.#approximate });
  }
}

/** input * sigmoid(input), as torch.nn.SiLU. */
export class SiLU extends Module {
  forward(input: Tensor): Tensor {
    return input.silu();
  }
}

/** 1 / (1 + exp(-input)). */
export class Sigmoid extends Module {
  forward(input: Tensor): Tensor {
    return input.sigmoid();
  }
}

/** The hyperbolic tangent. */
export class Tanh extends Module {
  forward(input: Tensor): Tensor {
    return input.tanh();
  }
}

declareTraits(ReLU, { fixed: true });
declareTraits(LeakyReLU, { allocates: true, anyDtype: true, fixed: true });
declareTraits(GELU, { allocates: true, anyDtype: true, fixed: true });
declareTraits(SiLU, { allocates: true, anyDtype: true, fixed: true });
declareTraits(Sigmoid, { allocates: true, anyDtype: true, fixed: true });
declareTraits(Tanh, { allocates: true, anyDtype: true, fixed: true });
