import { clearGradients, keep, type SgdStep, scope, sgdStep, type Tensor } from '../tensor/index.js';
import { OptimizerError, optionsOf } from './errors.js';

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

function checkOptions(options: Required<SgdOptions>): Required<SgdOptions> {
  for (const name of ['learningRate', 'momentum', 'dampening', 'weightDecay'] as const) {
    if (!(options[name] >= 0 && Number.isFinite(options[name]))) {
      throw new OptimizerError(`Sgd: expected a number of at least 0 for ${name}, got ${options[name]}`);
    }
  }
  if (options.nesterov && (options.momentum === 0 || options.dampening !== 0)) {
    throw new OptimizerError('Sgd: nesterov needs a momentum above 0 and a dampening of 0');
  }
  return options;
}

/** Stochastic gradient descent with momentum, the update of torch.optim.SGD. */
export class Sgd {
  readonly parameters: readonly Tensor[];
  readonly #options: Required<SgdOptions>;
  readonly #buffers: Tensor[];
  #isFirstStep = true;
  /** May be changed between steps. */
  learningRate: number;

  constructor(parameters: readonly Tensor[], options: SgdOptions) {
    this.#options = checkOptions({
      momentum: 0,
      dampening: 0,
      weightDecay: 0,
      nesterov: false,
      ...optionsOf('Sgd', options),
    });
    this.parameters = parameters;
    this.learningRate = options.learningRate;
    // A clone keeps the memory layout of the parameter, which the fused step needs.
    this.#buffers =
      this.#options.momentum === 0 ? [] : parameters.map((p) => scope(() => keep(p.detach().clone().fill_(0))));
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

  /** Goes on from a saved state. Throws OptimizerError when the buffers are not those of these parameters. */
  restore(state: { momentumBuffers: readonly Tensor[]; isFirstStep: boolean }): void {
    if (state.momentumBuffers.length !== this.#buffers.length) {
      throw new OptimizerError(
        `Sgd: expected ${this.#buffers.length} momentum buffers, got ${state.momentumBuffers.length}`,
      );
    }
    this.#buffers.forEach((buffer, i) => {
      buffer.copy_(state.momentumBuffers[i]!);
    });
    this.#isFirstStep = state.isFirstStep;
  }

  /** Frees the momentum buffers. */
  dispose(): void {
    for (const buffer of this.#buffers) buffer.dispose();
  }
}
