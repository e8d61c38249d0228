import { requireOptions } from '../options.js';
import { chain, empty, type Generator, noGrad, ones, type Tensor, zeros } from '../tensor/index.js';
import { convolve } from './convolution.js';
import { ModuleError } from './errors.js';
import { defaultInit, type Initializer } from './init.js';
import { Module } from './module.js';

function checkSizes(layer: string, sizes: Record<string, number>, least = 1): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isInteger(size) || size < least) {
      throw new ModuleError(`${layer}: expected an integer of at least ${least} for ${name}, got ${String(size)}`);
    }
  }
}

function checkNotNegative(layer: string, numbers: Record<string, number>): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (!Number.isFinite(value) || value < 0) {
      throw new ModuleError(`${layer}: expected a number of at least 0 for ${name}, got ${String(value)}`);
    }
  }
}

function optionsOf<T extends object>(layer: string, options: T, known: readonly (keyof T & string)[]): T {
  requireOptions(options, 'options', (problem) => new ModuleError(`${layer}: ${problem}`), known);
  return options;
}

/** 2-D convolution of [batch, inChannels, height, width]; names and defaults of torch.nn.Conv2d. */
export class Conv2d extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly #stride: number;
  readonly #padding: number;

  constructor(options: {
    inChannels: number;
    outChannels: number;
    kernelSize: number;
    stride?: number;
    padding?: number;
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
      bias = true,
      init = defaultInit(),
    } = optionsOf('Conv2d', options, ['inChannels', 'outChannels', 'kernelSize', 'stride', 'padding', 'bias', 'init']);
    checkSizes('Conv2d', { inChannels, outChannels, kernelSize, stride });
    checkSizes('Conv2d', { padding }, 0);
    this.#stride = stride;
    this.#padding = padding;
    this.weight = this.parameter('weight', empty([outChannels, inChannels, kernelSize, kernelSize]));
    this.bias = bias ? this.parameter('bias', empty([outChannels])) : null;
    init(this);
  }

  forward(input: Tensor): Tensor {
    return this.convolve(input, this.weight, this.bias);
  }

  /** This convolution with other weights of the same shape. */
  convolve(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
    return convolve(input, weight, bias, { stride: this.#stride, padding: this.#padding });
  }
}

/** The affine map of [..., inFeatures] to [..., outFeatures]; names and defaults of torch.nn.Linear. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(options: { inFeatures: number; outFeatures: number; bias?: boolean; init?: Initializer }) {
    super();
    const {
      inFeatures,
      outFeatures,
      bias = true,
      init = defaultInit(),
    } = optionsOf('Linear', options, ['inFeatures', 'outFeatures', 'bias', 'init']);
    checkSizes('Linear', { inFeatures, outFeatures });
    this.weight = this.parameter('weight', empty([outFeatures, inFeatures]));
    this.bias = bias ? this.parameter('bias', empty([outFeatures])) : null;
    init(this);
  }

  forward(input: Tensor): Tensor {
    return input.linear(this.weight, this.bias);
  }
}

/** Batch normalisation of [batch, features, height, width]; names and defaults of torch.nn.BatchNorm2d. */
export class BatchNorm2d extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
  readonly numBatchesTracked: Tensor;
  readonly eps: number;
  readonly #momentum: number;

  constructor(options: { features: number; momentum?: number; eps?: number }) {
    super();
    const { features, momentum = 0.1, eps = 1e-5 } = optionsOf('BatchNorm2d', options, ['features', 'momentum', 'eps']);
    checkSizes('BatchNorm2d', { features });
    checkNotNegative('BatchNorm2d', { momentum, eps });
    this.#momentum = momentum;
    this.eps = eps;
    this.weight = this.parameter('weight', ones([features]));
    this.bias = this.parameter('bias', zeros([features]));
    this.runningMean = this.buffer('running_mean', zeros([features]));
    this.runningVar = this.buffer('running_var', ones([features]));
    this.numBatchesTracked = this.buffer('num_batches_tracked', zeros([], { dtype: 'int64' }));
  }

  forward(input: Tensor): Tensor {
    if (this.training) noGrad(() => this.numBatchesTracked.add_(1));
    return input.batchNorm(this.weight, this.bias, this.runningMean, this.runningVar, {
      training: this.training,
      momentum: this.#momentum,
      eps: this.eps,
    });
  }

  /** `forward`, then ReLU; in training as one operation, which keeps less for the backward pass. */
  forwardRectified(input: Tensor): Tensor {
    if (!this.training) return this.forward(input).relu_();
    noGrad(() => this.numBatchesTracked.add_(1));
    return input.batchNormRelu(this.weight, this.bias, this.runningMean, this.runningVar, {
      momentum: this.#momentum,
      eps: this.eps,
    });
  }
}

