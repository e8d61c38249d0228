export type { Classification } from './call.js';
export { PredictorError, type PredictorErrorCode } from './errors.js';
export type { ImagePixels, InputVector, PredictorInput } from './image-input.js';
export type { PredictorOptions } from './options.js';
export { type ClassifyOptions, Predictor, type PredictorStatistics } from './predictor.js';
