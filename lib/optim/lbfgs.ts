import { keep, scope, Tensor } from '../tensor/index.js';
import { OptimizerError, optionsOf } from './errors.js';

/**
 * A differentiable function of float64 vectors: its value at `point` [n], and its gradient, a float64 tensor of the
 * shape and on the device of `point`, which is copied. What the function makes besides is freed when it returns.
 */
export type Objective = (point: Tensor) => { readonly value: number; readonly gradient: Tensor };

/** How far and how `minimizeLbfgs` goes. It throws OptimizerError for a value out of range. */
export interface LbfgsOptions {
  /** Pairs of steps and gradient changes that stand for the Hessian. Default: 10. */
  readonly history?: number;
  /** Converged when no entry of the gradient is larger than this in absolute value. Default: 1e-5. */
  readonly tolerance?: number;
  /** Default: 1000. */
  readonly maxIterations?: number;
  /**
   * Multiplies a vector [n] by a symmetric positive definite matrix near the inverse Hessian, up to a factor that is
   * found from the steps. Default: the unit matrix. The better it is, the fewer the iterations.
   */
  readonly preconditioner?: (vector: Tensor) => Tensor;
}

/** Where `minimizeLbfgs` stopped, and why. */
export interface LbfgsResult {
  /** The last point, float64 [n]. It belongs to the caller. */
  readonly minimizer: Tensor;
  readonly value: number;
  /** The largest absolute entry of the gradient. */
  readonly gradientNorm: number;
  readonly iterations: number;
  /** Calls of the objective. */
  readonly evaluations: number;
  /** `line-search`: no acceptable step was found, as when rounding allows no further descent. */
  readonly stopped: 'converged' | 'max-iterations' | 'line-search';
}

/**
 * Minimises a smooth function from `start` (float64 [n], any device, left as it is) by limited-memory BFGS (Nocedal and
 * Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5) with the line search of Hager and Zhang
 * (Algorithm 851: CG_DESCENT, ACM TOMS 32, 2006, section 3), whose approximate Wolfe conditions still tell steps apart
 * where the differences between values are lost in rounding. A step to where the function is infinite or NaN is
 * shortened.
 *
 * Throws OptimizerError for options out of range, for a gradient of another kind than `start`, and with the code
 * OBJECTIVE_NOT_FINITE when the function is not finite at `start`, or at any step from some point, however short.
 */
export function minimizeLbfgs(objective: Objective, start: Tensor, options: LbfgsOptions = {}): LbfgsResult {
  const {
    history = 10,
    tolerance = 1e-5,
    maxIterations = 1000,
    preconditioner,
  } = optionsOf('minimizeLbfgs', options, ['history', 'tolerance', 'maxIterations', 'preconditioner']);
  checkOptions(history, tolerance, maxIterations);
  checkStart(start);
  let evaluations = 0;
  const evaluate = (point: Tensor): Evaluated => {
    evaluations++;
    return { point, ...scope(() => copyOf(objective(point), point)) };
  };
  // What an inner scope returns belongs to this one, so that a throw frees it.
  return scope(() => {
    let current = evaluate(start.detach().clone());
    let gradientNorm = largestEntry(current.gradient);
    if (!Number.isFinite(current.value) || !Number.isFinite(gradientNorm)) {
      throw notFinite(`got the value ${current.value} and the gradient norm ${gradientNorm} at the start`);
    }
    const pairs: Pair[] = [];
    let iterations = 0;
    let stopped: LbfgsResult['stopped'] = 'converged';
    while (gradientNorm > tolerance) {
      if (iterations === maxIterations) {
        stopped = 'max-iterations';
        break;
      }
      let step = scope(() => takeStep(current, pairs, preconditioner, evaluate));
      if (step === null && pairs.length > 0) {
        // The remembered pairs may be what leads nowhere.
        for (const pair of pairs.splice(0)) forget(pair);
        step = scope(() => takeStep(current, pairs, preconditioner, evaluate));
      }
      if (step === null) {
        stopped = 'line-search';
        break;
      }
      if (step.pair !== null) pairs.push(step.pair);
      if (pairs.length > history) forget(pairs.shift()!);
      current.point.dispose();
      current.gradient.dispose();
      current = step.next;
      gradientNorm = largestEntry(current.gradient);
      iterations++;
    }
    return {
      minimizer: keep(current.point),
      value: current.value,
      gradientNorm,
      iterations,
      evaluations,
      stopped,
    };
  });
}

/** A point with what the objective gave there. */
interface Evaluated {
  readonly point: Tensor;
  readonly value: number;
  readonly gradient: Tensor;
}

