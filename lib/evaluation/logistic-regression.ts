import { LayerwiseError } from '../errors.js';
import { type LbfgsResult, minimizeLbfgs } from '../optim/index.js';
import { requireOptions } from '../options.js';
import { arange, cat, keep, noGrad, scope, Tensor, zeros } from '../tensor/index.js';

/** Options of `fitOneVersusRest`. */
export interface OneVersusRestOptions {
  /** Labels are 0 ... classes - 1. */
  readonly classes: number;
  /**
   * The L2 penalty on the weights of each class, in units of the standardised features; default: 1 / n, which is the
   * C = 1 of scikit-learn's LogisticRegression behind its StandardScaler.
   */
  readonly l2?: number;
  /** Converged when no entry of the gradient is larger than this in absolute value; default: 1e-6. */
  readonly tolerance?: number;
  /** Default: 1000. */
  readonly maxIterations?: number;
}

/** How the fit ended. */
export interface OneVersusRestFit extends Omit<LbfgsResult, 'minimizer' | 'value'> {
  readonly converged: boolean;
  /** The sum of the classes' objectives. */
  readonly objective: number;
}

/** Features, labels or options that no logistic regression can be fitted to: which, what was expected, what came. */
export class LogisticRegressionError extends LayerwiseError {
  override readonly name = 'LogisticRegressionError';
  readonly code = 'INVALID_ARGUMENT';
}

/** One linear classifier a class, in the units of the features. */
export class OneVersusRest {
  constructor(
    /** float64 [classes, d]. */
    readonly weights: Tensor,
    /** float64 [classes]. */
    readonly intercepts: Tensor,
    readonly fit: OneVersusRestFit,
  ) {}

  /**
   * The log-odds of each class against the rest, float64 [m, classes], of features [m, d] of any floating-point dtype
   * on the device of the fit. Larger is likelier. Throws LogisticRegressionError for another shape, dtype or device.
   */
  scores(features: Tensor): Tensor {
    const { weights, intercepts } = this;
    checkFeatures(features, 'scores');
    if (features.shape[1] !== weights.shape[1] || features.device !== weights.device) {
      const expected = `[m, ${weights.shape[1]}] on ${weights.device}`;
      throw new LogisticRegressionError(`scores: expected ${expected} for features, got ${features}`);
    }
    return scope(() => noGrad(() => features.to({ dtype: 'float64' }).linear(weights, intercepts)));
  }

  /** Frees the weights. */
  dispose(): void {
    this.weights.dispose();
    this.intercepts.dispose();
  }

