import { keep, type SgdStep, scope, sgdStep, type Tensor, tensor, zeros } from '../tensor/index.js';
import { OptimizerError, optionsOf } from './errors.js';
import { BaseOptimizer, namedOf, requireNotNegative, zerosLike } from './optimizer.js';

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
  for (const [name, value] of Object.entries(numbers)) requireNotNegative('Sgd', name, value);
  if (typeof nesterov !== 'boolean') {
    throw new OptimizerError(`Sgd: expected a boolean for nesterov, got ${String(nesterov)}`);
  }
  if (nesterov && (momentum === 0 || dampening !== 0)) {
    throw new OptimizerError('Sgd: nesterov needs a momentum above 0 and a dampening of 0');
  }
  return { ...numbers, nesterov };
}

const NAMES: readonly (keyof SgdOptions)[] = ['learningRate', 'momentum', 'dampening', 'weightDecay', 'nesterov'];

/** Stochastic gradient descent with momentum, the update of torch.optim.SGD. */
export class Sgd extends BaseOptimizer {
  readonly #options: Required<SgdOptions>;
  readonly #buffers: Tensor[];
  /** Which parameters have had a gradient, 1 or 0, float32 [parameters]; null where that makes no difference. */
  readonly #started: Tensor | null;

  constructor(parameters: readonly Tensor[], options: SgdOptions) {
    const checked = checkedOptions(options);
    super('Sgd', parameters, checked.learningRate);
    this.#options = checked;
    this.#buffers = checked.momentum === 0 ? [] : zerosLike(parameters);
    const isDampened = checked.momentum !== 0 && checked.dampening !== 0;
    this.#started = isDampened ? scope(() => keep(zeros([parameters.length]))) : null;
  }

  /** Updates every parameter by its gradient. */
  step(): void {
    const step: SgdStep = { ...this.#options, learningRate: this.learningRate, isFirstStep: this.isFirstStep };
    if (this.#started === null) sgdStep(this.parameters, this.#buffers, step);
    else this.#stepDampened(step, this.#started);
    this.isFirstStep = false;
  }

  /**
   * A parameter's first gradient enters its buffer undampened, also when it comes later than the others'. Without
   * dampening a buffer of zeros does that by itself.
   */
  #stepDampened(step: SgdStep, started: Tensor): void {
    const before = started.toFloat32Array();
    for (const isFirstStep of [true, false]) {
      const mine = <T>(values: readonly T[]): T[] => values.filter((_, i) => (before[i] === 0) === isFirstStep);
      sgdStep(mine(this.parameters), mine(this.#buffers), { ...step, isFirstStep });
    }
    scope(() => {
      const now = this.parameters.map(({ grad }, i) => (before[i] === 1 || grad !== null ? 1 : 0));
      started.copy_(tensor(now, { shape: [now.length] }));
    });
  }

  /** The momentum buffers, `momentum.0` and so on, one a parameter in order; with dampening also which have had a gradient, `started`. */
  protected tensors(): ReadonlyMap<string, Tensor> {
    const buffers = namedOf('momentum', this.#buffers);
    return new Map(this.#started === null ? buffers : [...buffers, ['started', this.#started]]);
  }
}
