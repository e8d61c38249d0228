// What all optimisers have, and what they check alike.
import { types } from 'node:util';
import { clearGradients, keep, scope, Tensor } from '../tensor/index.js';
import { OptimizerError, optionsOf, requireNumber } from './errors.js';

/** What an optimiser has learned of its parameters, for checkpoints. */
export interface OptimizerState {
  /**
   * The optimiser's own tensors by name, not copies. Of Sgd with momentum: `momentum.0` for the first parameter, and so on, and with dampening `started`. Of
   * AdamW: `exp_avg.0` and `exp_avg_sq.0`, and so on, and `step`. Of Muon: `momentum.0` and so on, matrices first, then what SGD steps.
   */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** Whether there has been no step yet, since the beginning or since `reset`. */
  readonly isFirstStep: boolean;
}

/** What updates parameters by their gradients. */
export interface Optimizer {
  readonly parameters: readonly Tensor[];
  /** May be changed between steps. Throws OptimizerError for a rate that is negative or not finite. */
  learningRate: number;
  /** Updates every parameter by its gradient; one without a gradient stays. */
  step(): void;
  /** Forgets the gradients. */
  zeroGrad(): void;
  /** Starts again from nothing, as a new optimiser would; the learning rate stays. */
  reset(): void;
  readonly state: OptimizerState;
  /** Goes on from a saved state. Throws OptimizerError, before anything is changed, for a state of other parameters. */
  restore(state: OptimizerState): void;
  /** Frees the tensors of the state. */
  dispose(): void;
}

/** The base of all optimisers: all but the update and the tensors of the state. */
export abstract class BaseOptimizer implements Optimizer {
  readonly parameters: readonly Tensor[];
  protected isFirstStep = true;
  readonly #name: string;
  #learningRate: number;

  /** `name`: of the class, for errors. */
  constructor(name: string, parameters: readonly Tensor[], learningRate: number) {
    requireParameters(name, parameters);
    this.#name = name;
    this.parameters = parameters;
    this.#learningRate = learningRate;
  }

  get learningRate(): number {
    return this.#learningRate;
  }

  set learningRate(learningRate: number) {
    requireNotNegative(this.#name, 'learningRate', learningRate);
    this.#learningRate = learningRate;
  }

  abstract step(): void;

  zeroGrad(): void {
    clearGradients(this.parameters);
  }

  reset(): void {
    for (const tensor of this.tensors().values()) tensor.fill_(0);
    this.isFirstStep = true;
  }

  /** Those of the state, by name. */
  protected abstract tensors(): ReadonlyMap<string, Tensor>;

  get state(): OptimizerState {
    return { tensors: this.tensors(), isFirstStep: this.isFirstStep };
  }

  restore(state: OptimizerState): void {
    this.isFirstStep = restoreInto(this.#name, this.tensors(), state);
  }

  dispose(): void {
    for (const tensor of this.tensors().values()) tensor.dispose();
  }
}

/** Throws OptimizerError for a number that is negative or not finite. */
export const requireNotNegative = (user: string, name: string, value: number): void =>
  requireNumber(user, name, value, 'a number of at least 0', (number) => number >= 0);

/** Throws OptimizerError for parameters that are no tensors, or the same twice, which would be stepped twice. */
function requireParameters(user: string, parameters: readonly Tensor[]): void {
  if (!Array.isArray(parameters)) {
    throw new OptimizerError(`${user}: expected an array of tensors for parameters, got ${String(parameters)}`);
  }
  parameters.forEach((tensor: unknown, i) => {
    requireTensor(user, `parameters[${i}]`, tensor);
  });
  const again = parameters.findIndex((parameter, i) => parameters.indexOf(parameter) < i);
  if (again < 0) return;
  throw new OptimizerError(
    `${user}: expected each tensor once for parameters, got that of [${parameters.indexOf(parameters[again]!)}] again at [${again}]`,
  );
}

function requireTensor(user: string, name: string, tensor: unknown): asserts tensor is Tensor {
  if (tensor instanceof Tensor) return;
  throw new OptimizerError(`${user}: expected a tensor for ${name}, got ${String(tensor)}`);
}

/** Zeros for each parameter, kept. A clone has the memory layout of the parameter, which the fused steps need. */
export const zerosLike = (parameters: readonly Tensor[]): Tensor[] =>
  parameters.map((parameter) => scope(() => keep(parameter.detach().clone().fill_(0))));

/** Tensors, one a parameter, by the names that a state has for them. */
export const namedOf = (name: string, tensors: readonly Tensor[]): [string, Tensor][] =>
  tensors.map((tensor, i) => [`${name}.${i}`, tensor]);

/** Copies a saved state into an optimiser's own tensors; gives its `isFirstStep`. */
function restoreInto(user: string, own: ReadonlyMap<string, Tensor>, state: OptimizerState): boolean {
  const { tensors, isFirstStep } = optionsOf(`${user}.restore`, state, ['tensors', 'isFirstStep']);
  // Also a Map of another context, as a test runner gives its files.
  if (!types.isMap(tensors)) {
    throw new OptimizerError(`${user}: expected a Map of tensors by name for tensors, got ${String(tensors)}`);
  }
  for (const name of tensors.keys()) {
    if (own.has(name)) continue;
    throw new OptimizerError(`${user}: expected ${[...own.keys()].join(', ') || 'no tensors'}, got ${name}`);
  }
  for (const [name, { shape }] of own) {
    const tensor: unknown = tensors.get(name);
    requireTensor(user, name, tensor);
    // Another shape would be broadcast.
    if (tensor.shape.join() !== shape.join()) {
      throw new OptimizerError(`${user}: expected [${shape.join(', ')}] for ${name}, got [${tensor.shape.join(', ')}]`);
    }
  }
  if (typeof isFirstStep !== 'boolean') {
    throw new OptimizerError(`${user}: expected a boolean for isFirstStep, got ${String(isFirstStep)}`);
  }
  for (const [name, tensor] of own) tensor.copy_(tensors.get(name)!);
  return isFirstStep;
}
