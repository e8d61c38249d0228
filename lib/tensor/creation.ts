import { type Device, deviceCode } from './device.js';
import { type DType, dtypeCode, type TypedArray } from './dtype.js';
import { TensorError } from './errors.js';
import { native } from './native.js';
import type { Generator } from './random.js';
import { Tensor } from './tensor.js';

export interface CreationOptions {
  /** float32 unless told. */
  readonly dtype?: DType;
  /** cpu unless told. */
  readonly device?: Device;
}

const at = (options: CreationOptions): [number, number] => [
  dtypeCode(options.dtype ?? 'float32'),
  deviceCode(options.device ?? 'cpu'),
];

/** A tensor of `shape` with every element `value`. */
export function full(shape: readonly number[], value: number, options: CreationOptions = {}): Tensor {
  return new Tensor(native.full(shape, value, ...at(options)));
}

export function zeros(shape: readonly number[], options: CreationOptions = {}): Tensor {
  return full(shape, 0, options);
}

export function ones(shape: readonly number[], options: CreationOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** A tensor whose elements are whatever the memory held. */
export function empty(shape: readonly number[], options: CreationOptions = {}): Tensor {
  return new Tensor(native.empty(shape, ...at(options)));
}

/** 0, 1, ... end - 1, int64 unless told. */
export function arange(end: number, options: CreationOptions = {}): Tensor {
  return new Tensor(native.arange(end, ...at({ dtype: 'int64', ...options })));
}

/** Draws from the standard normal distribution. */
export function randn(shape: readonly number[], options: CreationOptions & { generator?: Generator } = {}): Tensor {
  return empty(shape, options).normal_({ generator: options.generator ?? null });
}

/** Draws from the uniform distribution on [0, 1). */
export function rand(shape: readonly number[], options: CreationOptions & { generator?: Generator } = {}): Tensor {
  return empty(shape, options).uniform_({ generator: options.generator ?? null });
}

const DTYPE_OF_ARRAY = new Map<unknown, DType>([
  [Float32Array, 'float32'],
  [Float64Array, 'float64'],
  [BigInt64Array, 'int64'],
  [Uint8Array, 'uint8'],
  [Uint8ClampedArray, 'uint8'],
  [Buffer, 'uint8'],
]);

/** Typed arrays whose bytes are not the tensor's: they are converted first. */
type ConvertibleArray = readonly number[] | Int32Array | Uint32Array | Int16Array;

const INTEGER_RANGES: Partial<Record<DType, readonly [number, number]>> = {
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint8: [0, 255],
};

/** Refuses what a conversion would silently turn into NaN, 0 or another number: text, holes, fractions, overflow. */
function checkNumbers(data: ConvertibleArray, dtype: DType): void {
  const range = INTEGER_RANGES[dtype];
  for (let i = 0; i < data.length; i++) {
    const value: unknown = data[i];
    const fits =
      typeof value === 'number' &&
      (range === undefined || (Number.isInteger(value) && value >= range[0] && value <= range[1]));
    if (fits) continue;
    const expected = range === undefined ? 'a number' : `an integer from ${range[0]} to ${range[1]}`;
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'tensor',
      message: `expected ${expected} for data[${i}], got ${typeof value === 'number' ? value : typeof value}`,
    });
  }
}

function convertNumbers(data: ConvertibleArray, dtype: DType): TypedArray {
  checkNumbers(data, dtype);
  switch (dtype) {
    case 'float32':
      return Float32Array.from(data);
    case 'float64':
      return Float64Array.from(data);
    case 'int64':
      return BigInt64Array.from(data as ArrayLike<number> as number[], BigInt);
    case 'uint8':
      return Uint8Array.from(data);
    case 'bool':
      return Uint8Array.from(data as ArrayLike<number> as number[], (value) => (value ? 1 : 0));
    default:
      throw new TensorError({
        code: 'INVALID_ARGUMENT',
        operator: 'tensor',
        message: `expected a Uint16Array with the bits of ${dtype}, got numbers; make a float32 tensor and convert it`,
      });
  }
}

/**
 * A tensor with a copy of `data` in row-major order. `shape` is [data.length] unless told; its product must be the
 * number of elements. The dtype follows the array: Float32Array float32, Float64Array float64, BigInt64Array int64,
 * Uint8Array uint8, Int32Array and other integers int64, numbers float32. A Uint16Array holds float16 or bfloat16 bits
 * and needs `dtype`.
 */
export function tensor(
  data: TypedArray | ConvertibleArray,
  options: CreationOptions & { shape?: readonly number[] } = {},
): Tensor {
  if (!Array.isArray(data) && !(ArrayBuffer.isView(data) && 'length' in data)) {
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'tensor',
      message: `expected an array of numbers or a typed array for data, got ${data === null ? 'null' : typeof data}`,
    });
  }
  const shape = options.shape ?? [data.length];
  const device = deviceCode(options.device ?? 'cpu');
  if (data instanceof Uint16Array) {
    if (options.dtype !== 'float16' && options.dtype !== 'bfloat16') {
      throw new TensorError({
        code: 'INVALID_ARGUMENT',
        operator: 'tensor',
        message: `expected dtype float16 or bfloat16 for a Uint16Array, got ${options.dtype ?? 'none'}`,
      });
    }
    return new Tensor(native.fromTypedArray(data, shape, dtypeCode(options.dtype), device));
  }
  const own = DTYPE_OF_ARRAY.get(data.constructor);
  if (own !== undefined) {
    const given = new Tensor(native.fromTypedArray(data as TypedArray, shape, dtypeCode(own), device));
    if (options.dtype === undefined || options.dtype === own) return given;
    try {
      return given.to({ dtype: options.dtype });
    } finally {
      given.dispose();
    }
  }
  const dtype = options.dtype ?? (Array.isArray(data) ? 'float32' : 'int64');
  return new Tensor(
    native.fromTypedArray(convertNumbers(data as ConvertibleArray, dtype), shape, dtypeCode(dtype), device),
  );
}
