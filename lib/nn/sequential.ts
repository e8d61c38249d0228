import { chain, type Tensor } from '../tensor/index.js';
import { ReLU } from './activations.js';
import { Module } from './module.js';
import { BatchNorm2d } from './normalization.js';
import { declareTraits, isExactly } from './traits.js';

/** The forward pass of a module, or of a part of one. */
export type ForwardFunction = (input: Tensor) => Tensor;

/** Modules one after another. The names become those of the state dict. */
export class Sequential extends Module {
  constructor(modules: readonly (readonly [name: string, module: Module])[]) {
    super();
    for (const [name, module] of modules) this.child(name, module);
  }

  /** The forward functions of its modules, as these are now. */
  get functions(): readonly ForwardFunction[] {
    return forwardFunctions([...this.children.values()]);
  }

  forward(input: Tensor): Tensor {
    return chain(input, this.functions);
  }
}

/**
 * The forward functions of modules, to be chained. Those of a Sequential come one by one, so that each result is freed when the
 * next is there; batch norm with an in-place ReLU after it is one function.
 */
export function forwardFunctions(modules: readonly Module[]): ForwardFunction[] {
  const functions: ForwardFunction[] = [];
  for (let i = 0; i < modules.length; i++) {
    const module = modules[i]!;
    const next = modules[i + 1];
    if (isExactly(module, BatchNorm2d) && next !== undefined && isExactly(next, ReLU) && next.inPlace) {
      functions.push((x) => module.forwardRectified(x));
      i++;
    } else if (isExactly(module, Sequential)) {
      functions.push(...module.functions);
    } else {
      functions.push((x) => module.forward(x));
    }
  }
  return functions;
}

declareTraits(Sequential, { fixed: true });
