export {
  type AccuracyByDepthOptions,
  accuracyByDepthChart,
  type ChartOptions,
  chartStyles,
  type LayerAccuracy,
  type LearningCurvesOptions,
  learningCurvesChart,
} from './charts.js';
export { renderReport, writeReport } from './report.js';
export {
  type EpochMetrics,
  type LayerResult,
  type RecordedRecipe,
  type RecordedValue,
  type RunConfig,
  type RunRecord,
  RunRecordError,
  type RunRecordErrorCode,
  type RunResult,
  readRunRecord,
} from './run-record.js';
