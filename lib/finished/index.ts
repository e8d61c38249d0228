export {
  type AnsweredBy,
  type Classified,
  type ClassPrediction,
  chosenExit,
  classify,
  classifyByLayer,
  predictionsOf,
  requireAnswer,
} from './classify.js';
export type { Climb } from './climb.js';
export { type CompressionOutcome, type CompressOptions, compressRun } from './compress.js';
export type { EarlyExit } from './early-exit.js';
export { type EarlyExitOptions, evaluateEarlyExit } from './evaluate-early-exit.js';
export { completeRun, type Finished, finishRun } from './finish-run.js';
export { fileShapeOf, type ImageReading, imageReadingOf, imageShapeOf } from './image-shape.js';
export { type ImportOptions, type ImportOutcome, importWeights, WeightsError } from './import-weights.js';
export { type ProbeOptions, probeLayer } from './probe.js';
export { type LayerSelection, type OpenOptions, type RunEvaluation, TrainedRun } from './trained-run.js';
