export { InvertibleDownsampling, invertibleDownsample, invertibleUpsample } from './downsampling.js';
export { ModuleError, SafetensorsError, StateDictError, type StateDictMismatch } from './errors.js';
export { inEvaluation, modulesIn } from './evaluation-mode.js';
export { foldBatchNorm } from './folding.js';
export { FrozenBlocks } from './frozen.js';
export { defaultInit, type Initializer, kaimingNormalFanOut, type LayerParameters, normalInit } from './init.js';
export {
  AdaptiveAvgPool2d,
  AvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  drawFrom,
  Flatten,
  forwardSteps,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from './layers.js';
export { loadInto, Module, type Placement, type StateDict } from './module.js';
export { checkSafetensors, readSafetensors, type SafetensorsFile, writeSafetensors } from './safetensors.js';
