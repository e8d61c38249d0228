export {
  buildModel,
  MODEL_NAMES,
  MODEL_PRESETS,
  type ModelOptions,
  type ModelPresetOf,
  modelSchema,
  modelTitle,
} from './catalogue.js';
export {
  type ModelContext,
  type ModelPreset,
  type NetworkRequest,
  SCHEDULES,
  type TrainingSchedule,
  trainsAllHeads,
} from './declaration.js';
export { ModelError } from './errors.js';
export { type Blocks, blockCount, groupLayers } from './grouped-layers.js';
export { type LayerMultiplyAdds, multiplyAddsOf, rehearseModules } from './multiply-adds.js';
export { disposeNetwork, drawNetworkFrom, joinStateDicts, type Network, placeNetwork } from './network.js';
export {
  type LayeredNetworkOptions,
  layeredNetwork,
  type NetworkBuilder,
  type OwnNetworkRequest,
  requireNetwork,
  requireTrainable,
  type TrainingRequest,
} from './own.js';
export { keepFilters } from './pruning.js';
export { type Downsampling, type LastHead, SimCnn, type SimCnnOptions } from './simcnn.js';
export {
  endToEndStages,
  headStage,
  type LocalProblem,
  layerwiseStages,
  localProblems,
  matricesAndOthers,
  parametersOf,
  type Stage,
  simultaneousStages,
  trainedModules,
  trainedParameters,
} from './stage.js';
export {
  pooledSizeOf,
  TORCHVISION_POOLED_SIZE,
  type TorchvisionWeights,
  torchvisionStateDict,
  unpooledClassifierWeight,
} from './torchvision.js';
export { VGG_NAMES, Vgg, type VggName, type VggOptions, vggLayerCount } from './vgg.js';
export { WhitenedVgg, type WhitenedVggOptions } from './whitened-vgg.js';