  /** As `dispose`, at the end of a `using` declaration. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Fits one logistic regression a class, its examples against all others, to features [n, d] of any floating-point dtype
 * and labels int64 [n] on the same device. The objective of class c with weights w and intercept b is
 *
 *     mean_i softplus(-s_i (w . x_i + b)) + l2 / 2 |w|^2,   s_i = 1 where label i is c, else -1,
 *
 * where x_i is standardised, each feature by its mean and (population) standard deviation over these examples. So the
 * penalty, and with it the result, is the same in whatever units the features come; the intercept is not penalised. A
 * feature that is the same in all examples gets the weight 0. All is computed in float64.
 *
 * The problems are solved together, by L-BFGS on the sum of their objectives until no entry of its gradient, and so of
 * any class's, exceeds the tolerance; it is preconditioned by the Hessian at the start. That costs the memory of one
 * float64 copy of the features and of a few matrices of [d, d] and of [n, classes].
 *
 * Throws LogisticRegressionError for features that are not finite, for labels out of range and for a class without
 * examples, whose intercept would go to minus infinity. Throws OptimizerError for a bad tolerance or
 * maxIterations. A fit that does not converge is no error: `fit` says so.
 */
export function fitOneVersusRest(features: Tensor, labels: Tensor, options: OneVersusRestOptions): OneVersusRest {
  const refuse = (problem: string): Error => new LogisticRegressionError(`fitOneVersusRest: ${problem}`);
  requireOptions(options, 'options', refuse, ['classes', 'l2', 'tolerance', 'maxIterations']);
  checkFeatures(features, 'fitOneVersusRest');
  const [n, d] = features.shape as [number, number];
  const { classes, l2 = 1 / n, tolerance = 1e-6, maxIterations = 1000 } = options;
  checkLabels(labels, features, classes);
  if (!(l2 > 0 && Number.isFinite(l2))) {
    throw new LogisticRegressionError(`fitOneVersusRest: expected a number above 0 for l2, got ${String(l2)}`);
  }
  return scope(() =>
    noGrad(() => {
      const signs = signsOf(labels, classes);
      const { x, mean, inverseScale } = standardize(features.detach());
      const { start, shares } = startOf(signs, d);
      const preconditioner = inverseHessian(x, shares, l2);
      const { minimizer, value, ...fit } = minimizeLbfgs(jointObjective(x, signs, l2), start, {
        tolerance,
        maxIterations,
        preconditioner,
      });
      try {
        const parameters = split(minimizer, classes, d);
        // w . (x - mean) * inverseScale + b in the features' own units.
        const weights = parameters.weights.mul(inverseScale);
        const intercepts = parameters.intercepts.sub(weights.matmul(mean));
        return new OneVersusRest(keep(weights), keep(intercepts), {
          ...fit,
          converged: fit.stopped === 'converged',
          objective: value,
        });
      } finally {
        minimizer.dispose();
      }
    }),
  );
}

/** The sum over the classes of their objectives, as a function of all weights, class by class, and then the intercepts. */
function jointObjective(x: Tensor, signs: Tensor, l2: number): (point: Tensor) => { value: number; gradient: Tensor } {
  const [n, d] = x.shape as [number, number];
  const classes = signs.shape[1]!;
  return (point) => {
    const { weights, intercepts } = split(point, classes, d);
    const margins = x.linear(weights, intercepts).mul_(signs);
    const loss = margins
      .logSigmoid()
      .sum()
      .mul(-1 / n);
    const penalty = weights
      .mul(weights)
      .sum()
      .mul(l2 / 2);
    // d softplus(-m) / dm = -sigmoid(-m).
    const slopes = margins
      .mul_(-1)
      .sigmoid()
      .mul_(signs)
      .mul_(-1 / n);
    const byWeights = slopes.transpose(0, 1).matmul(x).add_(weights, { alpha: l2 });
    return {
      value: loss.add(penalty).item(),
      gradient: cat([byWeights.flatten(), slopes.sum({ dims: [0] })]),
    };
  };
}

/** Weights of 0 and the intercepts that are best with them, the log-odds of the classes' shares of the examples. */
function startOf(signs: Tensor, d: number): { start: Tensor; shares: Tensor } {
  const shares = signs
    .mean({ dims: [0] })
    .add(1)
    .mul(0.5);
  const intercepts = shares.log().sub(shares.neg().add(1).log());
  return { start: cat([zeros([shares.numel * d], { dtype: 'float64', device: signs.device }), intercepts]), shares };
}

/**
 * Multiplies by the inverse of the Hessian at the start: for a class with the share p of the examples it is
 * p (1 - p) x^T x / n + l2 for the weights, taken with the mean of p (1 - p) over the classes to be factored once, and
 * p (1 - p) for the intercept. Features of networks are so correlated that without it hundreds of iterations are needed.
 */
function inverseHessian(x: Tensor, shares: Tensor, l2: number): (vector: Tensor) => Tensor {
  const [n, d] = x.shape as [number, number];
  const curvatures = shares.mul(shares.neg().add(1));
  const curvature = curvatures.mean().item();
  const factor = scope(() => {
    const unit = arange(d, { device: x.device });
    const ridge = unit.unsqueeze(0).eq(unit.unsqueeze(1)).to({ dtype: 'float64' }).mul_(Math.max(l2, LEAST_RIDGE));
    const gram = x.transpose(0, 1).matmul(x);
    return ridge.add_(gram, { alpha: curvature / n }).cholesky();
  });
  return (vector) => {
    const { weights, intercepts } = split(vector, shares.numel, d);
    const solved = weights.transpose(0, 1).choleskySolve(factor).transpose(0, 1);
    return cat([solved.reshape([-1]), intercepts.div(curvatures)]);
  };
}

/** Keeps the factored matrix, whose mean diagonal is at most 1/4, positive definite in spite of rounding. */
const LEAST_RIDGE = 1e-8;

function split(point: Tensor, classes: number, d: number): { weights: Tensor; intercepts: Tensor } {
  return {
    weights: point.narrow(0, 0, classes * d).reshape([classes, d]),
    intercepts: point.narrow(0, classes * d, classes),
  };
}

/** Rows that are squared at a time, so that there is no second copy of the features. */
const ROWS = 8192;

/** The standard deviation of a constant feature is rounding of its mean: up to a few units in the last place of it. */
const CONSTANT = 64 * Number.EPSILON;

/**
 * x = (features - mean) * inverseScale, of mean 0 and standard deviation 1, or all 0 where a feature is constant. Throws
 * LogisticRegressionError for features that are not finite.
 */
function standardize(features: Tensor): { x: Tensor; mean: Tensor; inverseScale: Tensor } {
  const [n, d] = features.shape as [number, number];
  const mean = features.mean({ dims: [0], dtype: 'float64' });
  const x = features.sub(mean);
  const squares = zerosLike(mean);
  for (let start = 0; start < n; start += ROWS) {
    scope(() => {
      const rows = x.narrow(0, start, Math.min(ROWS, n - start));
      squares.add_(rows.mul(rows).sum({ dims: [0] }));
    });
  }
  const deviation = squares.div(n).sqrt();
  const finite = deviation.isfinite().sum().item();
  if (finite < d) {
    throw new LogisticRegressionError(
      `fitOneVersusRest: expected finite features, got infinities, NaN or numbers too large in ${d - finite} of ${d} columns`,
    );
  }
  const isConstant = deviation.sub(mean.abs(), { alpha: CONSTANT }).gt(0).eq(0);
  const inverseScale = isConstant.where(zerosLike(deviation), deviation.pow(-1));
  return { x: x.mul_(inverseScale), mean, inverseScale };
}

const zerosLike = (like: Tensor): Tensor => zeros(like.shape, { dtype: like.dtype, device: like.device });

/** float64 [n, classes]: 1 where the label of an example is the class, else -1. */
function signsOf(labels: Tensor, classes: number): Tensor {
  const isClass = labels.unsqueeze(1).eq(arange(classes, { device: labels.device }));
  const counts = isClass.sum({ dims: [0] }).toArray() as number[];
  const missing = counts.indexOf(0);
  if (missing >= 0) {
    throw new LogisticRegressionError(
      `fitOneVersusRest: expected examples of each of ${classes} classes for labels, got none of class ${missing}`,
    );
  }
  return isClass.to({ dtype: 'float64' }).mul_(2).add_(-1);
}

const FLOATS: readonly string[] = ['float16', 'bfloat16', 'float32', 'float64'];

function checkFeatures(features: Tensor, caller: string): void {
  const isMatrix = features instanceof Tensor && features.dim === 2 && FLOATS.includes(features.dtype);
  if (isMatrix && features.shape[1]! > 0) return;
  throw new LogisticRegressionError(
    `${caller}: expected a floating-point tensor [n, d] with d above 0 for features, got ${String(features)}`,
  );
}

function checkLabels(labels: Tensor, features: Tensor, classes: number): void {
  if (!(Number.isInteger(classes) && classes >= 2)) {
    throw new LogisticRegressionError(
      `fitOneVersusRest: expected an integer of at least 2 for classes, got ${String(classes)}`,
    );
  }
  const isFit =
    labels instanceof Tensor &&
    labels.dtype === 'int64' &&
    labels.dim === 1 &&
    labels.numel === features.shape[0] &&
    labels.device === features.device;
  if (!isFit || labels.numel === 0) {
    throw new LogisticRegressionError(
      'fitOneVersusRest: expected int64 labels [n], n above 0, on the device of the features, ' +
        `got ${String(labels)} for ${features}`,
    );
  }
  scope(() => {
    const [least, most] = [-labels.neg().amax().item(), labels.amax().item()];
    if (least >= 0 && most < classes) return;
    throw new LogisticRegressionError(
      `fitOneVersusRest: expected 0 to ${classes - 1} for labels, got ${least < 0 ? least : most}`,
    );
  });
}
