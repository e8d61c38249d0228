import { requireOptions } from '../options.js';
import { muonStep, type SgdStep, sgdStep, type Tensor } from '../tensor/index.js';
import { OptimizerError, optionsOf, requireNumber } from './errors.js';
import { BaseOptimizer, namedOf, requireNotNegative, zerosLike } from './optimizer.js';

/** Hyper-parameters of `Muon`, by the names and defaults of torch.optim.Muon. It throws OptimizerError for one out of range. */
export interface MuonOptions {
  /** Above 0. Default: 1e-3. */
  readonly learningRate?: number;
  /** At least 0, less than 1. Default: 0.95. */
  readonly momentum?: number;
  /** Default: true. */
  readonly nesterov?: boolean;
  /** Decoupled: each step takes learningRate * weightDecay of every matrix away. Default: 0.1. */
  readonly weightDecay?: number;
  /** Of the iteration that makes a step orthonormal: 1 to 99 (`ns_steps`). Default: 5. */
  readonly iterations?: number;
  /** The least norm that a step is divided by. Default: 1e-7. */
  readonly eps?: number;
  /** What the iteration multiplies in; bfloat16 is slow where the hardware has none. Default: bfloat16. */
  readonly dtype?: 'bfloat16' | 'float32';
  /** Parameters that are no matrices, or that should not be stepped as such, are stepped by SGD in the same call. */
  readonly sgd?: MuonSgdOptions;
}

/** The parameters that `Muon` leaves to SGD, which has its momentum and its `nesterov`. */
export interface MuonSgdOptions {
  readonly parameters: readonly Tensor[];
  /** At the start; it changes as that of `Muon` does. */
  readonly learningRate: number;
  /** An L2 penalty, added to the gradient. Default: 0. */
  readonly weightDecay?: number;
}

const NAMES: readonly (keyof MuonOptions)[] = [
  ...(['learningRate', 'momentum', 'nesterov', 'weightDecay', 'iterations', 'eps', 'dtype', 'sgd'] as const),
];

const SGD_NAMES: readonly (keyof MuonSgdOptions)[] = ['parameters', 'learningRate', 'weightDecay'];

type Checked = Required<Omit<MuonOptions, 'sgd'>> & { readonly sgd: Required<MuonSgdOptions> };

function checkedOptions(given: MuonOptions): Checked {
  const {
    learningRate = 1e-3,
    momentum = 0.95,
    nesterov = true,
    weightDecay = 0.1,
    iterations = 5,
    eps = 1e-7,
    dtype = 'bfloat16',
    sgd = { parameters: [], learningRate: 0 },
  } = optionsOf('Muon', given, NAMES);
  requireOptions(sgd, 'sgd', (problem) => new OptimizerError(`Muon: ${problem}`), SGD_NAMES);
  const { parameters, learningRate: sgdRate, weightDecay: sgdDecay = 0 } = sgd;
  if (!Array.isArray(parameters)) {
    throw new OptimizerError(`Muon: expected an array of tensors for sgd.parameters, got ${String(parameters)}`);
  }
  requireNumber('Muon', 'learningRate', learningRate, 'a number above 0', (rate) => rate > 0);
  requireNumber('Muon', 'momentum', momentum, 'a number of at least 0, less than 1', (m) => m >= 0 && m < 1);
  requireNumber('Muon', 'iterations', iterations, 'an integer of 1 to 99', (n) => n >= 1 && n <= 99 && n % 1 === 0);
  const numbers = { weightDecay, eps, 'sgd.learningRate': sgdRate, 'sgd.weightDecay': sgdDecay };
  for (const [name, value] of Object.entries(numbers)) requireNotNegative('Muon', name, value);
  if (typeof nesterov !== 'boolean') {
    throw new OptimizerError(`Muon: expected a boolean for nesterov, got ${String(nesterov)}`);
  }
  if (dtype !== 'bfloat16' && dtype !== 'float32') {
    throw new OptimizerError(`Muon: expected bfloat16 or float32 for dtype, got ${String(dtype)}`);
  }
  const ofSgd = { parameters, learningRate: sgdRate, weightDecay: sgdDecay };
  return { learningRate, momentum, nesterov, weightDecay, iterations, eps, dtype, sgd: ofSgd };
}

/** Parameters, and the momentum of each. */
interface Buffered {
  readonly parameters: readonly Tensor[];
  readonly buffers: readonly Tensor[];
}

const buffered = (parameters: readonly Tensor[]): Buffered => ({ parameters, buffers: zerosLike(parameters) });

/**
 * Momentum, orthogonalised (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024), the update of
 * torch.optim.Muon. A parameter is stepped as a matrix [first dimension, all others]: the filters of a convolution are its rows.
 */
export class Muon extends BaseOptimizer {
  readonly #options: Checked;
  readonly #matrices: Buffered;
  readonly #others: Buffered;

  constructor(matrices: readonly Tensor[], options: MuonOptions = {}) {
    const checked = checkedOptions(options);
    const { parameters } = checked.sgd;
    super('Muon', Array.isArray(matrices) ? [...matrices, ...parameters] : matrices, checked.learningRate);
    matrices.forEach(({ shape }, i) => {
      if (shape.length >= 2 && !shape.includes(0)) return;
      throw new OptimizerError(
        `Muon: expected two or more dimensions, none of size 0, for parameters[${i}], got [${shape.join(', ')}]`,
      );
    });
    this.#options = checked;
    this.#matrices = buffered(this.parameters.slice(0, matrices.length));
    this.#others = buffered(this.parameters.slice(matrices.length));
  }

  /** Updates every parameter by its gradient; one without a gradient stays. */
  step(): void {
    const { learningRate } = this;
    const { sgd, learningRate: first, momentum, weightDecay, nesterov, iterations, eps, dtype } = this.#options;
    const step = { learningRate, momentum, weightDecay, nesterov, iterations, eps, dtype };
    muonStep(this.#matrices.parameters, this.#matrices.buffers, step);
    if (this.#others.parameters.length > 0) {
      const ofSgd: SgdStep = {
        ...{ learningRate: sgd.learningRate * (learningRate / first), weightDecay: sgd.weightDecay },
        // Buffers of zeros take a first gradient as it is.
        ...{ momentum, dampening: 0, nesterov: nesterov && momentum > 0, isFirstStep: false },
      };
      sgdStep(this.#others.parameters, momentum === 0 ? [] : this.#others.buffers, ofSgd);
    }
    this.isFirstStep = false;
  }

  /** The momentum buffers, `momentum.0` and so on, one a parameter: those of matrices, then those of `sgd`. */
  protected tensors(): ReadonlyMap<string, Tensor> {
    return new Map(namedOf('momentum', [...this.#matrices.buffers, ...this.#others.buffers]));
  }
}
