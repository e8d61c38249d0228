import { constants } from 'node:buffer';
import { availableMemory } from '#scripts/support/limits.mjs';
import { gibibytes } from '../format.js';
import { DataError } from './errors.js';

export interface RequireMemoryOptions {
  /** For people: "40000 images of 224 x 224 pixels". */
  readonly what: string;
  /** Of each array that is made. */
  readonly bytes: readonly number[];
  /** What to do instead. */
  readonly instead: string;
  /** Bytes. Default: what this process can still allocate. */
  readonly usable?: number;
}

/**
 * Throws `DataError` (DATA_ARGUMENT) where memory cannot hold images, before they are read. Images that are trained on are in
 * memory twice: as an array and as a tensor.
 */
export function requireMemory({ what, bytes, instead, usable = availableMemory() }: RequireMemoryOptions): void {
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
