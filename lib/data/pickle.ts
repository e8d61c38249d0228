import { DataError } from './errors.js';

/** A numpy array of bytes, C order. */
export interface ByteArray {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export type PickleValue = number | boolean | null | Uint8Array | ByteArray | PickleValue[] | Map<string, PickleValue>;

/**
 * Reads what numpy 1.x under Python 2 pickled at protocol 2 in the official CIFAR-10 files: dictionaries and lists of
 * integers, byte strings and uint8 arrays. Nothing named in the file is looked up or run: the three names of numpy that such
 * an array is made of are recognised, any other name and any other opcode is refused. Byte strings and arrays share memory
 * with `bytes`; dictionary keys are decoded as latin1.
 *
 * Throws `DataError`: DATA_UNSUPPORTED for another opcode, name or dtype, DATA_CORRUPT for a damaged file; `file` is named.
 */
export function unpickle(bytes: Uint8Array, file: string): PickleValue {
  return new Unpickler(bytes, file).read();
}

/**
 * Values and memo entries that a file may make: an official one makes some 40,000. Each byte can be a value of a hundred bytes, so
 * that without a limit a file of 30 MB takes gigabytes.
 */
const MAX_VALUES = 2 ** 18;

/** The official files nest no containers deeper. */
const MAX_DEPTH = 8;

/** Bytes of a dictionary's key and of a dtype's name, and dimensions of an array: each is copied wherever the file refers to it. */
const MAX_NAME_BYTES = 64;
const MAX_DIMENSIONS = 32;

/** Objects that exist only while an array is being put together. */
class Tuple {
  constructor(readonly items: readonly StackValue[]) {}
}
class Dtype {
  readonly kind = 'uint8';
}
class UnfilledArray {
  shape: readonly number[] = [0];
  data = new Uint8Array(0);
}
class GlobalName {
  constructor(readonly name: string) {}
}
class Mark {
  readonly kind = 'mark';
}
type StackValue =
  | PickleValue
  | Tuple
  | Dtype
  | UnfilledArray
  | GlobalName
  | Mark
  | StackValue[]
  | Map<string, StackValue>;

const RECONSTRUCT = 'numpy.core.multiarray._reconstruct';
const NDARRAY = 'numpy.ndarray';
const DTYPE = 'numpy.dtype';
const GLOBALS: ReadonlySet<string> = new Set([RECONSTRUCT, NDARRAY, DTYPE]);

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #file: string;
  readonly #stack: StackValue[] = [];
  readonly #memo = new Map<number, StackValue>();
  #at = 0;
  #values = 0;

  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
  }

  read(): PickleValue {
    for (;;) {
      const opcode = this.#bytes[this.#advance(1)]!;
      if (opcode === 0x2e /* STOP */) return this.#finished(this.#pop(), 0);
      if (++this.#values > MAX_VALUES) throw this.#unsupported(`more than ${MAX_VALUES} values`);
      this.#execute(opcode);
    }
  }

  #execute(opcode: number): void {
    const stack = this.#stack;
    switch (opcode) {
      case 0x80: // PROTO
        this.#protocol(this.#uint8());
        break;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map());
        break;
      case 0x5d: // EMPTY_LIST
        stack.push([]);
        break;
      case 0x29: // EMPTY_TUPLE
        stack.push(new Tuple([]));
        break;
      case 0x28: // MARK
        stack.push(new Mark());
        break;
      case 0x4e: // NONE
        stack.push(null);
        break;
      case 0x88: // NEWTRUE
        stack.push(true);
        break;
      case 0x89: // NEWFALSE
        stack.push(false);
        break;
      case 0x4b: // BININT1
        stack.push(this.#uint8());
        break;
      case 0x4d: // BININT2
        stack.push(this.#view.getUint16(this.#advance(2), true));
        break;
      case 0x4a: // BININT
        stack.push(this.#view.getInt32(this.#advance(4), true));
        break;
      case 0x55: // SHORT_BINSTRING
        stack.push(this.#string(this.#uint8()));
        break;
      case 0x54: // BINSTRING
        stack.push(this.#string(this.#view.getInt32(this.#advance(4), true)));
        break;
      case 0x71: // BINPUT
        this.#memo.set(this.#uint8(), this.#top());
        break;
      case 0x72: // LONG_BINPUT
        this.#memo.set(this.#view.getUint32(this.#advance(4), true), this.#top());
        break;
      case 0x68: // BINGET
        stack.push(this.#remembered(this.#uint8()));
        break;
      case 0x6a: // LONG_BINGET
        stack.push(this.#remembered(this.#view.getUint32(this.#advance(4), true)));
        break;
      case 0x85: // TUPLE1
        stack.push(new Tuple(this.#popCount(1)));
        break;
      case 0x86: // TUPLE2
        stack.push(new Tuple(this.#popCount(2)));
        break;
      case 0x87: // TUPLE3
        stack.push(new Tuple(this.#popCount(3)));
        break;
      case 0x74: // TUPLE
        stack.push(new Tuple(this.#popToMark()));
        break;
      case 0x61: // APPEND
        this.#append(this.#popCount(1));
        break;
      case 0x65: // APPENDS
        this.#append(this.#popToMark());
        break;
      case 0x73: // SETITEM
        this.#setItems(this.#popCount(2));
        break;
      case 0x75: // SETITEMS
        this.#setItems(this.#popToMark());
        break;
      case 0x63: // GLOBAL
        stack.push(this.#global());
        break;
      case 0x52: // REDUCE
        stack.push(this.#reduce());
        break;
      case 0x62: // BUILD
        this.#build();
        break;
      default:
        throw this.#unsupported(`the pickle opcode ${opcodeName(opcode)} at byte ${this.#at - 1}`);
    }
  }

  #protocol(version: number): void {
    if (version !== 2) throw this.#unsupported(`pickle protocol ${version}`);
  }

  #global(): GlobalName {
    const name = `${this.#line()}.${this.#line()}`;
    if (!GLOBALS.has(name)) throw this.#unsupported(`the name ${name} (opcode GLOBAL)`);
    return new GlobalName(name);
  }

  /** numpy pickles an array as _reconstruct(ndarray, (0,), 'b') and a dtype as dtype('u1', 0, 1), each followed by BUILD. */
  #reduce(): StackValue {
    const [callable, args] = this.#popCount(2);
    if (!(callable instanceof GlobalName) || !(args instanceof Tuple)) throw this.#corrupt('REDUCE without a name');
    const [first] = args.items;
    if (callable.name === RECONSTRUCT && first instanceof GlobalName && first.name === NDARRAY)
      return new UnfilledArray();
    if (callable.name === DTYPE && first instanceof Uint8Array) {
      const dtype = this.#name(first);
      if (dtype !== 'u1') throw this.#unsupported(`an array of dtype '${dtype}'`);
      return new Dtype();
    }
    throw this.#unsupported(`a call of ${callable.name} with these arguments (opcode REDUCE)`);
  }

  #build(): void {
    const state = this.#pop();
    const object = this.#top();
    if (!(state instanceof Tuple)) throw this.#corrupt('BUILD without a tuple');
    // A dtype's state is byte order and alignment, which say nothing about single bytes.
    if (object instanceof Dtype) return;
    if (!(object instanceof UnfilledArray)) throw this.#corrupt('BUILD of something else than an array');
    const [, shape, dtype, fortranOrder, data] = state.items;
    if (!(shape instanceof Tuple) || !(dtype instanceof Dtype) || !(data instanceof Uint8Array)) {
      throw this.#corrupt('an array whose state is not (version, shape, dtype, order, bytes)');
    }
    if (fortranOrder !== false) throw this.#unsupported('an array in Fortran order');
    if (shape.items.length > MAX_DIMENSIONS) throw this.#corrupt(`an array of ${shape.items.length} dimensions`);
    const sizes = shape.items.filter((size) => typeof size === 'number');
    const elements = sizes.reduce((product, size) => product * size, 1);
    if (sizes.length !== shape.items.length || elements !== data.length) {
      throw this.#corrupt(`an array of shape [${sizes.join(', ')}] with ${data.length} bytes`);
    }
    object.shape = sizes;
    object.data = data as Uint8Array<ArrayBuffer>;
  }

  #append(items: StackValue[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#corrupt('APPENDS to something else than a list');
    for (const item of items) (list as StackValue[]).push(item);
  }

  #setItems(items: StackValue[]): void {
    const dictionary = this.#top();
    if (!(dictionary instanceof Map) || items.length % 2 !== 0)
      throw this.#corrupt('SETITEMS on something else than pairs');
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (!(key instanceof Uint8Array)) throw this.#corrupt('a dictionary key that is no string');
      (dictionary as Map<string, StackValue>).set(this.#name(key), items[i + 1]!);
    }
  }

  readonly #containers = new Set<StackValue>();

  /** A container that is held twice, or holds itself, is refused: what it unfolds to has no bound. */
  #finished(value: StackValue, depth: number): PickleValue {
    if (value === null || typeof value === 'number' || typeof value === 'boolean' || value instanceof Uint8Array)
      return value;
    if (value instanceof UnfilledArray) return { shape: value.shape, data: value.data };
    if (!Array.isArray(value) && !(value instanceof Map)) {
      throw this.#unsupported('a value that is neither a dictionary, a list, a number, a string nor an array');
    }
    if (this.#containers.has(value)) throw this.#unsupported('a list or dictionary that is held twice');
    if (depth > MAX_DEPTH) throw this.#unsupported('containers nested too deep');
    this.#containers.add(value);
    const finished = (item: StackValue): PickleValue => this.#finished(item, depth + 1);
    if (Array.isArray(value)) return (value as StackValue[]).map(finished);
    return new Map([...(value as Map<string, StackValue>)].map(([key, item]) => [key, finished(item)]));
  }

  #uint8(): number {
    return this.#bytes[this.#advance(1)]!;
  }

  #string(length: number): Uint8Array {
    if (length < 0) throw this.#corrupt('a string of negative length');
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#corrupt('it ends early');
    const start = this.#advance(end + 1 - this.#at);
    return this.#name(this.#bytes.subarray(start, end));
  }

  #name(bytes: Uint8Array): string {
    if (bytes.length > MAX_NAME_BYTES) throw this.#unsupported(`a name of ${bytes.length} bytes`);
    return latin1(bytes);
  }

  /** Advances by `length` bytes; returns where they start. */
  #advance(length: number): number {
    const start = this.#at;
    if (start + length > this.#bytes.length) throw this.#corrupt('it ends early');
    this.#at += length;
    return start;
  }

  #pop(): StackValue {
    const value = this.#stack.pop();
    if (value === undefined || value instanceof Mark) throw this.#corrupt('its stack runs empty');
    return value;
  }

  #top(): StackValue {
    const value = this.#stack.at(-1);
    if (value === undefined) throw this.#corrupt('its stack runs empty');
    return value;
  }

  #popCount(count: number): StackValue[] {
    return Array.from({ length: count }, () => this.#pop()).reverse();
  }

  #popToMark(): StackValue[] {
    const mark = this.#stack.findLastIndex((value) => value instanceof Mark);
    if (mark < 0) throw this.#corrupt('a mark is missing');
    return this.#stack.splice(mark).slice(1);
  }

  #remembered(key: number): StackValue {
    const value = this.#memo.get(key);
    if (value === undefined) throw this.#corrupt(`it refers to memo ${key}, which was not set`);
    return value;
  }

  #corrupt(what: string): DataError {
    return new DataError('DATA_CORRUPT', `${this.#file} is damaged: ${what}`);
  }

  #unsupported(what: string): DataError {
    return new DataError('DATA_UNSUPPORTED', `${this.#file}: refused ${what}; the official CIFAR-10 files have none`);
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** Names of Python's pickletools for the opcodes that are not read. */
const REFUSED_OPCODES: ReadonlyMap<number, string> = new Map([
  ...Object.entries({
    I: 'INT',
    L: 'LONG',
    S: 'STRING',
    B: 'BINBYTES',
    C: 'SHORT_BINBYTES',
    V: 'UNICODE',
    X: 'BINUNICODE',
    F: 'FLOAT',
    G: 'BINFLOAT',
    l: 'LIST',
    d: 'DICT',
    '0': 'POP',
    '2': 'DUP',
    '1': 'POP_MARK',
    g: 'GET',
    p: 'PUT',
    i: 'INST',
    o: 'OBJ',
    P: 'PERSID',
    Q: 'BINPERSID',
  }).map(([letter, name]): [number, string] => [letter.charCodeAt(0), name]),
  ...([
    [0x81, 'NEWOBJ'],
    [0x82, 'EXT1'],
    [0x83, 'EXT2'],
    [0x84, 'EXT4'],
    [0x8a, 'LONG1'],
    [0x8b, 'LONG4'],
    [0x8c, 'SHORT_BINUNICODE'],
    [0x8d, 'BINUNICODE8'],
    [0x8e, 'BINBYTES8'],
    [0x8f, 'EMPTY_SET'],
    [0x90, 'ADDITEMS'],
    [0x91, 'FROZENSET'],
    [0x92, 'NEWOBJ_EX'],
    [0x93, 'STACK_GLOBAL'],
    [0x94, 'MEMOIZE'],
    [0x95, 'FRAME'],
    [0x96, 'BYTEARRAY8'],
    [0x97, 'NEXT_BUFFER'],
    [0x98, 'READONLY_BUFFER'],
  ] as [number, string][]),
]);

function opcodeName(opcode: number): string {
  return REFUSED_OPCODES.get(opcode) ?? `0x${opcode.toString(16).padStart(2, '0')}`;
}
