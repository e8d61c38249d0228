import { type Device, deviceCode } from './device.js';
import { type BuildInfo, type CudaMemoryStats, type MemoryStats, native } from './native.js';
import { requireSynchronous } from './scope.js';

/** What the addon was built with and what this machine offers it. */
export const buildInfo = (): BuildInfo => native.buildInfo();

/** Threads of one operator on the CPU, of this thread of Node's: the main thread, or a worker. */
export const getThreads = (): number => native.getThreads();
/** Throws TensorError for more than `buildInfo().mostThreads`, a small multiple of the processors. */
export const setThreads = (threads: number): void => native.setThreads(threads);

/** Lets cuDNN time its algorithms for each new shape; it may then choose differently from run to run. */
export const setCudnnBenchmark = (enabled: boolean): void => native.setCudnnBenchmark(enabled);

/** Waits until the device has done all it was given. */
export const synchronize = (device: Device): void => native.synchronize(deviceCode(device));

/** Ends the process now, also while a worker is in the middle of an operator, for which `process.exit` would wait. */
export const exitImmediately = (code: number): void => native.exitImmediately(code);

/** Gives memory that was freed, and that the process still holds, back to the system. Takes some milliseconds. */
export const releaseFreedMemory = (): void => native.releaseFreedMemory();

/** The tensors of this environment. */
export const memoryStats = (): MemoryStats => native.memoryStats();

/** The CUDA caching allocator's figures, or undefined where LibTorch does not tell them. */
export const cudaMemoryStats = (device: Device): CudaMemoryStats | undefined =>
  native.cudaMemoryStats(deviceCode(device));

/** Runs `body`; returns its result and the most host bytes allocated at one time above those at the start. */
export function measurePeak<T>(body: () => T): { result: T; peakBytes: number } {
  const { outcome, peakBytes } = measureAttempt(body);
  if ('error' in outcome) throw outcome.error;
  return { result: outcome.result, peakBytes };
}

/** The memory and multiply-adds of a computation, found by rehearsing it on meta. */
export interface Rehearsal<T> {
  readonly result: T;
  /** The most bytes that tensors on meta would take at one time above those at the start, autograd's included. */
  readonly peakBytes: number;
  /** Multiply-adds of the convolutions, linear maps and matrix products of forward passes. */
  readonly multiplyAdds: number;
}

/**
 * Runs `body` over tensors on meta and tells what it would take, without computing. CPU autocast acts in it as it does on
 * the CPU's tensors. Throws TensorError where LibTorch is older than 2.4; `canRehearse` tells.
 */
export function rehearse<T>(body: () => T): Rehearsal<T> {
  let result: T | undefined;
  const figures = native.rehearse(() => {
    result = body();
  });
  requireSynchronous('rehearse', result);
  return { result: result as T, ...figures };
}

/** Whether this LibTorch can run a training step on meta: 2.4 or later. */
export function canRehearse(): boolean {
  const [major = 0, minor = 0] = buildInfo().libtorchBuilt.split('.').map(Number);
  return major > 2 || (major === 2 && minor >= 4);
}

/**
 * `measurePeak` for work that may fail: its error comes with the bytes that were allocated by then. `body` must be synchronous.
 */
export function measureAttempt<T>(body: () => T): {
  outcome: { result: T } | { error: unknown };
  peakBytes: number;
} {
  let outcome: { result: T } | { error: unknown } = { error: undefined };
  const peakBytes = native.measurePeak(() => {
    try {
      outcome = { result: body() };
    } catch (error) {
      outcome = { error };
    }
  });
  if ('result' in outcome) requireSynchronous('measurePeak', outcome.result);
  return { outcome, peakBytes };
}
