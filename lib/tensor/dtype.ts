import { TensorError } from './errors.js';

/** Element types, with LibTorch's code of each (c10::ScalarType). */
const DTYPE_CODES = {
  uint8: 0,
  int64: 4,
  float16: 5,
  float32: 6,
  float64: 7,
  bool: 11,
  bfloat16: 15,
} as const;

/** Element types of tensors, by PyTorch's names. */
export type DType = keyof typeof DTYPE_CODES;

const DTYPE_NAMES = new Map<number, DType>(Object.entries(DTYPE_CODES).map(([name, code]) => [code, name as DType]));

const ELEMENT_SIZES: Record<DType, number> = {
  uint8: 1,
  int64: 8,
  float16: 2,
  float32: 4,
  float64: 8,
  bool: 1,
  bfloat16: 2,
};

/** How a 4-dimensional tensor lies in memory: NCHW ("contiguous") or NHWC ("channelsLast"). */
export type MemoryFormat = 'contiguous' | 'preserve' | 'channelsLast';
const MEMORY_FORMAT_CODES: Record<MemoryFormat, number> = { contiguous: 0, preserve: 1, channelsLast: 2 };

/** What a loss does with the values of a batch. */
export type Reduction = 'none' | 'mean' | 'sum';
const REDUCTION_CODES: Record<Reduction, number> = { none: 0, mean: 1, sum: 2 };

/** How GELU is computed: by the error function, or approximated by tanh. */
export type GeluApproximation = 'none' | 'tanh';
const GELU_APPROXIMATION_CODES: Record<GeluApproximation, number> = { none: 0, tanh: 1 };

function codeOf<K extends string, Code>(codes: Record<K, Code>, what: string, name: K): Code {
  // Not the names that every object has.
  if (!Object.hasOwn(codes, name)) {
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: what,
      message: `expected one of ${Object.keys(codes).join(', ')} for ${what}, got ${String(name)}`,
    });
  }
  return codes[name];
}

export const dtypeCode = (name: DType): number => codeOf(DTYPE_CODES, 'dtype', name);
export const memoryFormatCode = (name: MemoryFormat): number => codeOf(MEMORY_FORMAT_CODES, 'memoryFormat', name);
export const reductionCode = (name: Reduction): number => codeOf(REDUCTION_CODES, 'reduction', name);
export const geluApproximationCode = (name: GeluApproximation): number =>
  codeOf(GELU_APPROXIMATION_CODES, 'approximate', name);

/** The name of a LibTorch element type; throws TensorError for one that is not supported here. */
export function dtypeName(code: number): DType {
  const name = DTYPE_NAMES.get(code);
  if (name === undefined) {
    throw new TensorError({ code: 'INVALID_ARGUMENT', operator: 'dtype', message: `unsupported element type ${code}` });
  }
  return name;
}

/** Bytes of one element. */
export const elementSize = (dtype: DType): number => ELEMENT_SIZES[dtype];

/** The typed arrays that carry elements; float16 and bfloat16 travel as their 16 bits. */
export type TypedArray = Float32Array | Float64Array | BigInt64Array | Uint8Array | Uint16Array;

const TYPED_ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

/**
 * A new typed array of `length` elements that can hold values of `dtype`, for `operator`. Throws TensorError (OUT_OF_MEMORY)
 * for more than JavaScript can hold in one, as a view that repeats its elements can have.
 */
export function typedArrayFor(dtype: DType, length: number, operator: string): TypedArray {
  const Kind = codeOf<DType, (typeof TYPED_ARRAYS)[DType]>(TYPED_ARRAYS, 'dtype', dtype);
  try {
    return new Kind(length);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new TensorError({
      code: 'OUT_OF_MEMORY',
      operator,
      message: `no typed array can hold ${length} elements of ${dtype}`,
      cause,
    });
  }
}
