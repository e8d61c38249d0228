// Tensors made of whatever a caller without types may pass: data, shapes, dtypes, devices.
import {
  arange,
  empty,
  full,
  memoryStats,
  ones,
  rand,
  randn,
  scope,
  type Tensor,
  TensorError,
  tensor,
} from '../../lib/tensor/index.js';
import { Choices } from './choices.js';
import type { Fuzzed } from './fuzzed.js';
import { anyDType, anyShape, elements } from './tensors.js';

interface ArrayKind {
  new (buffer: ArrayBufferLike, offset: number, count?: number): ArrayBufferView;
  readonly BYTES_PER_ELEMENT: number;
}

const ARRAYS: readonly ArrayKind[] = [
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  Uint8Array,
  Uint8ClampedArray,
  Int8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
];
const ODD_VALUES: readonly unknown[] = [NaN, Infinity, -1, 0.5, 256, 2 ** 53, '1', null, undefined, 1n, {}];
/** What cannot be allocated anywhere, so that no case takes the machine's memory. */
const ODD_SIZES: readonly unknown[] = [-1, 0.5, NaN, 2 ** 48 + 1, 2 ** 53 - 1, 2 ** 53, '2', null, undefined];

/** An array whose length is another than it has. */
const posing = (length: unknown): unknown =>
  new Proxy([1, 2], { get: (a, key) => (key === 'length' ? length : a[key as never]) });
const NO_DATA = [
  undefined,
  null,
  3,
  'x',
  {},
  { length: 2 ** 40 },
  new DataView(new ArrayBuffer(8)),
  posing(2 ** 50),
  posing(-1),
  posing('x'),
  posing(1),
];

/** The language has it, and its type declarations here do not yet. */
interface ResizableBuffer extends ArrayBuffer {
  resize(length: number): void;
}
type ResizableBufferConstructor = new (length: number, options: { maxByteLength: number }) => ResizableBuffer;

/** A view of memory that may move or shrink: what does so, beside the view. */
function anyView(choices: Choices, count: number): { data: ArrayBufferView; meddle: () => void } {
  const Kind = choices.of(ARRAYS);
  const bytes = (count + 2) * Kind.BYTES_PER_ELEMENT;
  const offset = choices.below(3) * Kind.BYTES_PER_ELEMENT;
  switch (choices.below(4)) {
    case 0: {
      const buffer = new (ArrayBuffer as unknown as ResizableBufferConstructor)(bytes, { maxByteLength: 2 * bytes });
      const isTracking = choices.chance(0.5);
      const data = isTracking ? new Kind(buffer, offset) : new Kind(buffer, offset, count);
      return { data, meddle: () => buffer.resize(choices.below(2 * bytes)) };
    }
    case 1:
      return { data: new Kind(new SharedArrayBuffer(bytes), offset, count), meddle: () => {} };
    default: {
      const buffer = new ArrayBuffer(bytes);
      return { data: new Kind(buffer, offset, count), meddle: () => void structuredClone(0, { transfer: [buffer] }) };
    }
  }
}

function anyArray(choices: Choices, count: number): unknown[] {
  const array = choices.list(count, (): unknown => choices.below(5));
  if (count > 0 && choices.chance(0.2)) array[choices.below(count)] = choices.of(ODD_VALUES);
  if (count > 0 && choices.chance(0.1)) delete array[choices.below(count)];
  return array;
}

function make(choices: Choices): Tensor {
  const shape: unknown[] = anyShape(choices, choices.below(4));
  const count = elements(shape as number[]);
  if (shape.length > 0 && choices.chance(0.1)) shape[choices.below(shape.length)] = choices.of(ODD_SIZES);
  const options: Record<string, unknown> = {};
  if (choices.chance(0.7)) options.dtype = choices.chance(0.9) ? anyDType(choices) : choices.of(['x', 6, {}, 'int32']);
  if (choices.chance(0.2)) options.device = choices.of(['cpu', 'meta', 'cuda', 'cuda:99', 'x', -1, {}]);
  const any = <T>(value: unknown): T => value as T;
  const value = choices.chance(0.7) ? choices.below(4) : choices.of(ODD_VALUES);
  switch (choices.below(12)) {
    case 0:
      return full(any(shape), any(value), options);
    case 1:
      return empty(any(shape), options);
    case 2:
      return arange(any(choices.chance(0.8) ? choices.below(300) : choices.of([...ODD_SIZES, ...ODD_VALUES])), options);
    case 3:
      return choices.of([rand, randn, ones])(any(shape), options);
    case 4:
      return tensor(any(choices.of(NO_DATA)), options);
    case 5:
    case 6:
      return tensor(any(anyArray(choices, count)), { shape: any(shape), ...options });
    default: {
      const { data, meddle } = anyView(choices, count);
      if (choices.chance(0.1)) meddle();
      const isMeddled = shape.length > 0 && choices.chance(0.2);
      if (isMeddled) {
        const [first] = shape;
        Object.defineProperty(shape, 0, {
          get: () => {
            meddle();
            return first;
          },
        });
      }
      const result = tensor(any(data), { shape: any(shape), ...options });
      if (!isMeddled && options.dtype === undefined && options.device === undefined) compare(result, data);
      return result;
    }
  }
}

/** What was made of an array whose elements lie as the tensor's do has the same bytes. */
function compare(result: Tensor, data: ArrayBufferView): void {
  const own = result.toTypedArray();
  if (own.constructor !== data.constructor || data.byteLength === 0) return;
  const bytes = (view: ArrayBufferView): Buffer =>
    Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);
  if (!bytes(own).equals(bytes(data))) throw new Error(`${result} has other elements than its data`);
}

export const creation: Fuzzed = {
  name: 'creation',
  runCase(position) {
    const { liveTensors } = memoryStats();
    try {
      scope(() => {
        const made = make(new Choices(position));
        if (made.device === 'cpu') made.toArray();
      });
    } catch (error) {
      if (!(error instanceof TensorError)) throw error;
    }
    if (memoryStats().liveTensors !== liveTensors) throw new Error('tensors leaked');
  },
};
