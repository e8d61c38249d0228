import { noGrad, ones, type Tensor, zeros } from '../tensor/index.js';
import { ModuleError } from './errors.js';
import { checkBooleans, checkNotNegative, checkSizes, optionsOf, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

interface BatchNormOptions {
  readonly features: number;
  readonly momentum?: number;
  readonly eps?: number;
}

/** Batch normalisation over dimension 1, with the parameters and statistics of torch.nn.BatchNorm1d and BatchNorm2d. */
abstract class BatchNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
  readonly numBatchesTracked: Tensor;
  readonly eps: number;
  protected readonly momentum: number;

  constructor(layer: string, options: BatchNormOptions) {
    super();
    const { features, momentum = 0.1, eps = 1e-5 } = optionsOf(layer, options, ['features', 'momentum', 'eps']);
    checkSizes(layer, { features });
    checkNotNegative(layer, { momentum, eps });
    this.momentum = momentum;
    this.eps = eps;
    this.weight = this.parameter('weight', ones([features]));
    this.bias = this.parameter('bias', zeros([features]));
    this.runningMean = this.buffer('running_mean', zeros([features]));
    this.runningVar = this.buffer('running_var', ones([features]));
    this.numBatchesTracked = this.buffer('num_batches_tracked', zeros([], { dtype: 'int64' }));
  }

  /** The normalised input, of any shape [batch, channels, ...]; in training the running statistics move. */
  protected normalize(input: Tensor): Tensor {
    if (this.training) noGrad(() => this.numBatchesTracked.add_(1));
    return input.batchNorm(this.weight, this.bias, this.runningMean, this.runningVar, {
      training: this.training,
      momentum: this.momentum,
      eps: this.eps,
    });
  }
}

/** Batch normalisation of [batch, features, height, width]; names and defaults of torch.nn.BatchNorm2d. */
export class BatchNorm2d extends BatchNorm {
  constructor(options: { features: number; momentum?: number; eps?: number }) {
    super('BatchNorm2d', options);
  }

  forward(input: Tensor): Tensor {
    return this.normalize(input);
  }

  /** `forward`, then ReLU; in training as one operation, which keeps less for the backward pass. */
  forwardRectified(input: Tensor): Tensor {
    if (!this.training) return this.forward(input).relu_();
    noGrad(() => this.numBatchesTracked.add_(1));
    return input.batchNormRelu(this.weight, this.bias, this.runningMean, this.runningVar, {
      momentum: this.momentum,
      eps: this.eps,
    });
  }
}

/**
 * Batch normalisation of [batch, features] or [batch, features, length]; names and defaults of torch.nn.BatchNorm1d. Throws
 * ModuleError for an input of other dimensions.
 */
export class BatchNorm1d extends BatchNorm {
  constructor(options: { features: number; momentum?: number; eps?: number }) {
    super('BatchNorm1d', options);
  }

  forward(input: Tensor): Tensor {
    if (input.dim === 2 || input.dim === 3) return this.normalize(input);
    const got = `[${input.shape.join(', ')}]`;
    throw new ModuleError(`BatchNorm1d: expected [batch, features] or [batch, features, length], got ${got}`);
  }
}

/**
 * Normalises the channels of each image, [batch, numChannels, ...], in groups of neighbours; names and defaults of
 * torch.nn.GroupNorm.
 */
export class GroupNorm extends Module {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  readonly eps: number;
  readonly #groups: number;

  constructor(options: { numGroups: number; numChannels: number; eps?: number; affine?: boolean }) {
    super();
    const {
      numGroups,
      numChannels,
      eps = 1e-5,
      affine = true,
    } = optionsOf('GroupNorm', options, ['numGroups', 'numChannels', 'eps', 'affine']);
    checkSizes('GroupNorm', { numGroups, numChannels });
    checkNotNegative('GroupNorm', { eps });
    checkBooleans('GroupNorm', { affine });
    if (numChannels % numGroups !== 0) {
      refuse('GroupNorm', `a divisor of numChannels, ${numChannels},`, 'numGroups', numGroups);
    }
    this.eps = eps;
    this.#groups = numGroups;
    this.weight = affine ? this.parameter('weight', ones([numChannels])) : null;
    this.bias = affine ? this.parameter('bias', zeros([numChannels])) : null;
  }

  forward(input: Tensor): Tensor {
    return input.groupNorm(this.#groups, this.weight, this.bias, { eps: this.eps });
  }
}

/** Normalises over the last dimensions, whose sizes are `normalizedShape`; names and defaults of torch.nn.LayerNorm. */
export class LayerNorm extends Module {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  readonly eps: number;
  readonly #shape: readonly number[];

  constructor(options: {
    normalizedShape: number | readonly number[];
    eps?: number;
    elementwiseAffine?: boolean;
    bias?: boolean;
  }) {
    super();
    const {
      normalizedShape,
      eps = 1e-5,
      elementwiseAffine = true,
      bias = true,
    } = optionsOf('LayerNorm', options, ['normalizedShape', 'eps', 'elementwiseAffine', 'bias']);
    const shape: readonly number[] = Array.isArray(normalizedShape) ? [...normalizedShape] : [normalizedShape];
    if (shape.length === 0) refuse('LayerNorm', 'one size or more', 'normalizedShape', '[]');
    for (const size of shape) checkSizes('LayerNorm', { normalizedShape: size });
    checkNotNegative('LayerNorm', { eps });
    checkBooleans('LayerNorm', { elementwiseAffine, bias });
    this.eps = eps;
    this.#shape = shape;
    this.weight = elementwiseAffine ? this.parameter('weight', ones(shape)) : null;
    this.bias = elementwiseAffine && bias ? this.parameter('bias', zeros(shape)) : null;
  }

  forward(input: Tensor): Tensor {
    return input.layerNorm(this.#shape, this.weight, this.bias, { eps: this.eps });
  }
}

declareTraits(BatchNorm1d, { allocates: true, anyDtype: true });
declareTraits(BatchNorm2d, { allocates: true, anyDtype: true });
declareTraits(GroupNorm, { allocates: true });
declareTraits(LayerNorm, { allocates: true });
