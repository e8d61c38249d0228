export {
  anyNormalization,
  buildNetwork,
  buildStages,
  buildTransforms,
  decoderMirrors,
  imageBytesOf,
  inputDtypeOf,
  inputShapeOf,
  notesOf,
} from './build.js';
export { deviceOfRecord, resolveDevice } from './device.js';
export { RecipeError } from './errors.js';
export { buildLearningRates, buildOptimizer, changesWithinEpochs, type LearningRates } from './optimization.js';
export { frozenDtype, inPrecision, type Precision, resolvePrecision } from './precision.js';
export { type PresetOptions, presetNames, presetRecipe } from './presets.js';
export { overrideRecipe, parseRecipe, type Recipe, recipeSchema } from './recipe.js';
export { checkRecipe, forProcesses, requireGraphs, resolveRecipe, withCounts, withPolicy } from './resolve-recipe.js';
export { recordedThreads, requireThreads } from './threads.js';
