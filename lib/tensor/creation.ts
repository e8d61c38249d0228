import { type Device, deviceCode } from './device.js';
import { type DType, dtypeCode, type TypedArray, typedArrayFor } from './dtype.js';
import { TensorError } from './errors.js';
import { checkOptions, integersOf } from './handle.js';
import { native } from './native.js';
import type { Generator } from './random.js';
import { requireSynchronous } from './scope.js';
import { Tensor } from './tensor.js';

/** Dtype and device of a new tensor. */
export interface CreationOptions {
  /** Default: float32. */
  readonly dtype?: DType;
  /** Default: cpu, or that of `onDevice`. */
  readonly device?: Device;
}

let defaultDevice: Device = 'cpu';

/**
 * Runs `body`, in which tensors that are created without a device lie on this one: `onDevice('meta', ...)` builds a network
 * that takes no memory. `body` must be synchronous.
 */
export function onDevice<T>(device: Device, body: () => T): T {
  const before = defaultDevice;
  defaultDevice = device;
  try {
    const result = body();
    requireSynchronous('onDevice', result);
    return result;
  } finally {
    defaultDevice = before;
  }
}

const CREATION = ['dtype', 'device'] as const;
const RANDOM = [...CREATION, 'generator'] as const;

/** The codes of dtype and device. */
function at(options: CreationOptions, operator: string, defaultDType: DType = 'float32'): [number, number] {
  checkOptions(options, operator, CREATION);
  return [dtypeCode(options.dtype ?? defaultDType), deviceCode(options.device ?? defaultDevice)];
}

/** A tensor of `shape` with every element `value`, which an integer dtype must be able to hold. */
export function full(shape: readonly number[], value: number, options: CreationOptions = {}): Tensor {
  return new Tensor(native.full(integersOf(shape, 'shape', 'full'), value, ...at(options, 'full')));
}

/** A tensor of `shape` filled with 0. Throws TensorError for a size that is no integer from 0. */
export function zeros(shape: readonly number[], options: CreationOptions = {}): Tensor {
  return full(shape, 0, options);
}

/** A tensor of `shape` filled with 1. Throws TensorError for a size that is no integer from 0. */
export function ones(shape: readonly number[], options: CreationOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** A tensor whose elements are whatever the memory held. */
export function empty(shape: readonly number[], options: CreationOptions = {}): Tensor {
  return new Tensor(native.empty(integersOf(shape, 'shape', 'empty'), ...at(options, 'empty')));
}

/** 0, 1, ... end - 1. Default dtype: int64. */
export function arange(end: number, options: CreationOptions = {}): Tensor {
  return new Tensor(native.arange(end, ...at(options, 'arange', 'int64')));
}

/** Draws from the standard normal distribution. */
export function randn(shape: readonly number[], options: RandomOptions = {}): Tensor {
  return emptyFor('randn', shape, options).normal_({ generator: options.generator ?? null });
}

/** Draws from the uniform distribution on [0, 1). */
export function rand(shape: readonly number[], options: RandomOptions = {}): Tensor {
  return emptyFor('rand', shape, options).uniform_({ generator: options.generator ?? null });
}

/** How random numbers are made: as any tensor, from `generator` (default: that of the device). */
export type RandomOptions = CreationOptions & { generator?: Generator };

function emptyFor(operator: string, shape: readonly number[], options: RandomOptions): Tensor {
  checkOptions(options, operator, RANDOM);
  const { generator, ...creation } = options;
  return empty(shape, creation);
}

/** Typed arrays whose elements lie as the tensor's do, by the name that the language gives their kind. */
const DTYPE_OF_ARRAY: ReadonlyMap<string, DType> = new Map([
  ['Float32Array', 'float32'],
  ['Float64Array', 'float64'],
  ['Float16Array', 'float16'],
  ['BigInt64Array', 'int64'],
  ['Uint8Array', 'uint8'],
  ['Uint8ClampedArray', 'uint8'],
]);

const kindGetter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)!
  .get!;

/** "Float32Array" for one of any realm (a vm context, a test runner's) and any subclass; undefined for no typed array. */
const kindOf = (value: unknown): string | undefined => kindGetter.call(value);

