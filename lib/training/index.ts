export { type CompressionOutcome, type CompressOptions, compressRun } from './compress.js';
export { NonFiniteLossError, RecipeError, RunDirectoryError, TrainingInterrupted } from './errors.js';
export type { EpochRecord, StepProgress, TrainingEvent } from './events.js';
export { type DatasetName, type PresetOptions, presetNames, presetRecipe, type Schedule } from './presets.js';
export { overrideRecipe, parseRecipe, type Recipe } from './recipe.js';
export { endToEndStages, headStage, layerwiseStages, type Stage } from './stage.js';
export type { StartFrom } from './start-from.js';
export { type RunOptions, resume, type TrainingOutcome, type TrainOptions, train } from './train.js';
export { type LayerSelection, TrainedRun } from './trained-run.js';
