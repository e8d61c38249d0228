export type { CacheBudget, CachePlace } from './cache-plan.js';
export { type CompressionOutcome, type CompressOptions, compressRun } from './compress.js';
export {
  FeatureCacheError,
  NonFiniteLossError,
  OutOfMemoryError,
  RecipeError,
  RunDirectoryError,
  TrainingInterrupted,
} from './errors.js';
export type { EpochRecord, StepProgress, TrainingEvent } from './events.js';
export { type ImportOptions, type ImportOutcome, importWeights, WeightsError } from './import-weights.js';
export type { LayerPlan, RunPlan } from './plan.js';
export { type PlannedRecipe, type PlanRecipeOptions, planRecipe } from './plan-recipe.js';
export { type DatasetName, presetNames, presetRecipe } from './presets.js';
export { type ProbeOptions, probeLayer } from './probe.js';
export { overrideRecipe, parseRecipe, type Recipe } from './recipe.js';
export { recipeOfRun } from './run-config.js';
export type { ResumeOptions, RunOptions, TrainingOutcome, TrainOptions } from './run-options.js';
export { endToEndStages, headStage, layerwiseStages, type Stage } from './stage.js';
export type { StartFrom } from './start-from.js';
export type { LayerTime } from './step-times.js';
export { resume, train } from './train.js';
export { type LayerSelection, type RunEvaluation, TrainedRun } from './trained-run.js';
