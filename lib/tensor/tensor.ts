import { inspect } from 'node:util';
import { type Device, deviceName } from './device.js';
import { type DType, dtypeName, type MemoryFormat, memoryFormatCode, type TypedArray, typedArrayFor } from './dtype.js';
import { TensorError } from './errors.js';
import { TensorOperators } from './generated/operators.js';
import { checkOptions, DISPOSED, handleOrNone, NONE } from './handle.js';
import { native } from './native.js';
import { exchanging, register, scope, setTensorTest, unregister } from './scope.js';

/** Entries of arrays, 8 bytes each and more: many more end the process, for V8 cannot refuse them. */
const MOST_ENTRIES = 2 ** 25;

/**
 * A LibTorch tensor. Its memory is native: it is freed by the scope it was made in, by `dispose()` or `using`, and as a
 * last resort by garbage collection. Using it afterwards throws a TensorError of code TENSOR_DISPOSED.
 */
export class Tensor extends TensorOperators {
  #handle: number;
  #shape: readonly number[] | undefined;

  /** @internal Use the creation functions. */
  constructor(handle: number) {
    super();
    this.#handle = handle;
    register(this);
  }

  /** @internal The native handle. */
  override get handle(): number {
    return this.#handle;
  }

  /** @internal */
  override adopt(handle: number): Tensor {
    return new Tensor(handle);
  }

  /** The size of each dimension; [] for a scalar. */
  get shape(): readonly number[] {
    this.#shape ??= Object.freeze(native.shape(this.#handle));
    return this.#shape;
  }

  /** The number of dimensions. */
  get dim(): number {
    return this.shape.length;
  }

  /** The number of elements. */
  get numel(): number {
    return this.shape.reduce((product, size) => product * size, 1);
  }