/** A step s, the change y of the gradient over it, and 1 / (s . y). */
interface Pair {
  readonly step: Tensor;
  readonly change: Tensor;
  readonly rho: number;
}

function takeStep(
  current: Evaluated,
  pairs: readonly Pair[],
  preconditioner: LbfgsOptions['preconditioner'],
  evaluate: (point: Tensor) => Evaluated,
): { next: Evaluated; pair: Pair | null } | null {
  const direction = descentDirection(current.gradient, pairs, preconditioner);
  const slope = dot(current.gradient, direction).item();
  if (!(slope < 0 && Number.isFinite(slope))) return null;
  const search = new LineSearch(current.value, slope, (length) => {
    const { point, value, gradient } = evaluate(current.point.add(direction, { alpha: length }));
    return { length, point, value, gradient, slope: dot(gradient, direction).item() };
  });
  // Without a Hessian's scale in the direction, the first trial is a step of length 1.
  const isScaled = pairs.length > 0 || preconditioner !== undefined;
  const trial = search.find(isScaled ? 1 : 1 / Math.sqrt(-slope));
  if (trial === null) return null;
  // s . y, positive by the Wolfe conditions but for rounding.
  const curvature = trial.length * (trial.slope - slope);
  const next = { point: trial.point, value: trial.value, gradient: trial.gradient };
  if (!(curvature > 0 && Number.isFinite(1 / curvature))) return { next, pair: null };
  return {
    next,
    pair: {
      step: direction.mul(trial.length),
      change: trial.gradient.sub(current.gradient),
      rho: 1 / curvature,
    },
  };
}

function forget(pair: Pair): void {
  pair.step.dispose();
  pair.change.dispose();
}

/** -H g by the two-loop recursion (Nocedal and Wright, algorithm 7.4). Nothing is read from the device. */
function descentDirection(
  gradient: Tensor,
  pairs: readonly Pair[],
  preconditioner: (vector: Tensor) => Tensor = (vector) => vector,
): Tensor {
  let direction = gradient.neg();
  const alphas: Tensor[] = [];
  for (const { step, change, rho } of pairs.toReversed()) {
    const alpha = dot(step, direction).mul(rho);
    direction.add_(change.mul(alpha), { alpha: -1 });
    alphas.push(alpha);
  }
  direction = preconditioner(direction);
  const newest = pairs.at(-1);
  if (newest !== undefined) {
    // The factor s . y / (y . P y), equation 7.20 with a preconditioner P.
    const { change, rho } = newest;
    direction = direction.div(dot(change, preconditioner(change)).mul(rho));
  }
  for (const { step, change, rho } of pairs) {
    const beta = dot(change, direction).mul(rho);
    direction = direction.add(step.mul(alphas.pop()!.sub(beta)));
  }
  return direction;
}

/** A point on the line: `length` times the direction from the current point, with the directional derivative there. */
interface Trial extends Evaluated {
  readonly length: number;
  readonly slope: number;
}

/** An end of an interval on the line; 0 stands for the current point. */
type End = Pick<Trial, 'length' | 'value' | 'slope'>;

// The constants of Hager and Zhang. Theirs for the error of values is 1e-6; float64 sums are known much better.
const DECREASE = 0.1;
const CURVATURE = 0.9;
const VALUE_ERROR = 1e-10;
const EXPANSION = 5;
const SHRINKAGE = 2 / 3;
const MAX_TRIALS = 60;

/**
 * The line search of Hager and Zhang (2006, section 3), with their names for its parts. It ends at the first trial that
 * satisfies the Wolfe conditions (T1) or the approximate ones (T2).
 */
class LineSearch {
  readonly #origin: End;
  readonly #evaluate: (length: number) => Trial;
  /** Values above this are too high for a left end. */
  readonly #ceiling: number;
  #accepted: Trial | null = null;
  #trials = 0;
  #seenFinite = false;

  constructor(value: number, slope: number, evaluate: (length: number) => Trial) {
    this.#origin = { length: 0, value, slope };
    this.#evaluate = evaluate;
    this.#ceiling = value + VALUE_ERROR * Math.abs(value);
  }

  /** The accepted trial, or null when there is none. `first` is the length that is tried first. */
  find(first: number): Trial | null {
    let [a, b] = this.#bracket(first);
    while (!this.#isOver && b.length > a.length) {
      let [low, high] = this.#doubleSecant(a, b);
      if (!this.#isOver && high.length - low.length > SHRINKAGE * (b.length - a.length)) {
        [low, high] = this.#update(low, high, (low.length + high.length) / 2);
      }
      if (low.length === a.length && high.length === b.length) break;
      [a, b] = [low, high];
    }
    if (this.#accepted === null && !this.#seenFinite) {
      throw notFinite(`got infinities or NaN at all of ${this.#trials} steps from where it is ${this.#origin.value}`);
    }
    return this.#accepted;
  }

