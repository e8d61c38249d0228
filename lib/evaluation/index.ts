export { type EnsembleScores, LayerEnsemble } from './ensemble.js';
export { type Accuracy, type EvaluationResult, predictLogits, scoreLogits, scoreRanking } from './evaluate.js';
export {
  fitOneVersusRest,
  LogisticRegressionError,
  OneVersusRest,
  type OneVersusRestFit,
  type OneVersusRestOptions,
} from './logistic-regression.js';
export { topKCorrect } from './metrics.js';
export * from './report/index.js';
