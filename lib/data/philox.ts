import { DataError } from './errors.js';

/**
 * Philox4x32-10, the counter-based random number generator of Salmon, Moraes, Dror and Shaw,
 * "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011: 128 bits of counter and 64 bits of key give 128 random bits.
 */

const ROUNDS = 10;
// Multipliers and Weyl increments of the authors' reference implementation (Random123), as signed 32-bit integers:
// everything below stays in the engine's 32-bit integer arithmetic, which makes it three times as fast.
const MULTIPLIER_0 = 0xd2511f53 | 0;
const MULTIPLIER_1 = 0xcd9e8d57 | 0;
const WEYL_0 = 0x9e3779b9 | 0;
const WEYL_1 = 0xbb67ae85 | 0;

/**
 * Writes the block of four 32-bit words at counter `(c0, c1, c2, c3)` under key `(k0, k1)` to `out[at .. at + 3]`.
 * Arguments are read modulo 2^32. Allocates nothing; its arguments are positional because it runs once for every few pixels.
 */
export function philox4x32(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  out: Uint32Array,
  at = 0,
): void {
  let x0 = c0 | 0;
  let x1 = c1 | 0;
  let x2 = c2 | 0;
  let x3 = c3 | 0;
  let key0 = k0 | 0;
  let key1 = k1 | 0;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = high32(x0, MULTIPLIER_0);
    const high1 = high32(x2, MULTIPLIER_1);
    const low0 = Math.imul(x0, MULTIPLIER_0);
    const low1 = Math.imul(x2, MULTIPLIER_1);
    x0 = high1 ^ x1 ^ key0;
    x1 = low1;
    x2 = high0 ^ x3 ^ key1;
    x3 = low0;
    key0 = (key0 + WEYL_0) | 0;
    key1 = (key1 + WEYL_1) | 0;
  }
  out[at] = x0;
  out[at + 1] = x1;
  out[at + 2] = x2;
  out[at + 3] = x3;
}

/** The high 32 bits, unsigned, of the product of two unsigned 32-bit integers. */
export function multiplyHigh(a: number, b: number): number {
  return high32(a | 0, b | 0) >>> 0;
}

/** The same on the bit patterns of 32-bit integers: schoolbook multiplication on 16-bit halves, no partial sum reaching 2^32. */
function high32(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const cross = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (cross >>> 16)) | 0;
}

/** The two parts of a Philox key that carry a seed: 32 low bits, and at most 21 high ones, leaving the upper bits to the caller. */
export interface SeedWords {
  readonly low: number;
  readonly high: number;
}

/** Splits a seed, any safe integer from 0. Throws `DataError` (DATA_ARGUMENT) for anything else. */
export function seedWords(seed: number): SeedWords {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new DataError('DATA_ARGUMENT', `seed must be an integer from 0 to ${Number.MAX_SAFE_INTEGER}, got ${seed}`);
  }
  return { low: seed >>> 0, high: Math.floor(seed / 2 ** 32) };
}

/** Uses of random numbers that must not share any: each sets its own bits of the key, above those of the seed. */
export const KEY_DOMAIN = { draws: 1 << 24, shapes: 2 << 24, steps: 3 << 24 } as const;