  get #isOver(): boolean {
    return this.#accepted !== null || this.#trials >= MAX_TRIALS;
  }

  #try(length: number): End {
    this.#trials++;
    const trial = this.#evaluate(length);
    if (Number.isFinite(trial.value) && Number.isFinite(trial.slope)) this.#seenFinite = true;
    if (this.#isAcceptable(trial)) this.#accepted = trial;
    return trial;
  }

  #isAcceptable({ length, value, slope }: End): boolean {
    const origin = this.#origin;
    if (!(slope >= CURVATURE * origin.slope)) return false;
    if (value <= origin.value + DECREASE * length * origin.slope) return true;
    return slope <= (2 * DECREASE - 1) * origin.slope && value <= this.#ceiling;
  }

  #isRising = ({ value, slope }: End): boolean => Number.isFinite(value) && slope >= 0;
  #isLow = ({ value, slope }: End): boolean => slope < 0 && value <= this.#ceiling;

  #bracket(first: number): [End, End] {
    let a = this.#origin;
    let c = this.#try(first);
    while (!this.#isOver && this.#isLow(c)) {
      a = c;
      c = this.#try(EXPANSION * c.length);
    }
    return this.#isRising(c) ? [a, c] : this.#bisect(a, c);
  }

  /** Narrows [a, b], where b is too high or not finite, to an interval whose right end rises (U3). */
  #bisect(a: End, b: End): [End, End] {
    while (!this.#isOver) {
      const middle = (a.length + b.length) / 2;
      const c = this.#try(middle);
      if (this.#isRising(c)) return [a, c];
      if (this.#isLow(c)) a = c;
      else b = c;
    }
    return [a, b];
  }

  #update(a: End, b: End, length: number): [End, End] {
    if (!(length > a.length && length < b.length)) return [a, b];
    const c = this.#try(length);
    if (this.#isRising(c)) return [a, c];
    if (this.#isLow(c)) return [c, b];
    return this.#bisect(a, c);
  }

  #doubleSecant(a: End, b: End): [End, End] {
    const c = secant(a, b);
    const [low, high] = this.#update(a, b, c);
    if (this.#isOver) return [low, high];
    if (c === high.length) return this.#update(low, high, secant(b, high));
    if (c === low.length) return this.#update(low, high, secant(a, low));
    return [low, high];
  }
}

const secant = (a: End, b: End): number => (a.length * b.slope - b.length * a.slope) / (b.slope - a.slope);

const dot = (a: Tensor, b: Tensor): Tensor => a.matmul(b);
const largestEntry = (vector: Tensor): number => scope(() => vector.abs().amax().item());

const notFinite = (problem: string): OptimizerError =>
  new OptimizerError(`minimizeLbfgs: expected a finite objective, ${problem}`, 'OBJECTIVE_NOT_FINITE');

function copyOf({ value, gradient }: ReturnType<Objective>, point: Tensor): { value: number; gradient: Tensor } {
  if (typeof value !== 'number') {
    throw new OptimizerError(`minimizeLbfgs: expected a number for the objective's value, got ${typeof value}`);
  }
  const isFit =
    gradient instanceof Tensor &&
    gradient.dtype === 'float64' &&
    gradient.device === point.device &&
    gradient.dim === 1 &&
    gradient.numel === point.numel;
  if (!isFit) {
    throw new OptimizerError(`minimizeLbfgs: expected ${point} for the objective's gradient, got ${gradient}`);
  }
  return { value, gradient: gradient.detach().clone() };
}

function checkStart(start: Tensor): void {
  if (!(start instanceof Tensor) || start.dtype !== 'float64' || start.dim !== 1 || start.numel === 0) {
    throw new OptimizerError(`minimizeLbfgs: expected a float64 tensor [n] with n above 0 for start, got ${start}`);
  }
}

function checkOptions(history: number, tolerance: number, maxIterations: number): void {
  if (!(Number.isInteger(history) && history >= 1)) {
    throw new OptimizerError(`minimizeLbfgs: expected an integer of at least 1 for history, got ${history}`);
  }
  if (!(tolerance >= 0 && Number.isFinite(tolerance))) {
    throw new OptimizerError(`minimizeLbfgs: expected a number of at least 0 for tolerance, got ${tolerance}`);
  }
  if (!(Number.isInteger(maxIterations) && maxIterations >= 0)) {
    throw new OptimizerError(
      `minimizeLbfgs: expected an integer of at least 0 for maxIterations, got ${maxIterations}`,
    );
  }
}
