export { BadImageLog } from './bad-image-log.js';
export {
  type CheckpointLimits,
  type CheckpointState,
  CheckpointStore,
  type MeterState,
  type Position,
} from './checkpoint.js';
export { checkData, describeClasses, describeTestChanges } from './data-check.js';
export { RunDirectoryError, RunRecordError, type RunRecordErrorCode } from './errors.js';
export { loadNetwork, saveNetwork } from './network-files.js';
export { runThatOwns } from './own-files.js';
export { readRunRecord } from './read-record.js';
export {
  type EpochRecord,
  type Figures,
  type LayerResult,
  NO_FIGURES,
  type RecordedRecipe,
  type RecordedValue,
  type RunConfig,
  type RunRecord,
  type RunResult,
} from './record.js';
export { describeDevice, describeRun, recipeOfRun, recordedNetwork, recordedRecipe } from './run-config.js';
export { datasetOptions, loadRecipeDataset, loadRunData } from './run-data.js';
export { RunDirectory } from './run-directory.js';
export { describeUnfitValues } from './weight-values.js';