/** max(input, 0). In place it saves the memory of a copy, where the input is nobody else's. */
export class ReLU extends Module {
  readonly inPlace: boolean;

  constructor(options: { inPlace?: boolean } = {}) {
    super();
    this.inPlace = optionsOf('ReLU', options, ['inPlace']).inPlace ?? false;
  }

  forward(input: Tensor): Tensor {
    return this.inPlace ? input.relu_() : input.relu();
  }
}

/** The maximum of each kernelSize x kernelSize window, moved by its own size. */
export class MaxPool2d extends Module {
  readonly #kernelSize: number;

  constructor(options: { kernelSize: number }) {
    super();
    const { kernelSize } = optionsOf('MaxPool2d', options, ['kernelSize']);
    checkSizes('MaxPool2d', { kernelSize });
    this.#kernelSize = kernelSize;
  }

  forward(input: Tensor): Tensor {
    return input.maxPool2d(this.#kernelSize, { stride: this.#kernelSize });
  }
}

/** The mean of each kernelSize x kernelSize window, moved by its own size. */
export class AvgPool2d extends Module {
  readonly #kernelSize: number;

  constructor(options: { kernelSize: number }) {
    super();
    const { kernelSize } = optionsOf('AvgPool2d', options, ['kernelSize']);
    checkSizes('AvgPool2d', { kernelSize });
    this.#kernelSize = kernelSize;
  }

  forward(input: Tensor): Tensor {
    return input.avgPool2d(this.#kernelSize, { stride: this.#kernelSize });
  }
}

/** Averages to outputSize x outputSize, whatever the input's size. */
export class AdaptiveAvgPool2d extends Module {
  readonly #outputSize: number;

  constructor(options: { outputSize: number }) {
    super();
    const { outputSize } = optionsOf('AdaptiveAvgPool2d', options, ['outputSize']);
    checkSizes('AdaptiveAvgPool2d', { outputSize });
    this.#outputSize = outputSize;
  }

  forward(input: Tensor): Tensor {
    return input.adaptiveAvgPool2d(this.#outputSize);
  }
}

/** Joins all dimensions but the batch. */
export class Flatten extends Module {
  forward(input: Tensor): Tensor {
    return input.flatten({ startDim: 1 });
  }
}

/** In training, zeroes each value with probability p and scales the rest by 1 / (1 - p). */
export class Dropout extends Module {
  readonly #p: number;
  /** What it draws from. Null: the default generator, which belongs to the whole process. */
  generator: Generator | null = null;

  constructor(options: { p: number }) {
    super();
    const { p } = optionsOf('Dropout', options, ['p']);
    if (!(Number.isFinite(p) && p >= 0 && p < 1))
      throw new ModuleError(`Dropout: expected 0 <= p < 1 for p, got ${String(p)}`);
    this.#p = p;
  }

  forward(input: Tensor): Tensor {
    return this.training ? input.dropout({ p: this.#p, generator: this.generator }) : input;
  }
}

/** Lets every dropout of a module, at any depth, draw from `generator`. */
export function drawFrom(module: Module, generator: Generator): void {
  if (module instanceof Dropout) module.generator = generator;
  for (const child of module.children.values()) drawFrom(child, generator);
}

/** Modules one after another. The names become those of the state dict. */
export class Sequential extends Module {
  /** The forward passes of its modules. */
  readonly steps: readonly ((input: Tensor) => Tensor)[];

  constructor(modules: readonly (readonly [name: string, module: Module])[]) {
    super();
    for (const [name, module] of modules) this.child(name, module);
    this.steps = forwardSteps(modules.map(([, module]) => module));
  }

  forward(input: Tensor): Tensor {
    return chain(input, this.steps);
  }
}

/**
 * The forward passes of modules, to be chained: those of a Sequential one by one, so that each result is let go when the
 * next is there, and batch norm with an in-place ReLU after it as one.
 */
export function forwardSteps(modules: readonly Module[]): ((input: Tensor) => Tensor)[] {
  const steps: ((input: Tensor) => Tensor)[] = [];
  for (let i = 0; i < modules.length; i++) {
    const module = modules[i]!;
    const next = modules[i + 1];
    if (isExactly(module, BatchNorm2d) && next !== undefined && isExactly(next, ReLU) && next.inPlace) {
      steps.push((x) => module.forwardRectified(x));
      i++;
    } else if (isExactly(module, Sequential)) {
      steps.push(...module.steps);
    } else {
      steps.push((x) => module.forward(x));
    }
  }
  return steps;
}

/** Whether a module is of this class itself, and may be run in another way than by its `forward`: a subclass may have its own. */
export function isExactly<M extends Module>(
  module: Module,
  type: abstract new (...options: never[]) => M,
): module is M {
  return module.constructor === type;
}
