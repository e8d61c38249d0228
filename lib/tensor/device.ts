import { TensorError } from './errors.js';

/**
 * "cpu", or a CUDA device by its index; "cuda" alone is cuda:0. "meta" has shapes and no values: what is computed on it costs
 * nothing, and to read from it is an error.
 */
export type Device = 'cpu' | 'meta' | 'cuda' | `cuda:${number}`;

/** -1 for the CPU, -2 for meta, n for cuda:n. Throws TensorError for any other text. */
export function deviceCode(device: Device): number {
  if (device === 'cpu') return -1;
  if (device === 'meta') return -2;
  if (device === 'cuda') return 0;
  const match = /^cuda:(\d+)$/.exec(String(device));
  if (match === null) {
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'device',
      message: `expected cpu, cuda, cuda:N or meta for device, got ${String(device)}`,
    });
  }
  return Number(match[1]);
}

export const deviceName = (code: number): Device => (code === -2 ? 'meta' : code < 0 ? 'cpu' : `cuda:${code}`);

export const isCuda = (device: Device): boolean => deviceCode(device) >= 0;
