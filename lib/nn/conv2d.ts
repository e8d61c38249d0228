import { empty, type Tensor } from '../tensor/index.js';
import { convolve, type Geometry } from './convolution.js';
import { defaultInit, type Initializer } from './init.js';
import { bothOf, checkBooleans, checkPairs, checkSizes, optionsOf, type Pair, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

/** 2-D convolution of [batch, inChannels, height, width]; names and defaults of torch.nn.Conv2d. */
export class Conv2d extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly #geometry: Geometry;
  /** Rows and columns of zeros after the last ones, of a 'same' padding that is not even. */
  readonly #after: readonly [height: number, width: number];

  constructor(options: {
    inChannels: number;
    outChannels: number;
    kernelSize: Pair;
    stride?: Pair;
    /** 'same': so much that the output is as large as the input; only with a stride of 1. */
    padding?: Pair | 'same';
    dilation?: Pair;
    groups?: number;
    bias?: boolean;
    init?: Initializer;
  }) {
    super();
    const {
      inChannels,
      outChannels,
      kernelSize,
      stride = 1,
      padding = 0,
      dilation = 1,
      groups = 1,
      bias = true,
      init = defaultInit(),
    } = optionsOf('Conv2d', options, [
      ...([
        'inChannels',
        'outChannels',
        'kernelSize',
        'stride',
        'padding',
        'dilation',
        'groups',
        'bias',
        'init',
      ] as const),
    ]);
    checkSizes('Conv2d', { inChannels, outChannels, groups });
    checkPairs('Conv2d', { kernelSize, stride, dilation });
    checkBooleans('Conv2d', { bias });
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      refuse('Conv2d', `a divisor of inChannels, ${inChannels}, and outChannels, ${outChannels},`, 'groups', groups);
    }
    const { before, after } = paddingOf({ kernelSize, stride, padding, dilation });
    this.#geometry = { stride, padding: before, dilation, groups };
    this.#after = after;
    const [height, width] = bothOf(kernelSize);
    this.weight = this.parameter('weight', empty([outChannels, inChannels / groups, height, width]));
    this.bias = bias ? this.parameter('bias', empty([outChannels])) : null;
    init(this);
  }

  get groups(): number {
    return this.#geometry.groups ?? 1;
  }

  forward(input: Tensor): Tensor {
    return this.convolve(input, this.weight, this.bias);
  }

  /** This convolution with other weights of the same shape. */
  convolve(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
    const [rows, columns] = this.#after;
    const padded = rows + columns === 0 ? input : input.pad([0, columns, 0, rows]);
    return convolve(padded, weight, bias, this.#geometry);
  }
}

/** Zeros on each side. `after` is what a 'same' padding has in excess after the last row and column, as in PyTorch. */
function paddingOf(options: { kernelSize: Pair; stride: Pair; padding: Pair | 'same'; dilation: Pair }): {
  before: Pair;
  after: readonly [height: number, width: number];
} {
  const { kernelSize, stride, padding, dilation } = options;
  if (padding !== 'same') {
    checkPairs('Conv2d', { padding }, 0);
    return { before: padding, after: [0, 0] };
  }
  if (bothOf(stride).some((one) => one !== 1)) refuse('Conv2d', 'numbers, with a stride above 1,', 'padding', padding);
  const dilations = bothOf(dilation);
  const [height, width] = bothOf(kernelSize).map((size, i) => (size - 1) * dilations[i]!) as [number, number];
  const before = [Math.floor(height / 2), Math.floor(width / 2)] as const;
  return { before: before[0] === before[1] ? before[0] : before, after: [height % 2, width % 2] };
}

declareTraits(Conv2d, { allocates: true });
