export { BadImageLog } from './bad-image-log.js';
export {
  type CheckpointLimits,
  type CheckpointState,
  CheckpointStore,
  type MeterState,
  metersOf,
  type Position,
} from './checkpoint.js';
export {
  type DataBuilder,
  type DataRequest,
  isUrl,
  type LoadedCode,
  loadCode,
  OWN_CODE,
  type OwnCode,
  requireOwnCode,
} from './code-module.js';
export { checkData, describeClasses, describeTestChanges } from './data-check.js';
export { currentRecipe } from './earlier-names.js';
export { ModuleFileError, RunDirectoryError, RunRecordError, type RunRecordErrorCode } from './errors.js';
export { writeExported, writeForTorchvision } from './exported-network.js';
export { type FinishedNetwork, findNetwork } from './finished-network.js';
export { interruptedRuns, type UnfinishedRun } from './interrupted-runs.js';
export { saveNetwork } from './network-files.js';
export { runThatOwns } from './own-files.js';
export { RECORD_FILES, readRunRecord } from './read-record.js';
export {
  type EarlyExitFigures,
  type EarlyExitPoint,
  type EarlyExitRecord,
  type EpochRecord,
  type Figures,
  type LayerResult,
  type ModuleRecord,
  NO_FIGURES,
  type RecordedRecipe,
  type RecordedValue,
  type RunConfig,
  type RunRecord,
  type RunResult,
} from './record.js';
export { checkDecoder, decoderOfRun } from './recorded-decoder.js';
export { type CodeOfRun, loadCodeOfRun, recordedModules } from './recorded-modules.js';
export { describeDevice, describeRun, recipeOfRun, recordedNetwork, recordedRecipe } from './run-config.js';
export { datasetOptions, loadOwn, loadRecipeDataset, loadRunData, type OwnDataOptions } from './run-data.js';
export { RunDirectory } from './run-directory.js';
export { TemporaryFolder } from './temporary-folder.js';
export { describeUnfitValues } from './weight-values.js';
