import { type Device, deviceCode } from './device.js';
import { type BuildInfo, native } from './native.js';

/** What the addon was built with and what this machine offers it. */
export const buildInfo = (): BuildInfo => native.buildInfo();

/** Threads of one operator on the CPU. The budget is the program's: set it once, in one place. */
export const getThreads = (): number => native.getThreads();
export const setThreads = (threads: number): void => native.setThreads(threads);

/** Lets cuDNN time its algorithms for each new shape; it may then choose differently from run to run. */
export const setCudnnBenchmark = (enabled: boolean): void => native.setCudnnBenchmark(enabled);

/** Waits until the device has done all it was given. */
export const synchronize = (device: Device): void => native.synchronize(deviceCode(device));

/** Ends the process now, also while a worker is in the middle of an operator, for which `process.exit` would wait. */
export const exitImmediately = (code: number): void => native.exitImmediately(code);

export interface MemoryStats {
  /** Tensors that JavaScript holds. */
  readonly liveTensors: number;
  readonly liveGenerators: number;
  /** Bytes of their storages on the host, each storage counted once. */
  readonly cpuBytes: number;
  /** Bytes of their storages on CUDA devices. */
  readonly cudaBytes: number;
}

/** The tensors of this environment. */
export const memoryStats = (): MemoryStats => native.memoryStats();

/** The CUDA caching allocator's figures, or undefined where LibTorch does not tell them. */
export const cudaMemoryStats = (device: Device): ReturnType<typeof native.cudaMemoryStats> =>
  native.cudaMemoryStats(deviceCode(device));

/** Runs `body`; returns its result and the most host bytes allocated at one time above those at the start. */
export function measurePeak<T>(body: () => T): { result: T; peakBytes: number } {
  const { outcome, peakBytes } = measureAttempt(body);
  if ('error' in outcome) throw outcome.error;
  return { result: outcome.result, peakBytes };
}

/** `measurePeak` of what may fail: its error comes with the bytes that were allocated by then. */
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
  return { outcome, peakBytes };
}