/** Arrays whose elements are converted one by one: numbers, or BigUint64Array's bigints. */
type ConvertibleArray = readonly number[] | Int32Array | Uint32Array | Int16Array | Int8Array | BigUint64Array;

const INTEGER_RANGES: Partial<Record<DType, readonly [number, number]>> = {
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint8: [0, 255],
};

function invalid(message: string): TensorError {
  return new TensorError({ code: 'INVALID_ARGUMENT', operator: 'tensor', message });
}

/** The element, where `dtype` can hold it: text, holes, fractions and overflow would silently become another number. */
function checkElement(value: unknown, index: number, dtype: DType): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  const range = INTEGER_RANGES[dtype];
  const fits =
    typeof number === 'number' &&
    (range === undefined || (Number.isInteger(number) && number >= range[0] && number <= range[1]));
  if (fits) return number;
  const expected = range === undefined ? 'a number' : `an integer from ${range[0]} to ${range[1]}`;
  const got = typeof number === 'number' ? String(value) : typeof value;
  throw invalid(`expected ${expected} for data[${index}], got ${got}`);
}

/** Reads each element once: an array's getter may give another value the second time. */
function convertElements(data: ArrayLike<unknown>, dtype: DType): TypedArray {
  const target = typedArrayFor(dtype, data.length, 'tensor');
  for (let i = 0; i < target.length; i++) {
    const value = checkElement(data[i], i, dtype);
    if (target instanceof BigInt64Array) target[i] = BigInt(value);
    else target[i] = dtype === 'bool' ? Number(value !== 0) : value;
  }
  return target;
}

/**
 * A tensor with a copy of `data` in row-major order. Default shape: [data.length]; its product must be the number of
 * elements. The dtype follows the array: Float32Array float32, Float64Array float64, Float16Array float16, BigInt64Array
 * int64, Uint8Array uint8, other integers int64, numbers float32. A Uint16Array holds float16 or bfloat16 bits and needs
 * `dtype`. Throws TensorError for an element that an integer dtype cannot hold.
 */
export function tensor(
  data: TypedArray | ConvertibleArray,
  options: CreationOptions & { shape?: readonly number[] } = {},
): Tensor {
  checkOptions(options, 'tensor', [...CREATION, 'shape']);
  const kind = kindOf(data);
  if (!Array.isArray(data) && kind === undefined) {
    throw invalid(
      `expected an array of numbers or a typed array for data, got ${data === null ? 'null' : typeof data}`,
    );
  }
  const shape = integersOf(options.shape ?? [data.length], 'shape', 'tensor');
  const device = deviceCode(options.device ?? defaultDevice);
  const make = (elements: TypedArray, dtype: DType): Tensor =>
    new Tensor(native.fromTypedArray(elements, shape, dtypeCode(dtype), device));

  if (kind === 'Uint16Array') {
    if (options.dtype !== 'float16' && options.dtype !== 'bfloat16') {
      throw invalid(`expected dtype float16 or bfloat16 for a Uint16Array, got ${options.dtype ?? 'none'}`);
    }
    return make(data as Uint16Array, options.dtype);
  }
  const own = kind === undefined ? undefined : DTYPE_OF_ARRAY.get(kind);
  const dtype = options.dtype ?? own ?? (kind === undefined ? 'float32' : 'int64');
  if (own === dtype)
    return make(kind === 'Float16Array' ? bitsOf(data as unknown as ArrayBufferView) : (data as TypedArray), dtype);
  const alwaysFits = own === 'uint8' && dtype === 'int64';
  if (own === undefined || (INTEGER_RANGES[dtype] !== undefined && !alwaysFits)) {
    if (dtype === 'float16' || dtype === 'bfloat16') {
      throw invalid(
        `expected a Uint16Array with the bits of ${dtype}, got numbers; make a float32 tensor and convert it`,
      );
    }
    return make(convertElements(data as ArrayLike<unknown>, dtype), dtype);
  }
  const given = tensor(data, { shape: [...shape], device: options.device ?? defaultDevice });
  try {
    return given.to({ dtype });
  } finally {
    given.dispose();
  }
}

/** The 16 bits of each element. */
const bitsOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint16Array =>
  new Uint16Array(buffer, byteOffset, byteLength / 2);
