export { chain } from './chain.js';
export { channelsLast } from './channels-last.js';
export {
  type CollectiveFailure,
  type CollectiveOutcome,
  type GroupRequest,
  NativeGroup,
  packTensors,
  REDUCE_OPERATIONS,
  type ReduceOperation,
  unpackTensors,
} from './collectives.js';
export {
  arange,
  type CreationOptions,
  empty,
  full,
  onDevice,
  ones,
  type RandomOptions,
  rand,
  randn,
  tensor,
  zeros,
} from './creation.js';
export { CudaGraph } from './cuda-graph.js';
export {
  DECODED,
  type Decoding,
  type DecodingRequest,
  decodeImages,
  decodingThreads,
  findTurboJpeg,
  setDecodingThreads,
  type TurboJpeg,
} from './decoding.js';
export { type Device, isCuda } from './device.js';
export {
  type DType,
  elementSize,
  type GeluApproximation,
  type MemoryFormat,
  type Reduction,
  type TypedArray,
} from './dtype.js';
export { type TensorDescription, TensorError, type TensorErrorCode } from './errors.js';
export { cat, stack } from './generated/operators.js';
export { type MessageHandler, onLibTorchMessage } from './messages.js';
export { autocast, clearGradients, enableGrad, inferenceMode, isGradEnabled, noGrad } from './modes.js';
export type { BuildInfo, CudaMemoryStats, MemoryStats } from './native.js';
export {
  type AdamWMoments,
  type AdamWStep,
  adamwStep,
  type MuonStep,
  muonStep,
  type SgdStep,
  sgdStep,
  unscaleGradients,
} from './optimizers.js';
export { Generator, manualSeed } from './random.js';
export {
  buildInfo,
  canRehearse,
  cudaMemoryStats,
  exitImmediately,
  getThreads,
  measureAttempt,
  measurePeak,
  memoryStats,
  type Rehearsal,
  rehearse,
  releaseFreedMemory,
  setCudnnBenchmark,
  setThreads,
  synchronize,
} from './runtime.js';
export { isOwnedHere, isTensor, keep, scope } from './scope.js';
export { emptyStaged, isPageLocked, send } from './staging.js';
export { Tensor } from './tensor.js';
