import {
  chain,
  type DType,
  elementSize,
  empty,
  isCuda,
  isOwnedHere,
  noGrad,
  scope,
  type Tensor,
} from '../tensor/index.js';
import { ModuleError } from './errors.js';
import { FrozenFunctions } from './frozen-functions.js';
import type { Module } from './module.js';
import type { ForwardFunction } from './sequential.js';

const DTYPES: readonly DType[] = ['float32', 'bfloat16', 'float16'];

/**
 * Bytes of the largest tensor between two functions. On a CPU it stays in the caches from one to the next; a GPU wants work
 * for all its cores, so there only the memory is bounded.
 */
const CPU_PART_BYTES = 8 * 2 ** 20;
const CUDA_PART_BYTES = 2 ** 30;

/** Blocks by their indices, from `start` to before `end`. */
export interface BlockRange {
  readonly start: number;
  readonly end: number;
}

/** How a batch is computed: so many images at a time, each becoming a tensor of this shape. */
interface Parts {
  readonly images: number;
  readonly outputShape: readonly number[];
}

/**
 * Modules whose weights no longer change, prepared to run forward only: batch norm is folded into the convolution before it,
 * weights are converted once, ReLU works in place where its input was allocated on the way, and a batch goes through in parts.
 * Equal to the modules in evaluation mode up to rounding, whatever mode they are in; a module with a forward pass of its own runs
 * as it is. The weights are read at the first forward pass; after that the modules may not change. Dispose it.
 *
 * A block's output for an image must not depend on the other images of the batch: batches go through in parts of any size. This
 * is not checked. Its output must be [n, ...] for n images, which is checked.
 */
export class FrozenBlocks {
  readonly #dtype: DType;
  readonly #made: FrozenFunctions;
  #functions: (readonly ForwardFunction[])[] | null = null;
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
    this.#made = new FrozenFunctions(dtype);
  }

  /**
   * The output of the first `count` blocks (default: all) for a batch, in the dtype of the constructor; no gradient. The input
   * stays as it is. Throws ModuleError for a count above the number of blocks, and for a block whose output is not [n, ...] of n
   * images.
   */
  forward(input: Tensor, count = this.blocks.length): Tensor {
    this.#requireCount('count', count);
    return this.between(input, { start: 0, end: count });
  }

  /**
   * What the blocks from `start` to before `end` make of the output of the block below them; as `forward`. Throws as it does, and for an
   * end below the start.
   */
  between(input: Tensor, blocks: BlockRange): Tensor {
    this.#requireCount('start', blocks.start);
    this.#requireCount('end', blocks.end);
    if (blocks.end < blocks.start) {
      throw new ModuleError(`FrozenBlocks: expected at least ${blocks.start} for end, got ${blocks.end}`);
    }
    if (blocks.start === blocks.end) return input;
    return noGrad(() => {
      this.#functions ??= this.blocks.map((block) => this.#made.of(block));
      const batch = input.shape[0]!;
      if (batch === 0) return this.#pass(input, blocks);
      const { images, outputShape } = this.#partsOf(input, blocks);
      if (batch <= images) return this.#pass(input, blocks);
      // Parts of nearly one size.
      const size = Math.ceil(batch / Math.ceil(batch / images));
      return scope(() => {
        const output = emptyChannelsLast([batch, ...outputShape], this.#dtype, input);
        for (let start = 0; start < batch; start += size) {
          const length = Math.min(size, batch - start);
          scope(() => output.narrow(0, start, length).copy_(this.#pass(input.narrow(0, start, length), blocks)));
        }
        return output;
      });
    });
  }

  #requireCount(name: string, count: number): void {
    if (Number.isInteger(count) && count >= 0 && count <= this.blocks.length) return;
    const expected = `an integer from 0 to ${this.blocks.length}`;
    throw new ModuleError(`FrozenBlocks: expected ${expected} for ${name}, got ${String(count)}`);
  }

  /** All of a batch at once. */
  #pass(input: Tensor, { start, end }: BlockRange): Tensor {
    const images = input.shape[0]!;
    const blocks = this.#functions!.slice(start, end).flatMap((functions, i) => [
      ...functions,
      (x: Tensor): Tensor => this.#requireImages(x, images, start + i),
    ]);
    return scope(() => {
      const output = chain(input, [(x) => x.to({ dtype: this.#dtype }), ...blocks]);
      // A block may return a tensor of its own, such as a weight, which must not be freed with the output.
      return output === input || isOwnedHere(output) ? output : output.detach();
    });
  }

  #requireImages(output: Tensor, images: number, block: number): Tensor {
    if (output.shape[0] === images) return output;
    const count = `${images} ${images === 1 ? 'image' : 'images'}`;
    throw new ModuleError(
      `FrozenBlocks: expected [${images}, ...] of ${count} from block ${block + 1} (${this.blocks[block]!.constructor.name}), ` +
        `got [${output.shape.join(', ')}]`,
    );
  }

  /** Found by sending one image through. */
  #partsOf(input: Tensor, blocks: BlockRange): Parts {
    const key = `${blocks.start} to ${blocks.end}: ${input.shape.slice(1).join()} ${input.device}`;
    let parts = this.#parts.get(key);
    if (parts === undefined) {
      let largest = 1;
      const measure = ({ numel }: Tensor): void => {
        largest = Math.max(largest, numel * elementSize(this.#dtype));
      };
      this.#made.onOutput = measure;
      let outputShape: readonly number[];
      try {
        outputShape = scope(() => {
          const image = input.narrow(0, 0, 1);
          measure(image);
          return this.#pass(image, blocks).shape.slice(1);
        });
      } finally {
        this.#made.onOutput = null;
      }
      const affordable = isCuda(input.device) ? CUDA_PART_BYTES : CPU_PART_BYTES;
      parts = { images: Math.max(1, Math.floor(affordable / largest)), outputShape };
      this.#parts.set(key, parts);
    }
    return parts;
  }

  /** Frees what was made for the frozen form; the modules stay. */
  dispose(): void {
    this.#made.dispose();
    this.#functions = null;
  }
}

/** Without values, on the device of `like`; [batch, channels, height, width] lies channels-last. */
function emptyChannelsLast(shape: readonly number[], dtype: DType, { device }: Tensor): Tensor {
  if (shape.length !== 4) return empty(shape, { dtype, device });
  const [batch, channels, height, width] = shape as [number, number, number, number];
  return empty([batch, height, width, channels], { dtype, device }).permute([0, 3, 1, 2]);
}
