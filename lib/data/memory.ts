import { constants } from 'node:buffer';
import { freemem } from 'node:os';
import { DataError } from './errors.js';

/**
 * Bytes that this process may still take: of what the system has free or can free, no more than its cgroup leaves it.
 * `process.availableMemory` is not that: in a container it counts cached files as taken.
 */
export function usableMemory(): number {
  const limit = process.constrainedMemory();
  const left = limit > 0 ? Math.max(0, limit - process.memoryUsage.rss()) : Number.POSITIVE_INFINITY;
  return Math.min(freemem(), left);
}

export interface RequireMemoryOptions {
  /** For people: "40000 images of 224 x 224 pixels". */
  readonly what: string;
  /** Of each array that is made. */
  readonly bytes: readonly number[];
  /** What to do instead. */
  readonly instead: string;
  /** Bytes; what the process may use by default. */
  readonly usable?: number;
}

/**
 * Throws `DataError` (DATA_ARGUMENT) before images are read that memory cannot hold. They are there twice where they are
 * trained on: in an array, and as a tensor.
 */
export function requireMemory({ what, bytes, instead, usable = usableMemory() }: RequireMemoryOptions): void {
  const needed = 2 * bytes.reduce((sum, one) => sum + one, 0);
  if (needed <= usable && Math.max(...bytes) <= constants.MAX_LENGTH) return;
  const reason =
    needed > usable
      ? `this process may use ${gibibytes(usable)}`
      : `one array holds ${gibibytes(constants.MAX_LENGTH)}, and the larger part needs ${gibibytes(Math.max(...bytes))}`;
  throw new DataError(
    'DATA_ARGUMENT',
    `${what} take ${gibibytes(needed)} of memory (array and tensor), but ${reason}: ${instead}`,
  );
}

function gibibytes(bytes: number): string {
  const value = bytes / 2 ** 30;
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} GiB`;
}
