export { type CompressionOutcome, type CompressOptions, compressRun } from './compress.js';
export { completeRun, type Finished, finishRun } from './finish-run.js';
export { type ImportOptions, type ImportOutcome, importWeights, WeightsError } from './import-weights.js';
export { type ProbeOptions, probeLayer } from './probe.js';
export { type LayerSelection, type RunEvaluation, TrainedRun } from './trained-run.js';
