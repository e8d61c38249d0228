import { createRequire } from 'node:module';
import { addonCandidates, addonPath } from '#scripts/support/addon.mjs';
import { usableProcessors } from '#scripts/support/limits.mjs';
import { doctorCommand, setUpCommand } from '#scripts/support/paths.mjs';
import type { CollectiveFailure } from './collectives.js';
import { dtypeName } from './dtype.js';
import { TensorError, type TensorErrorCode } from './errors.js';
import type { NativeOperators } from './generated/operators.js';
import { passLibTorchMessage, passLibTorchMessageAtExit } from './messages.js';

/** What the addon was built with and what this machine offers it: releases, CUDA, instruction set, threads. */
export interface BuildInfo {
  /** The LibTorch release that the addon was compiled against. */
  readonly libtorchBuilt: string;
  /** The LibTorch release that the process has loaded; empty where it does not say. */
  readonly libtorchLoaded: string;
  readonly cudaBuild: boolean;
  readonly cudaAvailable: boolean;
  readonly cudaDeviceCount: number;
  /** Why CUDA is not available; empty when it is. */
  readonly cudaReason: string;
  /** Why several processes cannot work together by Gloo, on CPUs; empty when they can. */
  readonly glooReason: string;
  /** Why they cannot by NCCL, on GPUs; empty when they can. */
  readonly ncclReason: string;
  /** The instruction set of LibTorch's kernels, such as AVX512. */
  readonly cpuCapability: string;
  readonly threads: number;
  /** The most that `setThreads` takes on this machine. */
  readonly mostThreads: number;
}

/**
 * Tensors and generators that JavaScript holds in this environment (main thread or worker), and the bytes of their
 * storages.
 */
export interface MemoryStats {
  /** Tensors that JavaScript holds. */
  readonly liveTensors: number;
  readonly liveGenerators: number;
  /** Bytes of their storages on the host, each storage counted once. */
  readonly cpuBytes: number;
  /** Bytes of their storages on CUDA devices. */
  readonly cudaBytes: number;
  /** Bytes of the storages that only garbage collection or `dispose` will free, as V8 has been told. */
  readonly externalBytes: number;
}

/** Bytes of a GPU: what tensors have, and what LibTorch's caching allocator has taken for them; now and at the most. */
export interface CudaMemoryStats {
  readonly allocatedBytes: number;
  readonly peakAllocatedBytes: number;
  readonly reservedBytes: number;
  readonly peakReservedBytes: number;
}

/** How OpenMP's threads wait for work. */
export interface ThreadWaiting {
  /**
   * What decides: `watch`, whether the cores are shared; `environment`, GOMP_SPINCOUNT or OMP_WAIT_POLICY; `sleep`, nothing, since
   * this system does not say whether the cores are shared; `none`, an OpenMP other than GNU's, none, or no thread to spare.
   */
  readonly policy: 'watch' | 'environment' | 'sleep' | 'none';
  /** Whether they sleep almost at once, since the cores are shared; else they look for work for milliseconds first. */
  readonly isSleeping: boolean;
  /** How often the cores were found shared. */
  readonly timesShared: number;
}

interface NativeError {
  code: TensorErrorCode;
  operator: string;
  message: string;
  tensors: { shape: number[]; dtype: number; device: string }[];
}

/** The addon's exports: handles and codes, no objects. Only lib/tensor/ calls it. */
export interface NativeAddon extends NativeOperators {
  fromTypedArray(data: ArrayBufferView, shape: Float64Array, dtype: number, device: number): number;
  writeTypedArray(self: number, target: ArrayBufferView): void;
  full(shape: Float64Array, value: number, dtype: number, device: number): number;
  empty(shape: Float64Array, dtype: number, device: number): number;
  emptyStaged(shape: Float64Array, dtype: number, device: number): number;
  isPageLocked(self: number): boolean;
  send(self: number, device: number): number;
  arange(end: number, dtype: number, device: number): number;
  dispose(self: number): boolean;
  /** Of the first `count` handles. */
  disposeAll(handles: Int32Array, count: number): void;
  shape(self: number): number[];
  strides(self: number): number[];
  dtype(self: number): number;
  device(self: number): number;
  byteLength(self: number): number;
  sharesMemory(self: number): boolean;
  isContiguous(self: number, memoryFormat: number): boolean;
  item(self: number): number;

  withGradMode(enabled: boolean, body: () => void): void;
  withInferenceMode(body: () => void): void;
  withAutocast(device: number, dtype: number, body: () => void): void;
  isGradEnabled(): boolean;

  requiresGrad(self: number): boolean;
  setRequiresGrad(self: number, required: boolean): void;
  backward(self: number, gradient: number, retainGraph: boolean): void;
  grad(self: number): number;
  clearGradients(tensors: Int32Array): void;

  manualSeed(seed: number): void;
  createGenerator(device: number, seed: number): number;
  defaultGenerator(device: number): number;
  generatorState(generator: number): number;
  setGeneratorState(generator: number, state: number): void;
  disposeGenerator(generator: number): boolean;

