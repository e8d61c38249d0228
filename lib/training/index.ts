export { NonFiniteLossError, OutOfMemoryError, TrainingInterrupted } from './errors.js';
export type { StepProgress, TestedEpoch, TrainingEvent } from './events.js';
export type { ImageRate } from './image-rate.js';
export type { LayerPlan, RunPlan } from './plan.js';
export { type PlannedRecipe, type PlanRecipeOptions, planRecipe } from './plan-recipe.js';
export type { ResumeOptions, RunOptions, TrainingOutcome, TrainOptions } from './run-options.js';
export type { StartFrom } from './start-from.js';
export type { LayerTime } from './step-times.js';
export { resume, train } from './train.js';
