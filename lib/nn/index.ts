export { GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh } from './activations.js';
export { Conv2d } from './conv2d.js';
export { InvertibleDownsampling, invertibleDownsample, invertibleUpsample } from './downsampling.js';
export { Dropout, Dropout2d, drawFrom } from './dropout.js';
export { ModuleError, SafetensorsError, StateDictError, type StateDictMismatch } from './errors.js';
export { inEvaluation, modulesIn } from './evaluation-mode.js';
export { isFixed, isSequential } from './fixed.js';
export { foldBatchNorm } from './folding.js';
export { type BlockRange, FrozenBlocks } from './frozen.js';
export { defaultInit, type Initializer, kaimingNormalFanOut, type LayerParameters, normalInit } from './init.js';
export type { Pair } from './layer-options.js';
export { Flatten, Identity, Linear } from './linear.js';
export { loadInto, Module, type Placement, type StateDict } from './module.js';
export { BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm } from './normalization.js';
export { AdaptiveAvgPool2d, AvgPool2d, MaxPool2d, type PoolingOptions } from './pooling.js';
export { Residual } from './residual.js';
export {
  checkSafetensors,
  readSafetensors,
  readSafetensorsHeader,
  type SafetensorsFile,
  type SafetensorsHeader,
  writeSafetensors,
} from './safetensors.js';
export { Scale } from './scale.js';
export { type ForwardFunction, forwardFunctions, Sequential } from './sequential.js';
export { Upsample } from './upsample.js';
export { Whitening } from './whitening.js';
