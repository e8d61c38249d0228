import {
  autocast,
  chain,
  type DType,
  elementSize,
  empty,
  isCuda,
  keep,
  noGrad,
  scope,
  type Tensor,
} from '../tensor/index.js';
import { InvertibleDownsampling } from './downsampling.js';
import { ModuleError } from './errors.js';
import { inEvaluation, modulesIn } from './evaluation-mode.js';
import { foldBatchNorm } from './folding.js';
import {
  AdaptiveAvgPool2d,
  AvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  isExactly,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from './layers.js';
import type { Module } from './module.js';

type Step = (input: Tensor) => Tensor;

const DTYPES: readonly DType[] = ['float32', 'bfloat16', 'float16'];

/**
 * Bytes of the largest tensor between two steps. On a CPU so much stays in its caches from one step to the next; a GPU
 * wants work for all its cores, and only the memory is bounded.
 */
const CPU_PART_BYTES = 8 * 2 ** 20;
const CUDA_PART_BYTES = 2 ** 30;

/** Modules that take an input of any dtype, whatever that of their own tensors is. */
const ANY_DTYPE: ReadonlySet<unknown> = new Set([
  ...[BatchNorm2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Dropout, Flatten, InvertibleDownsampling],
]);

/**
 * The modules whose output is always memory of its own. Others, and subclasses, may give back their input or a view of it, as
 * flattening and dropout in evaluation do: it must not be written to.
 */
const ALLOCATING: ReadonlySet<unknown> = new Set([
  Conv2d,
  Linear,
  BatchNorm2d,
  MaxPool2d,
  AvgPool2d,
  AdaptiveAvgPool2d,
  ReLU,
]);

/** How a batch is computed: so many images at a time, each becoming a tensor of this shape. */
interface Parts {
  readonly images: number;
  readonly outputShape: readonly number[];
}

/**
 * Modules whose weights do not change any more, made ready to run forward only: batch norm is folded into the convolution
 * before it, weights are converted once, ReLU works in place where the memory was made on the way, and a batch goes through
 * in parts. Equal to the modules in evaluation mode up to rounding, whatever mode they are in. The weights are read at the first
 * forward pass; after that the modules may not change. Dispose it.
 */
export class FrozenBlocks {
  readonly #dtype: DType;
  readonly #own: Tensor[] = [];
  #steps: Step[][] | null = null;
  readonly #parts = new Map<string, Parts>();

  /** `dtype` is what is computed in: float32, bfloat16 or float16. Throws ModuleError for another. */
  constructor(
    readonly blocks: readonly Module[],
    dtype: DType,
  ) {
    if (!DTYPES.includes(dtype)) {
      throw new ModuleError(`FrozenBlocks: expected one of ${DTYPES.join(', ')} for dtype, got ${String(dtype)}`);
    }
    this.#dtype = dtype;
  }

  /**
   * What the first `count` blocks (default: all) make of a batch, in the dtype of the constructor; no gradient. Throws ModuleError
   * for a count of blocks that there are not.
   */
  forward(input: Tensor, count = this.blocks.length): Tensor {
    if (!Number.isInteger(count) || count < 0 || count > this.blocks.length) {
      const expected = `an integer from 0 to ${this.blocks.length}`;
      throw new ModuleError(`FrozenBlocks: expected ${expected} for count, got ${String(count)}`);
    }
    if (count === 0) return input;
    return noGrad(() => {
      this.#steps ??= this.blocks.map((block) => this.#prepare(block));
      const steps: Step[] = [(x) => x.to({ dtype: this.#dtype }), ...this.#steps.slice(0, count).flat()];
      const batch = input.shape[0]!;
      if (batch === 0) return chain(input, steps);
      const { images, outputShape } = this.#partsOf(input, count, steps);
      if (batch <= images) return chain(input, steps);
      // Parts of nearly one size.
      const size = Math.ceil(batch / Math.ceil(batch / images));
      return scope(() => {
        const output = emptyChannelsLast([batch, ...outputShape], this.#dtype, input);
        for (let start = 0; start < batch; start += size) {
          const length = Math.min(size, batch - start);
          scope(() => output.narrow(0, start, length).copy_(chain(input.narrow(0, start, length), steps)));
        }
        return output;
      });
    });
  }

  /** Found by sending one image through. */
  #partsOf(input: Tensor, count: number, steps: readonly Step[]): Parts {
    const key = `${count}: ${input.shape.slice(1).join()} ${input.device}`;
    let parts = this.#parts.get(key);
    if (parts === undefined) {
      let largest = 1;
      const outputShape = scope(() => {
        const measured = steps.map(
          (step): Step =>
            (x) => {
              const output = step(x);
              largest = Math.max(largest, output.numel * elementSize(this.#dtype));
              return output;
            },
        );
        return chain(input.narrow(0, 0, 1), measured).shape.slice(1);
      });
      const affordable = isCuda(input.device) ? CUDA_PART_BYTES : CPU_PART_BYTES;
      parts = { images: Math.max(1, Math.floor(affordable / largest)), outputShape };
      this.#parts.set(key, parts);
    }
    return parts;
  }

  #prepare(block: Module): Step[] {
    const modules = flatten(block);
    const steps: Step[] = [];
    /** Whether the step before made the memory that the next one gets. */
    let isOwn = false;
    for (let i = 0; i < modules.length; i++) {
      const module = modules[i]!;
      const next = modules[i + 1];
      if (isExactly(module, Conv2d)) {
        const folded = next !== undefined && isExactly(next, BatchNorm2d) ? foldBatchNorm(module, next) : null;
        if (folded !== null) i++;
        const weight = this.#take(folded?.weight ?? module.weight);
        const bias = folded === null && module.bias === null ? null : this.#take(folded?.bias ?? module.bias!);
        steps.push((x) => module.convolve(x, weight, bias));
        folded?.weight.dispose();
        folded?.bias.dispose();
      } else if (isExactly(module, Linear)) {
        const weight = this.#converted(module.weight);
        const bias = module.bias === null ? null : this.#converted(module.bias);
        steps.push((x) => x.linear(weight, bias));
      } else if (isExactly(module, ReLU)) {
        // Not the module's own `inPlace`: that is a promise about the network, not about what a caller gives in its middle.
        steps.push(isOwn ? (x) => x.relu_() : (x) => x.relu());
      } else {
        const all = modulesIn(module);
        const forward: Step = (x) => inEvaluation(all, () => module.forward(x));
        steps.push(ANY_DTYPE.has(module.constructor) ? forward : this.#inDtype(forward));
      }
      isOwn = ALLOCATING.has(module.constructor);
    }
    return steps;
  }

  /** A module whose forward pass is its own has weights of its own dtype: autocast brings them and its input together. */
  #inDtype(forward: Step): Step {
    const dtype = this.#dtype;
    if (dtype !== 'bfloat16' && dtype !== 'float16') return forward;
    return (x) => autocast({ device: x.device, dtype }, () => forward(x)).to({ dtype });
  }

  /** The parameter itself where it is of the dtype of computation already: those of large heads are not held twice. */
  #converted(parameter: Tensor): Tensor {
    return parameter.dtype === this.#dtype ? parameter : this.#take(parameter);
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

/** A module, or the modules of a Sequential and of those in it, one after another. */
const flatten = (module: Module): Module[] =>
  isExactly(module, Sequential) ? [...module.children.values()].flatMap(flatten) : [module];

/** Without values, on the device of `like`; [batch, channels, height, width] lies channels-last. */
function emptyChannelsLast(shape: readonly number[], dtype: DType, { device }: Tensor): Tensor {
  if (shape.length !== 4) return empty(shape, { dtype, device });
  const [batch, channels, height, width] = shape as [number, number, number, number];
  return empty([batch, height, width, channels], { dtype, device }).permute([0, 3, 1, 2]);
}
