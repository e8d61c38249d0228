import type { Tensor } from '../tensor/index.js';
import { bothOf, checkPairs, optionsOf, type Pair, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

/** Names and defaults of torch.nn's poolings. */
export interface PoolingOptions {
  readonly kernelSize: Pair;
  /** Default: kernelSize. */
  readonly stride?: Pair;
  /** At most half of kernelSize. Default: 0. */
  readonly padding?: Pair;
}

function checkedPooling(layer: string, options: PoolingOptions): Required<PoolingOptions> {
  const {
    kernelSize,
    stride = kernelSize,
    padding = 0,
  } = optionsOf(layer, options, ['kernelSize', 'stride', 'padding']);
  checkPairs(layer, { kernelSize, stride });
  checkPairs(layer, { padding }, 0);
  const sizes = bothOf(kernelSize);
  if (bothOf(padding).some((size, i) => size > sizes[i]! / 2)) {
    refuse(layer, `at most half of kernelSize, ${sizes.join(' x ')},`, 'padding', padding);
  }
  return { kernelSize, stride, padding };
}

/** The maximum of each window of [batch, channels, height, width]; names and defaults of torch.nn.MaxPool2d. */
export class MaxPool2d extends Module {
  readonly #options: Required<PoolingOptions>;

  constructor(options: PoolingOptions) {
    super();
    this.#options = checkedPooling('MaxPool2d', options);
  }

  forward(input: Tensor): Tensor {
    const { kernelSize, stride, padding } = this.#options;
    return input.maxPool2d(kernelSize, { stride, padding });
  }
}

/** The mean of each window of [batch, channels, height, width], padding counted; names and defaults of torch.nn.AvgPool2d. */
export class AvgPool2d extends Module {
  readonly #options: Required<PoolingOptions>;

  constructor(options: PoolingOptions) {
    super();
    this.#options = checkedPooling('AvgPool2d', options);
  }

  forward(input: Tensor): Tensor {
    const { kernelSize, stride, padding } = this.#options;
    return input.avgPool2d(kernelSize, { stride, padding });
  }
}

/** Averages to outputSize, [height, width] or as much of both, whatever the input's size. */
export class AdaptiveAvgPool2d extends Module {
  readonly #outputSize: Pair;

  constructor(options: { outputSize: Pair }) {
    super();
    const { outputSize } = optionsOf('AdaptiveAvgPool2d', options, ['outputSize']);
    checkPairs('AdaptiveAvgPool2d', { outputSize });
    this.#outputSize = outputSize;
  }

  forward(input: Tensor): Tensor {
    return input.adaptiveAvgPool2d(this.#outputSize);
  }
}

declareTraits(MaxPool2d, { allocates: true, anyDtype: true, fixed: true });
declareTraits(AvgPool2d, { allocates: true, anyDtype: true, fixed: true });
declareTraits(AdaptiveAvgPool2d, { allocates: true, anyDtype: true, fixed: true });
