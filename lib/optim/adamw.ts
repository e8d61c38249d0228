import { type AdamWMoments, adamwStep, keep, scope, type Tensor, zeros } from '../tensor/index.js';
import { OptimizerError, optionsOf, requireNumber } from './errors.js';
import { BaseOptimizer, namedOf, requireNotNegative, zerosLike } from './optimizer.js';

/** Hyper-parameters of `AdamW`, by the names and defaults of torch.optim.AdamW. It throws OptimizerError for one out of range. */
export interface AdamWOptions {
  /** Default: 1e-3. */
  readonly learningRate?: number;
  /** Decay rates of the running averages of the gradient and of its square: at least 0, less than 1. Default: [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Added to the root that the step is divided by. Default: 1e-8. */
  readonly eps?: number;
  /** Decoupled: each step takes learningRate * weightDecay of every parameter away, whatever its gradient is. Default: 1e-2. */
  readonly weightDecay?: number;
}

const NAMES: readonly (keyof AdamWOptions)[] = ['learningRate', 'betas', 'eps', 'weightDecay'];

function checkedOptions(given: AdamWOptions): Required<AdamWOptions> {
  const {
    learningRate = 1e-3,
    betas = [0.9, 0.999],
    eps = 1e-8,
    weightDecay = 1e-2,
  } = optionsOf('AdamW', given, NAMES);
  for (const [name, value] of Object.entries({ learningRate, eps, weightDecay }))
    requireNotNegative('AdamW', name, value);
  if (!Array.isArray(betas) || betas.length !== 2) {
    throw new OptimizerError(`AdamW: expected two numbers for betas, got ${String(betas)}`);
  }
  betas.forEach((beta, i) => {
    requireNumber('AdamW', `betas[${i}]`, beta, 'a number of at least 0, less than 1', (b) => b >= 0 && b < 1);
  });
  return { learningRate, betas, eps, weightDecay };
}

/** Adam with decoupled weight decay (Loshchilov and Hutter, 2019), the update of torch.optim.AdamW without amsgrad. */
export class AdamW extends BaseOptimizer {
  readonly #options: Required<AdamWOptions>;
  readonly #moments: AdamWMoments;

  constructor(parameters: readonly Tensor[], options: AdamWOptions = {}) {
    const checked = checkedOptions(options);
    super('AdamW', parameters, checked.learningRate);
    this.#options = checked;
    const device = parameters[0]?.device ?? 'cpu';
    const step = scope(() => keep(zeros([parameters.length], { device })));
    this.#moments = { expAvg: zerosLike(parameters), expAvgSq: zerosLike(parameters), step };
  }

  /** Updates every parameter by its gradient; one without a gradient stays, and its count of steps too. */
  step(): void {
    const { betas, eps, weightDecay } = this.#options;
    const [beta1, beta2] = betas;
    adamwStep(this.parameters, this.#moments, { learningRate: this.learningRate, beta1, beta2, eps, weightDecay });
    this.isFirstStep = false;
  }

  /**
   * `exp_avg.0` and so on, the averages of each parameter's gradient in order; `exp_avg_sq.0` and so on, those of its square;
   * `step`, how many gradients each parameter has had, float32 [parameters].
   */
  protected tensors(): ReadonlyMap<string, Tensor> {
    const { expAvg, expAvgSq, step } = this.#moments;
    return new Map([...namedOf('exp_avg', expAvg), ...namedOf('exp_avg_sq', expAvgSq), ['step', step]]);
  }
}
