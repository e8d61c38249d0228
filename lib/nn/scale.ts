import type { Tensor } from '../tensor/index.js';
import { optionsOf, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

/** input * factor, a number that does not train. */
export class Scale extends Module {
  readonly factor: number;

  constructor(options: { factor: number }) {
    super();
    const { factor } = optionsOf('Scale', options, ['factor']);
    if (!Number.isFinite(factor)) refuse('Scale', 'a finite number', 'factor', factor);
    this.factor = factor;
  }

  forward(input: Tensor): Tensor {
    return input.mul(this.factor);
  }
}

declareTraits(Scale, { allocates: true, anyDtype: true, fixed: true });
