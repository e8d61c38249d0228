import { empty, type Tensor } from '../tensor/index.js';
import { defaultInit, type Initializer } from './init.js';
import { checkBooleans, checkSizes, optionsOf } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

/** The affine map of [..., inFeatures] to [..., outFeatures]; names and defaults of torch.nn.Linear. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(options: { inFeatures: number; outFeatures: number; bias?: boolean; init?: Initializer }) {
    super();
    const {
      inFeatures,
      outFeatures,
      bias = true,
      init = defaultInit(),
    } = optionsOf('Linear', options, ['inFeatures', 'outFeatures', 'bias', 'init']);
    checkSizes('Linear', { inFeatures, outFeatures });
    checkBooleans('Linear', { bias });
    this.weight = this.parameter('weight', empty([outFeatures, inFeatures]));
    this.bias = bias ? this.parameter('bias', empty([outFeatures])) : null;
    init(this);
  }

  forward(input: Tensor): Tensor {
    return input.linear(this.weight, this.bias);
  }
}

/** Joins all dimensions but the batch. */
export class Flatten extends Module {
  forward(input: Tensor): Tensor {
    return input.flatten({ startDim: 1 });
  }
}

/** Gives its input back. */
export class Identity extends Module {
  forward(input: Tensor): Tensor {
    return input;
  }
}

declareTraits(Linear, { allocates: true });
declareTraits(Flatten, { anyDtype: true, fixed: true });
declareTraits(Identity, { anyDtype: true, fixed: true });
