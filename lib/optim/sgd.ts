import { clearGradients, keep, type SgdStep, scope, sgdStep, Tensor } from '../tensor/index.js';
import { OptimizerError, optionsOf, requireNumber } from './errors.js';

/**
 * Hyper-parameters of `Sgd`, as in torch.optim.SGD. It throws OptimizerError for one that is negative or not finite, and
 * for `nesterov` without momentum or with dampening.
 */
export interface SgdOptions {
  readonly learningRate: number;
  /** Default: 0. */
  readonly momentum?: number;
  /** Default: 0. */
  readonly dampening?: number;
  /** An L2 penalty on every parameter, added to its gradient. Default: 0. */
  readonly weightDecay?: number;
  /** Default: false. */
  readonly nesterov?: boolean;
}

function checkedOptions(given: SgdOptions): Required<SgdOptions> {
  const {
    learningRate,
    momentum = 0,
    dampening = 0,
    weightDecay = 0,
    nesterov = false,
  } = optionsOf('Sgd', given, NAMES);
  const numbers = { learningRate, momentum, dampening, weightDecay };
  for (const [name, value] of Object.entries(numbers)) requireNotNegative(name, value);
  if (typeof nesterov !== 'boolean') {
    throw new OptimizerError(`Sgd: expected a boolean for nesterov, got ${String(nesterov)}`);
  }
  if (nesterov && (momentum === 0 || dampening !== 0)) {
    throw new OptimizerError('Sgd: nesterov needs a momentum above 0 and a dampening of 0');
  }
  return { ...numbers, nesterov };
}

const NAMES: readonly (keyof SgdOptions)[] = ['learningRate', 'momentum', 'dampening', 'weightDecay', 'nesterov'];

const requireNotNegative = (name: string, value: number): void =>
  requireNumber('Sgd', name, value, 'a number of at least 0', (number) => number >= 0);

function requireTensors(name: string, tensors: readonly Tensor[]): void {
  if (!Array.isArray(tensors)) {
    throw new OptimizerError(`Sgd: expected an array of tensors for ${name}, got ${String(tensors)}`);
  }
  tensors.forEach((tensor: unknown, i) => {
    if (!(tensor instanceof Tensor)) {
      throw new OptimizerError(`Sgd: expected a tensor for ${name}[${i}], got ${String(tensor)}`);
    }
  });
}

function requireDistinct(parameters: readonly Tensor[]): void {
  const again = parameters.findIndex((parameter, i) => parameters.indexOf(parameter) < i);
  if (again < 0) return;
  throw new OptimizerError(
    `Sgd: expected each tensor once for parameters, got that of [${parameters.indexOf(parameters[again]!)}] again at [${again}]`,
  );
}

/** Stochastic gradient descent with momentum, the update of torch.optim.SGD. */
export class Sgd {
  readonly parameters: readonly Tensor[];
  readonly #options: Required<SgdOptions>;
  readonly #buffers: Tensor[];
  #isFirstStep = true;
  #learningRate: number;

  constructor(parameters: readonly Tensor[], options: SgdOptions) {
    this.#options = checkedOptions(options);
    requireTensors('parameters', parameters);
    requireDistinct(parameters);
    this.parameters = parameters;
    this.#learningRate = this.#options.learningRate;
    // A clone keeps the memory layout of the parameter, which the fused step needs.
    this.#buffers =
      this.#options.momentum === 0 ? [] : parameters.map((p) => scope(() => keep(p.detach().clone().fill_(0))));
  }

  get learningRate(): number {
    return this.#learningRate;
  }

  /** May be changed between steps. Throws OptimizerError for a rate that is negative or not finite. */
  set learningRate(learningRate: number) {
    requireNotNegative('learningRate', learningRate);
    this.#learningRate = learningRate;
  }

  /** Updates every parameter by its gradient. */
  step(): void {
    const step: SgdStep = { ...this.#options, learningRate: this.learningRate, isFirstStep: this.#isFirstStep };
    if (this.#options.dampening !== 0 && !this.#isFirstStep) this.#stepLatecomers(step);
    else sgdStep(this.parameters, this.#buffers, step);
    this.#isFirstStep = false;
  }

  /**
   * A parameter's first gradient enters its buffer undampened, also when it comes later than the others'. Without
   * dampening a buffer of zeros does that by itself.
   */
  #stepLatecomers(step: SgdStep): void {
    const isNew = this.#buffers.map((buffer) => scope(() => buffer.eq(0).all().item() === 1));
    for (const isFirstStep of [true, false]) {
      const mine = <T>(values: readonly T[]): T[] => values.filter((_, i) => isNew[i] === isFirstStep);
      sgdStep(mine(this.parameters), mine(this.#buffers), { ...step, isFirstStep });
    }
  }

  /** Forgets the gradients. */
  zeroGrad(): void {
    clearGradients(this.parameters);
  }

  /** Starts the momentum again from nothing, as a new optimiser would. */
  reset(): void {
    for (const buffer of this.#buffers) buffer.fill_(0);
    this.#isFirstStep = true;
  }

  /** The momentum buffers, one a parameter in order, and whether a step has been made. For checkpoints. */
  get state(): { readonly momentumBuffers: readonly Tensor[]; readonly isFirstStep: boolean } {
    return { momentumBuffers: this.#buffers, isFirstStep: this.#isFirstStep };
  }

  /**
   * Goes on from a saved state. Throws OptimizerError, before anything is changed, when the buffers are not those of these
   * parameters.
   */
  restore(state: { readonly momentumBuffers: readonly Tensor[]; readonly isFirstStep: boolean }): void {
    const { momentumBuffers, isFirstStep } = optionsOf('Sgd.restore', state, ['momentumBuffers', 'isFirstStep']);
    requireTensors('momentumBuffers', momentumBuffers);
    if (momentumBuffers.length !== this.#buffers.length) {
      throw new OptimizerError(`Sgd: expected ${this.#buffers.length} momentum buffers, got ${momentumBuffers.length}`);
    }
    this.#buffers.forEach(({ shape }, i) => {
      const got = momentumBuffers[i]!.shape;
      // Another shape would be broadcast.
      if (got.join() !== shape.join()) {
        throw new OptimizerError(
          `Sgd: expected [${shape.join(', ')}] for momentumBuffers[${i}], got [${got.join(', ')}]`,
        );
      }
    });
    if (typeof isFirstStep !== 'boolean') {
      throw new OptimizerError(`Sgd: expected a boolean for isFirstStep, got ${String(isFirstStep)}`);
    }
    this.#buffers.forEach((buffer, i) => {
      buffer.copy_(momentumBuffers[i]!);
    });
    this.#isFirstStep = isFirstStep;
  }

  /** Frees the momentum buffers. */
  dispose(): void {
    for (const buffer of this.#buffers) buffer.dispose();
  }
}
