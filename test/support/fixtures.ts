// The committed values that PyTorch computed (test/fixtures), and how a test compares with them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { buildInfo, type DType, noGrad, scope, Tensor, type TypedArray, tensor } from '../../lib/tensor/index.js';

export const FIXTURES = join(import.meta.dirname, '..', 'fixtures');

/** A tensor as test/fixtures/encode.py writes it. */
export interface EncodedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: string;
  readonly layout?: 'channelsLast' | 'transposed';
  readonly strides?: readonly number[];
}

export function readFixture<T>(name: string): T {
  return JSON.parse(readFileSync(join(FIXTURES, name), 'utf8')) as T;
}

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

function elementsOf(encoded: EncodedTensor): TypedArray {
  const bytes = Uint8Array.from(Buffer.from(encoded.data, 'base64'));
  return new ARRAYS[encoded.dtype](bytes.buffer);
}

/** The elements of a tensor of a fixture; integers up to 2^53. */
export function valuesOf(encoded: EncodedTensor): number[] {
  return Array.from(elementsOf(encoded), Number);
}

/** The tensor of a fixture, laid out in memory as it was in PyTorch. */
export function decode(encoded: EncodedTensor): Tensor {
  return scope(() => {
    const plain = tensor(elementsOf(encoded), { shape: encoded.shape, dtype: encoded.dtype });
    if (encoded.layout === 'channelsLast') return plain.contiguous({ memoryFormat: 'channelsLast' });
    // A view of the transposed copy: the same values, strided.
    if (encoded.layout === 'transposed') return plain.transpose(0, 1).contiguous().transpose(0, 1);
    return plain;
  });
}

/** |got - expected| <= absolute + relative * |expected|, or, with `ofLargest`, relative to the largest element. */
export interface Tolerance {
  readonly relative: number;
  readonly absolute?: number;
  readonly ofLargest?: boolean;
}

/** A few units in the last place of each type; exact for integers. */
export const TOLERANCES: Record<DType, Tolerance> = {
  float64: { relative: 1e-11, absolute: 1e-12 },
  float32: { relative: 1e-5, absolute: 2e-6 },
  float16: { relative: 2e-3, absolute: 2e-3 },
  bfloat16: { relative: 1.6e-2, absolute: 1.6e-2 },
  int64: { relative: 0 },
  uint8: { relative: 0 },
  bool: { relative: 0 },
};

function numbersOf(value: Tensor): number[] {
  return scope(() => {
    const plain = value.detach();
    if (plain.dtype === 'int64') return Array.from(plain.toTypedArray(), Number);
    return Array.from(plain.to({ dtype: 'float64' }).toTypedArray(), Number);
  });
}

/** Asserts dtype, shape and every element. `what` begins the message of a failure. */
export function expectClose(
  got: Tensor,
  expected: EncodedTensor,
  what: string,
  tolerance: Tolerance = TOLERANCES[expected.dtype],
): void {
  expect(got.dtype, `${what}: dtype`).toBe(expected.dtype);
  expect(got.shape, `${what}: shape`).toEqual(expected.shape);
  if (expected.strides !== undefined) expect(got.strides, `${what}: strides`).toEqual(expected.strides);
  const wanted = scope(() => numbersOf(decode(expected)));
  expectNumbersClose(numbersOf(got), wanted, what, tolerance);
}

export function expectNumbersClose(
  got: readonly number[],
  expected: readonly number[],
  what: string,
  tolerance: Tolerance,
): void {
  expect(got.length, `${what}: elements`).toBe(expected.length);
  const { relative, absolute = 0, ofLargest = false } = tolerance;
  const largest = ofLargest ? expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0) : 0;
  const wrong = expected.findIndex((value, i) => {
    if (Object.is(got[i], value) || got[i] === value) return false;
    const allowed = absolute + relative * (ofLargest ? largest : Math.abs(value));
    return !(Math.abs(got[i]! - value) <= allowed);
  });
  if (wrong >= 0) {
    throw new Error(`${what}: element ${wrong} of ${got.length} is ${got[wrong]}, expected ${expected[wrong]}`);
  }
}

/** Values in [-0.5, 0.5), exact in float32; the same integer hash as hash_values in test/fixtures/encode.py. */
export function hashValues(count: number, salt: number): Float32Array {
  const values = new Float32Array(count);
  const start = Math.imul(salt, 0x9e3779b9);
  for (let i = 0; i < count; i++) {
    let x = (i + start) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    x ^= x >>> 16;
    values[i] = (x >>> 8) / 2 ** 24 - 0.5;
  }
  return values;
}

export const hashed = (shape: readonly number[], salt: number): Tensor =>
  tensor(
    hashValues(
      shape.reduce((product, size) => product * size, 1),
      salt,
    ),
    { shape },
  );

/** Fills a state dict as fill_by_hash in test/fixtures/encode.py does. */
export function fillByHash(stateDict: ReadonlyMap<string, Tensor>, firstSalt = 0): void {
  let salt = firstSalt;
  for (const [name, target] of stateDict) {
    const own = salt++;
    if (name.endsWith('num_batches_tracked')) continue;
    const { factor, offset } = hashScale(name, target.shape);
    noGrad(() => {
      scope(() => {
        const values = hashed(target.shape, own).mul_(factor).add_(offset);
        target.copy_(values);
      });
    });
  }
}

function hashScale(name: string, shape: readonly number[]): { factor: number; offset: number } {
  if (name.endsWith('running_var')) return { factor: 1, offset: 1 };
  if (name.endsWith('running_mean') || name.endsWith('bias')) return { factor: 0.25, offset: 0 };
  if (shape.length === 1) return { factor: 0.5, offset: 1 };
  const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
  return { factor: 2 ** Math.floor(Math.log2(Math.sqrt(24 / fanIn)) + 0.3), offset: 0 };
}

/** Whether the LibTorch under test is at least this release, such as "2.4". */
export function libtorchAtLeast(release: string): boolean {
  const [major, minor] = buildInfo().libtorchBuilt.split('.').map(Number);
  const [wantedMajor, wantedMinor] = release.split('.').map(Number);
  return major! > wantedMajor! || (major === wantedMajor && minor! >= wantedMinor!);
}

const hasAvx512 = existsSync('/proc/cpuinfo') && / avx512bw /.test(readFileSync('/proc/cpuinfo', 'utf8'));

/**
 * How convolutions in bfloat16 add up: in float32; rounding after each image, where oneDNN does not take bfloat16, as without
 * AVX-512; or, there before LibTorch 2, in bfloat16, which leaves few digits.
 */
export const convolutionSums = (): 'float32' | 'rounded' | 'bfloat16' =>
  hasAvx512 ? 'float32' : libtorchAtLeast('2.0') ? 'rounded' : 'bfloat16';

/** Numbers in [-1, 1) that look random and are the same everywhere; for finite differences and the like. */
export function scatter(count: number, salt: number): Float64Array {
  return Float64Array.from(hashValues(count, salt), (value) => 2 * value);
}

export const isTensor = (value: unknown): value is Tensor => value instanceof Tensor;
