export { type AccuracyByDepthOptions, accuracyByDepthChart, type LayerAccuracy } from './accuracy-by-depth-chart.js';
export { ChartError, type ChartOptions } from './chart-parts.js';
export { chartStyles } from './chart-styles.js';
export {
  type DepthPanel,
  type DepthPoint,
  type DepthSeries,
  type DepthSeriesOptions,
  depthSeriesChart,
} from './depth-series-chart.js';
export { type LearningCurvesOptions, learningCurvesChart } from './learning-curves-chart.js';
export { pageStyles } from './page-styles.js';
export { renderReport, writeReport } from './report.js';
export { type LayerSummary, summariseRun, textAt } from './run-summary.js';
