export { type ClassFigures, classFigures, classNames, frequentConfusions } from './class-figures.js';
export { type EnsembleScores, LayerEnsemble } from './ensemble.js';
export { MetricError } from './errors.js';
export {
  type Accuracy,
  collectOutputs,
  type EvaluationResult,
  predictAll,
  scoreLogits,
  scoreRanking,
} from './evaluate.js';
export { filterImportance } from './filter-importance.js';
export {
  fitOneVersusRest,
  LogisticRegressionError,
  OneVersusRest,
  type OneVersusRestFit,
  type OneVersusRestOptions,
} from './logistic-regression.js';
export {
  confusionMatrix,
  MOST_CONFUSED_CLASSES,
  perClassAccuracy,
  recordedConfusions,
  topKCorrect,
} from './metrics.js';
export { type LabelledFeatures, type LinearSeparability, linearSeparability } from './separability.js';
