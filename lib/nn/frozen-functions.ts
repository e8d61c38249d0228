// Modules in evaluation mode as functions to be chained, whose weights are prepared once.
import { autocast, chain, channelsLast, type DType, keep, scope, type Tensor } from '../tensor/index.js';
import { ReLU } from './activations.js';
import { Conv2d } from './conv2d.js';
import { inEvaluation, modulesIn } from './evaluation-mode.js';
import { foldBatchNorm } from './folding.js';
import { Linear } from './linear.js';
import type { Module } from './module.js';
import { BatchNorm2d } from './normalization.js';
import { Residual, requireOneShape } from './residual.js';
import { type ForwardFunction, Sequential } from './sequential.js';
import { isExactly, traitsOf } from './traits.js';

/** Functions to be chained, and whether the output of the last is always memory that nobody else has. */
interface Prepared {
  readonly functions: readonly ForwardFunction[];
  readonly isOwn: boolean;
}

/**
 * Prepares modules to run forward only, in one dtype: batch norm is folded into the convolution before it, weights are converted
 * once, and ReLU works in place where its input was allocated on the way. A module that may have behaviour of its own runs by its
 * own forward pass. Dispose it.
 */
export class FrozenFunctions {
  readonly #dtype: DType;
  readonly #own: Tensor[] = [];
  /** Called with the output of each function, also within a Residual. */
  onOutput: ((output: Tensor) => void) | null = null;

  constructor(dtype: DType) {
    this.#dtype = dtype;
  }

  /** The functions that together are a module in evaluation mode. They do not change their input. */
  of(module: Module): readonly ForwardFunction[] {
    return this.#prepare(flatten(module)).functions;
  }

  #prepare(modules: readonly Module[]): Prepared {
    const functions: ForwardFunction[] = [];
    /** Whether the function before allocated its output, so that the next may write to it. */
    let isOwn = false;
    for (let i = 0; i < modules.length; i++) {
      const module = modules[i]!;
      if (isExactly(module, Conv2d)) {
        const bn = normOf(module, modules[i + 1]);
        if (bn !== null) i++;
        functions.push(this.#convolution(module, bn));
      } else if (isExactly(module, Linear)) {
        const weight = this.#converted(module.weight);
        const bias = module.bias === null ? null : this.#converted(module.bias);
        functions.push((x) => x.linear(weight, bias));
      } else if (isExactly(module, ReLU)) {
        // Not the module's own `inPlace`: that is a promise about the network, not about what a caller gives in its middle.
        functions.push(isOwn ? (x) => x.relu_() : (x) => x.relu());
      } else if (isExactly(module, Residual)) {
        functions.push(this.#residual(module));
      } else {
        functions.push(this.#asItIs(module, isOwn));
      }
      isOwn = isExactly(module, ReLU) || traitsOf(module)?.allocates === true;
    }
    return { functions: functions.map((forward) => this.#watched(forward)), isOwn };
  }

  #convolution(conv: Conv2d, bn: BatchNorm2d | null): ForwardFunction {
    const folded = bn === null ? null : foldBatchNorm(conv, bn);
    const weight = this.#take(folded?.weight ?? conv.weight);
    const bias = folded === null && conv.bias === null ? null : this.#take(folded?.bias ?? conv.bias!);
    folded?.weight.dispose();
    folded?.bias.dispose();
    return (x) => conv.convolve(x, weight, bias);
  }

  /** Both branches read the input, so neither may write to it. The sum is written into the body's output. */
  #residual(module: Residual): ForwardFunction {
    const body = this.#prepare(flatten(module.body));
    const shortcut = module.shortcut === null ? null : this.#prepare(flatten(module.shortcut));
    return (x) => {
      const sum = chain(x, body.functions);
      const other = shortcut === null ? x : chain(x, shortcut.functions);
      requireOneShape(sum, other);
      return body.isOwn ? sum.add_(other) : sum.add(other);
    };
  }

  /** The module's own forward pass. An unknown one may write to its input: it gets a copy of what others may hold. */
  #asItIs(module: Module, isOwn: boolean): ForwardFunction {
    const all = modulesIn(module);
    const traits = traitsOf(module);
    const forward: ForwardFunction = (x) => inEvaluation(all, () => module.forward(x));
    if (traits?.anyDtype === true) return forward;
    const converting = this.#inDtype(forward);
    return traits !== null || isOwn ? converting : (x) => converting(x.clone());
  }

  /** A module that runs its own forward pass has weights in their own dtype: autocast converts them and the input. */
  #inDtype(forward: ForwardFunction): ForwardFunction {
    const dtype = this.#dtype;
    if (dtype !== 'bfloat16' && dtype !== 'float16') return forward;
    return (x) => autocast({ device: x.device, dtype }, () => forward(x)).to({ dtype });
  }

  #watched(forward: ForwardFunction): ForwardFunction {
    return (x) => {
      const output = forward(x);
      this.onOutput?.(output);
      return output;
    };
  }

  /** The parameter itself where it is of the dtype of computation already: those of large heads are not held twice. */
  #converted(parameter: Tensor): Tensor {
    return parameter.dtype === this.#dtype ? parameter : this.#take(parameter);
  }

  /** A copy in the dtype of computation, channels-last as the images are. */
  #take(parameter: Tensor): Tensor {
    const taken = scope(() => {
      const converted = parameter.detach().to({ dtype: this.#dtype });
      return keep(channelsLast(converted).clone());
    });
    this.#own.push(taken);
    return taken;
  }

  dispose(): void {
    for (const tensor of this.#own.splice(0)) tensor.dispose();
  }
}

/** The batch norm that can be folded into a convolution: one of as many channels, right after it. */
function normOf(conv: Conv2d, next: Module | undefined): BatchNorm2d | null {
  if (next === undefined || !isExactly(next, BatchNorm2d)) return null;
  return next.weight.shape[0] === conv.weight.shape[0] ? next : null;
}

/** A module, or the modules of a Sequential and of those in it, one after another. */
const flatten = (module: Module): Module[] =>
  isExactly(module, Sequential) ? [...module.children.values()].flatMap(flatten) : [module];
