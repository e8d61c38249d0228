import type { MemoryLimits, ProcessorLimits } from './support/limits.mjs';

export interface Finding {
  /** `error`: training cannot work. `warning`: it works, with less than the machine could give. */
  readonly level: 'error' | 'warning';
  readonly subject: string;
  readonly reason: string;
  /** What to type or change, where there is such a thing. */
  readonly mend: string | undefined;
}

export interface Gpu {
  readonly index: number;
  readonly name: string;
  readonly memory: string;
  readonly driver: string;
  /** CUDA compute capability, such as 9.0. */
  readonly capability: string;
}

/** What the loaded addon says of itself: `BuildInfo` of lib/tensor/native.ts. */
export interface LoadedBuild {
  readonly libtorchBuilt: string;
  readonly libtorchLoaded: string;
  readonly cudaBuild: boolean;
  readonly cudaAvailable: boolean;
  readonly cudaDeviceCount: number;
  readonly cudaReason: string;
  readonly cpuCapability: string;
  readonly threads: number;
  readonly mostThreads: number;
}

export interface Diagnosis {
  readonly platform: {
    readonly key: string;
    readonly system: string;
    readonly proved: boolean;
    /** Why LibTorch cannot be had for it. */
    readonly problem: { readonly reason: string; readonly mend: string } | undefined;
  };
  readonly node: { readonly version: string; readonly napi: string };
  readonly tools: readonly {
    readonly tool: string;
    readonly program: string | undefined;
    readonly version: string | undefined;
    readonly problem: string | undefined;
  }[];
  readonly libtorch:
    | {
        readonly path: string;
        readonly version: string;
        readonly build: string;
        readonly source: string;
        readonly cudaHeaders: boolean;
      }
    | undefined;
  readonly addon: {
    readonly path: string | undefined;
    readonly bytes: number | undefined;
    /** Undefined when it is not built or does not load. */
    readonly build: LoadedBuild | undefined;
    readonly problem: string | undefined;
    /** What mends the problem. */
    readonly mend: string | undefined;
  };
  readonly cpu: {
    readonly model: string;
    readonly avx2: boolean;
    readonly avx512: boolean;
    readonly bf16: boolean;
    readonly amx: boolean;
  };
  /** What the machine has, and what this process may use of it. */
  readonly processors: ProcessorLimits;
  readonly memory: MemoryLimits;
  readonly gpus: readonly Gpu[];
  readonly cuda: { readonly usable: boolean; readonly reason: string };
  readonly findings: readonly Finding[];
  /** No finding is an error. */
  readonly ok: boolean;
}

/** Looks at the machine and the clone; works when nothing is installed or built. */
export declare function collect(env?: Readonly<Record<string, string | undefined>>): Promise<Diagnosis>;

/** The diagnosis as text for a person. */
export declare function render(diagnosis: Diagnosis): string;
