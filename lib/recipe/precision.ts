import { readFileSync } from 'node:fs';
import { autocast, buildInfo, type Device, type DType, isCuda } from '../tensor/index.js';
import { RecipeError } from './errors.js';
import type { Recipe } from './recipe.js';

/** What the forward pass is computed in; weights stay float32. */
export type Precision = Exclude<Recipe['precision'], 'auto'>;

function cpuFlags(): Set<string> {
  try {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
    return new Set(flags.trim().split(/\s+/));
  } catch {
    return new Set(); // Not Linux: no claim of fast bfloat16.
  }
}

const atLeast = (version: string, major: number, minor: number): boolean => {
  const [a = 0, b = 0] = version.split('.').map(Number);
  return a > major || (a === major && b >= minor);
};

/**
 * auto is bf16 where the hardware multiplies it natively (CUDA; CPUs with AVX512-BF16 or AMX and LibTorch 2.x), else fp32.
 * Throws RecipeError for a precision that the device cannot train in.
 */
export function resolvePrecision(
  requested: Recipe['precision'],
  device: Device,
  { version = buildInfo().libtorchBuilt, flags = cpuFlags() }: { version?: string; flags?: ReadonlySet<string> } = {},
): Precision {
  if (requested === 'auto') {
    if (isCuda(device)) return 'bf16';
    return atLeast(version, 2, 0) && (flags.has('avx512_bf16') || flags.has('amx_bf16')) ? 'bf16' : 'fp32';
  }
  if (requested === 'fp16' && !isCuda(device) && !atLeast(version, 2, 4)) {
    throw new RecipeError(
      `precision: fp16 on the CPU needs LibTorch 2.4 or later, this is ${version}; use bf16 or fp32`,
    );
  }
  return requested;
}

/** What frozen layers, whose weights need no full precision, are computed in. */
export const frozenDtype = (precision: Precision): DType =>
  ({ fp32: 'float32', bf16: 'bfloat16', fp16: 'float16' })[precision] as DType;

/** Runs the forward pass in the given precision; weights stay float32. */
export function inPrecision<T>(precision: Precision, device: Device, forward: () => T): T {
  if (precision === 'fp32') return forward();
  return autocast({ device, dtype: precision === 'bf16' ? 'bfloat16' : 'float16' }, forward);
}
