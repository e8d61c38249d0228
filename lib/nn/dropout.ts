import type { Generator, Tensor } from '../tensor/index.js';
import { modulesIn } from './evaluation-mode.js';
import { optionsOf, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

function checkedProbability(layer: string, options: { p?: number }): number {
  const { p = 0.5 } = optionsOf(layer, options, ['p']);
  if (!(Number.isFinite(p) && p >= 0 && p < 1)) refuse(layer, '0 <= p < 1', 'p', p);
  return p;
}

/** In training, zeroes each value with probability p and scales the rest by 1 / (1 - p); default of p: 0.5. */
export class Dropout extends Module {
  readonly #p: number;
  /** What it draws from. Null: the default generator, which belongs to the whole process. */
  generator: Generator | null = null;

  constructor(options: { p?: number } = {}) {
    super();
    this.#p = checkedProbability('Dropout', options);
  }

  forward(input: Tensor): Tensor {
    return this.training ? input.dropout({ p: this.#p, generator: this.generator }) : input;
  }
}

/** `Dropout` of whole maps of [batch, channels, height, width], as torch.nn.Dropout2d. */
export class Dropout2d extends Module {
  readonly #p: number;
  /** As of Dropout. */
  generator: Generator | null = null;

  constructor(options: { p?: number } = {}) {
    super();
    this.#p = checkedProbability('Dropout2d', options);
  }

  forward(input: Tensor): Tensor {
    return this.training ? input.dropout2d({ p: this.#p, generator: this.generator }) : input;
  }
}

/** Lets every dropout of a module, at any depth, draw from `generator`. */
export function drawFrom(module: Module, generator: Generator): void {
  for (const part of modulesIn(module)) {
    if (part instanceof Dropout || part instanceof Dropout2d) part.generator = generator;
  }
}

declareTraits(Dropout, { anyDtype: true });
declareTraits(Dropout2d, { anyDtype: true });