  sgdStep(
    parameters: Int32Array,
    momentumBuffers: Int32Array,
    learningRate: number,
    momentum: number,
    dampening: number,
    weightDecay: number,
    nesterov: boolean,
    isFirstStep: boolean,
  ): void;
  adamwStep(
    parameters: Int32Array,
    expAvg: Int32Array,
    expAvgSq: Int32Array,
    step: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
  ): void;
  muonStep(
    parameters: Int32Array,
    momentumBuffers: Int32Array,
    learningRate: number,
    momentum: number,
    weightDecay: number,
    nesterov: boolean,
    iterations: number,
    eps: number,
    inFloat32: boolean,
  ): void;
  unscaleGradients(parameters: Int32Array, inverseScale: number): boolean;

  captureGraph(device: number, body: () => void): number;
  onCaptureStream(device: number, body: () => void): void;
  replayGraph(graph: number): void;
  disposeGraph(graph: number): boolean;

  memoryStats(): MemoryStats;
  measurePeak(body: () => void): number;
  rehearse(body: () => void): { peakBytes: number; multiplyAdds: number };
  cudaMemoryStats(device: number): CudaMemoryStats | undefined;
  watch(self: number): void;
  unwatch(self: number): void;
  releaseFreedMemory(): void;

  takeMessages(): string[];
  listenForMessages(listener: () => void): void;

  decodeImages(
    images: number,
    bytes: Uint8Array,
    ends: Float64Array,
    arePaths: boolean,
    ranges: Float64Array,
    draws: Float64Array,
    mirrored: Uint8Array,
    coveredHeight: number,
    coveredWidth: number,
    maxPixels: number,
    mayReduce: boolean,
    whenDone: (outcomes: Uint8Array) => void,
  ): number;
  cancelDecoding(batch: number): void;
  /** The file of the library that is open now, maybe by another thread; empty where there is none. */
  openTurboJpeg(path: string): string;
  setDecodingThreads(threads: number): void;
  decodingThreads(): number;

  joinGroup(
    backend: string,
    rank: number,
    size: number,
    path: string,
    host: string,
    port: number,
    isHost: boolean,
    prefix: string,
    timeout: number,
    verifies: boolean,
    whenDone: (id: number, failure: CollectiveFailure | undefined) => void,
  ): number;
  broadcastInGroup(group: number, tensor: number, root: number): number;
  allReduceInGroup(group: number, tensor: number, reduction: number): number;
  allGatherInGroup(group: number, tensor: number, output: number): number;
  barrierOfGroup(group: number): number;
  sendInGroup(group: number, tensor: number, to: number): number;
  receiveInGroup(group: number, tensor: number, from: number): number;
  withSynchronizedBatchNorm(group: number, body: () => void): void;
  packTensors(tensors: Int32Array, block: number): void;
  unpackTensors(tensors: Int32Array, block: number): void;
  giveUpGroup(group: number, reason: string): void;
  leaveGroup(group: number): number;
  forgetGroup(group: number): void;

  threadWaiting(): ThreadWaiting;

  buildInfo(): BuildInfo;
  getThreads(): number;
  setThreads(threads: number): void;
  setCudnnBenchmark(enabled: boolean): void;
  synchronize(device: number): void;
  exitImmediately(code: number): void;
  setErrorFactory(createError: (error: NativeError) => Error): void;
}

/** LibTorch counts the processors of the machine; a control group may allow this process fewer. */
function limitThreads(addon: NativeAddon): void {
  if ((process.env.OMP_NUM_THREADS ?? '') !== '') return;
  const usable = usableProcessors();
  if (usable < addon.getThreads()) addon.setThreads(usable);
}

function deliverMessages(addon: NativeAddon): void {
  addon.listenForMessages(() => addon.takeMessages().forEach(passLibTorchMessage));
  // Messages that came after the event loop's last turn.
  process.on('exit', () => addon.takeMessages().forEach(passLibTorchMessageAtExit));
}

function loadAddon(): NativeAddon {
  const path = addonPath();
  const mend = `Get it with: ${setUpCommand}. See what is wrong with: ${doctorCommand}`;
  if (path === undefined) {
    throw new TensorError({
      code: 'ADDON_UNAVAILABLE',
      operator: 'load',
      message: `the native addon is not there; looked for\n  ${addonCandidates().join('\n  ')}\n${mend}`,
    });
  }
  try {
    const addon = createRequire(import.meta.url)(path) as NativeAddon;
    limitThreads(addon);
    deliverMessages(addon);
    addon.setErrorFactory(
      ({ code, operator, message, tensors }) =>
        new TensorError({
          code,
          operator,
          message,
          tensors: tensors.map((t) => ({ ...t, dtype: dtypeName(t.dtype) })),
        }),
    );
    return addon;
  } catch (cause) {
    throw new TensorError({
      code: 'ADDON_UNAVAILABLE',
      operator: 'load',
      message: `the native addon ${path} could not be loaded: ${(cause as Error).message}\n${mend}`,
      cause,
    });
  }
}

/**
 * The addon. It is loaded at its first use: names and schemas alone, as for a command's `--help`, need no LibTorch. After that
 * all its functions are properties of this object itself, which are as quick to find as the addon's.
 */
export const native: NativeAddon = Object.create(
  new Proxy(Object.prototype, {
    get(target, name, receiver) {
      if (typeof name === 'symbol' || name in target) return Reflect.get(target, name, receiver);
      const addon = loadAddon();
      Object.setPrototypeOf(native, Object.prototype);
      Object.assign(native, addon);
      return addon[name as keyof NativeAddon];
    },
  }),
);
