import { type DType, keep, noGrad, scope, type Tensor } from '../tensor/index.js';
import { foldBatchNorm } from './folding.js';
import { BatchNorm2d, Conv2d, ReLU, Sequential } from './layers.js';
import type { Module } from './module.js';

type Step = (input: Tensor) => Tensor;

/**
 * Blocks whose weights do not change any more, made ready to run forward only: batch norm is folded into the convolution
 * before it, weights are converted once, ReLU works in place. Equal to the blocks in evaluation mode up to rounding. The
 * weights are read at the first forward pass; after that the blocks may not change. Dispose it.
 */
export class FrozenBlocks {
  readonly #blocks: readonly Module[];
  readonly #dtype: DType;
  readonly #own: Tensor[] = [];
  #steps: Step[] | null = null;

  /** `dtype` is what is computed in: float32, bfloat16 or float16. */
  constructor(blocks: readonly Module[], dtype: DType) {
    this.#blocks = blocks;
    this.#dtype = dtype;
  }

  /** What the first `count` blocks (all unless told) make of a batch, in the dtype of the constructor; no gradient. */
  forward(input: Tensor, count = this.#blocks.length): Tensor {
    if (count === 0) return input;
    return noGrad(() => {
      this.#steps ??= this.#blocks.map((block) => this.#prepare(block));
      return this.#steps.slice(0, count).reduce((x, step) => step(x), input.to({ dtype: this.#dtype }));
    });
  }

  #prepare(block: Module): Step {
    const modules = block instanceof Sequential ? [...block.children.values()] : [block];
    const steps: Step[] = [];
    for (let i = 0; i < modules.length; i++) {
      const module = modules[i]!;
      const next = modules[i + 1];
      if (module instanceof Conv2d) {
        const folded = next instanceof BatchNorm2d ? foldBatchNorm(module, next) : null;
        if (folded !== null) i++;
        const weight = this.#take(folded?.weight ?? module.weight);
        const bias = folded === null && module.bias === null ? null : this.#take(folded?.bias ?? module.bias!);
        steps.push((x) => module.convolve(x, weight, bias));
        folded?.weight.dispose();
        folded?.bias.dispose();
      } else if (module instanceof ReLU && modules[i - 1] !== undefined) {
        // What it works on was made by the step before.
        steps.push((x) => x.relu_());
      } else {
        steps.push((x) => module.forward(x));
      }
    }
    return (input) => steps.reduce((x, step) => step(x), input);
  }

  /** A copy in the dtype of computation, channels-last as the images are. */
  #take(parameter: Tensor): Tensor {
    const taken = scope(() => {
      const converted = parameter.detach().to({ dtype: this.#dtype });
      return keep((parameter.dim === 4 ? converted.contiguous({ memoryFormat: 'channelsLast' }) : converted).clone());
    });
    this.#own.push(taken);
    return taken;
  }

  dispose(): void {
    for (const tensor of this.#own.splice(0)) tensor.dispose();
    this.#steps = null;
  }
}