  get dtype(): DType {
    return dtypeName(native.dtype(this.#handle));
  }

  get device(): Device {
    return deviceName(native.device(this.#handle));
  }

  /** Elements between neighbours, for each dimension. */
  get strides(): readonly number[] {
    return native.strides(this.#handle);
  }

  /** Bytes of the elements: not of the storage, which views share. */
  get byteLength(): number {
    return native.byteLength(this.#handle);
  }

  /** Whether its values lie row-major in memory (`contiguous`), or channels-last. */
  isContiguous(memoryFormat: MemoryFormat = 'contiguous'): boolean {
    return native.isContiguous(this.#handle, memoryFormatCode(memoryFormat));
  }

  /** Whether autograd records what is done with this tensor. */
  get requiresGrad(): boolean {
    return native.requiresGrad(this.#handle);
  }

  set requiresGrad(required: boolean) {
    native.setRequiresGrad(this.#handle, required);
  }

  /** The gradient that backward() accumulated, or null. */
  get grad(): Tensor | null {
    const handle = native.grad(this.#handle);
    return handle === NONE ? null : new Tensor(handle);
  }

  /**
   * Adds the derivative of this tensor to the `grad` of every leaf that requires one.
   * `gradient` is needed unless this tensor is a scalar; `retainGraph` allows a second backward pass.
   */
  backward(options: { gradient?: Tensor; retainGraph?: boolean } = {}): void {
    checkOptions(options, 'backward', ['gradient', 'retainGraph']);
    const { gradient = null, retainGraph = false } = options;
    native.backward(this.#handle, handleOrNone(gradient, 'gradient', 'backward'), retainGraph);
  }

  /** @internal Whether another tensor lies in the same memory, such as a view of this one. */
  get sharesMemory(): boolean {
    return native.sharesMemory(this.#handle);
  }

  /**
   * The only element, as a number. Waits for the device. Throws TensorError for any other number of elements, and for an int64
   * beyond 2^53 that a number does not hold exactly; `toTypedArray` does.
   */
  item(): number {
    const value = native.item(this.#handle);
    if (Math.abs(value) > Number.MAX_SAFE_INTEGER && this.dtype === 'int64') {
      return exactNumber((this.toTypedArray() as BigInt64Array)[0]!, 'item');
    }
    return value;
  }

  /** A copy of the elements in row-major order; float16 and bfloat16 as their bits. Waits for the device. */
  toTypedArray(): TypedArray {
    const target = typedArrayFor(this.dtype, this.numel, 'toTypedArray');
    native.writeTypedArray(this.#handle, target);
    return target;
  }

  /** A copy of the elements as float32, from any dtype, in row-major order. Waits for the device. */
  toFloat32Array(): Float32Array {
    if (this.dtype === 'float32') return this.toTypedArray() as Float32Array;
    return scope(() => this.detach().to({ dtype: 'float32' }).toTypedArray() as Float32Array);
  }

  /**
   * The elements as nested arrays of numbers. Throws TensorError (OUT_OF_MEMORY) for more than 2^25 entries of arrays, and, like
   * `item`, for an int64 that a number does not hold exactly.
   */
  toArray(): unknown {
    let [entries, ofDepth] = [0, 1];
    for (const size of this.shape) {
      ofDepth *= size;
      entries += ofDepth;
    }
    if (entries > MOST_ENTRIES) {
      throw new TensorError({
        code: 'OUT_OF_MEMORY',
        operator: 'toArray',
        message: `nested arrays of shape [${this.shape.join(', ')}] are too large; toTypedArray() holds more`,
      });
    }
    const elements = EXACT.has(this.dtype) ? this.toTypedArray() : this.toFloat32Array();
    const flat =
      elements instanceof BigInt64Array
        ? Array.from(elements, (element) => exactNumber(element, 'toArray'))
        : Array.from(elements);
    const nest = ([size, ...inner]: readonly number[], start: number): unknown => {
      if (size === undefined) return flat[start];
      const stride = inner.reduce((product, n) => product * n, 1);
      return Array.from({ length: size }, (_, i) => nest(inner, start + i * stride));
    };
    return nest(this.shape, 0);
  }

  /** @internal Takes over the native tensor of `other`, which is left disposed; for moving a parameter in place. */
  become(other: Tensor): void {
    if (other === this) return;
    unregister(other);
    exchanging(this, () => {
      native.dispose(this.#handle);
      this.#handle = other.#handle;
      this.#shape = undefined;
      other.#handle = DISPOSED;
    });
  }

  get isDisposed(): boolean {
    return this.#handle === DISPOSED;
  }

  /** Gives the native memory back. A second call does nothing. */
  dispose(): void {
    if (this.#handle !== DISPOSED) native.dispose(this.release());
  }

  /** @internal Leaves this tensor disposed; the caller gives its native handle back. */
  release(): number {
    const handle = this.#handle;
    unregister(this);
    this.#handle = DISPOSED;
    this.#shape = undefined;
    return handle;
  }

  /** As `dispose`, at the end of a `using` declaration. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  override toString(): string {
    return this.isDisposed ? 'Tensor(disposed)' : `Tensor(${this.dtype}[${this.shape.join(', ')}] on ${this.device})`;
  }

  /** What `console.log` prints. */
  [inspect.custom](): string {
    return this.toString();
  }

  /** A tensor is no string and no number: an implicit conversion is a mistake. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.toString();
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'toPrimitive',
      message: 'a tensor is not a number; use item() for its only element',
    });
  }
}

/** Those whose elements float32 does not hold exactly. */
const EXACT: ReadonlySet<DType> = new Set<DType>(['int64', 'float64']);

function exactNumber(element: bigint, operator: string): number {
  const number = Number(element);
  if (BigInt(number) === element) return number;
  throw new TensorError({
    code: 'INVALID_ARGUMENT',
    operator,
    message: `a number does not hold ${element} exactly; use toTypedArray()`,
  });
}

setTensorTest((value) => value instanceof Tensor);
