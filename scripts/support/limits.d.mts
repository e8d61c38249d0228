export interface ProcessorLimits {
  /** Processors of the machine. */
  readonly machine: number;
  /** Those that the scheduler may use for this process. */
  readonly affinity: number;
  /** Processors' worth of time that control groups allow; null without a quota. */
  readonly quota: number | null;
  /** Whole processors that this process may keep busy, at least 1. */
  readonly usable: number;
}

/** Bytes. */
export interface MemoryLimits {
  /** Memory of the machine. */
  readonly machine: number;
  /** The lowest limit of a control group that holds this process; null without one. */
  readonly limit: number | null;
  /** What this process can still allocate. */
  readonly available: number;
}

export interface LimitsOptions {
  /** Where /proc and /sys are. Default: / */
  readonly root?: string;
}

/** Processors that this process may keep busy, by affinity and control groups: a whole number, at least 1. */
export declare function usableProcessors(options?: LimitsOptions): number;

/** Bytes that this process can still allocate before the machine or its control group runs out. */
export declare function availableMemory(options?: LimitsOptions): number;

export declare function processorLimits(
  options?: LimitsOptions & { readonly machine?: number; readonly affinity?: number },
): ProcessorLimits;

export declare function memoryLimits(options?: LimitsOptions & { readonly machine?: number }): MemoryLimits;
