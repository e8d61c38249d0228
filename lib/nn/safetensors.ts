// The safetensors format: 8 bytes of header length (little endian), a JSON header that names each tensor's dtype, shape
// and bytes, then the bytes. https://github.com/huggingface/safetensors
import { type FileHandle, open, stat } from 'node:fs/promises';
import { writeWhole } from '#scripts/support/files.mjs';
import { readRegion, writeRegion } from '../files.js';
import { type DType, elementSize, empty, scope, type Tensor, type TypedArray, tensor } from '../tensor/index.js';
import { SafetensorsError } from './errors.js';
import { describeOtherFormat } from './foreign-weights.js';
import type { StateDict } from './module.js';
import {
  type Header,
  isMetadata,
  METADATA,
  parseHeader,
  type StoredDType,
  type StoredTensor,
  storedElementSize,
} from './safetensors-header.js';

const NAMES: Record<DType, StoredDType> = {
  float32: 'F32',
  float64: 'F64',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  uint8: 'U8',
  bool: 'BOOL',
};
const DTYPES = new Map(Object.entries(NAMES).map(([dtype, name]) => [name, dtype as DType]));

/** What a stored dtype is read as: itself, or int64 for the integers that have no dtype here. */
const dtypeOf = (stored: StoredDType): DType => DTYPES.get(stored) ?? 'int64';

/** A longer header is taken for a corrupted file; the format's own reader uses the same limit. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bytes that are buffered between file and tensors: the tensors themselves may be larger than any typed array. */
const PART_BYTES = 16 * 2 ** 20;

/**
 * Writes tensors, in their order, to a file that appears whole or not at all: until it is whole, an older one stays.
 * Throws SafetensorsError for a name or metadata that the format cannot hold, and WriteError where the system refuses it.
 */
export async function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeInParts(file, tensors, metadata, PART_BYTES);
}

/** @internal `writeSafetensors` with parts of a size that a test can reach. */
export async function writeInParts(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
  partBytes: number,
): Promise<void> {
  const start = encodeHeader(file, tensors, metadata);
  await writeWhole(file, async (handle) => {
    await writeRegion(handle, start, 0);
    let position = start.length;
    for (const value of tensors.values()) {
      for (const bytes of bytesOf(value, partBytes)) {
        await writeRegion(handle, bytes, position);
        position += bytes.length;
      }
    }
  });
}

/** The header with its length, padded with spaces so that the data starts at a multiple of 8. */
function encodeHeader(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  if (tensors.has(METADATA)) throw new SafetensorsError(file, `tensor ${METADATA}: the name is the format's own`);
  if (!isMetadata(metadata)) throw new SafetensorsError(file, 'expected an object of strings for metadata');
  // Without a prototype, so that every name, also __proto__, is a plain key.
  const header: Record<string, unknown> = Object.create(null);
  if (Object.keys(metadata).length > 0) header[METADATA] = metadata;
  let offset = 0;
  for (const [name, value] of tensors) {
    header[name] = { dtype: NAMES[value.dtype], shape: value.shape, data_offsets: [offset, offset + value.byteLength] };
    offset += value.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new SafetensorsError(file, `expected a header of at most ${MAX_HEADER_BYTES} bytes, got ${length}`);
  }
  const start = Buffer.alloc(8 + length, ' ');
  start.writeBigUInt64LE(BigInt(length));
  json.copy(start, 8);
  return start;
}

/** The elements of a tensor in row-major order, a part at a time. */
function* bytesOf(value: Tensor, partBytes: number): Generator<Uint8Array> {
  const bytes = (data: TypedArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (value.byteLength <= partBytes) return yield bytes(value.toTypedArray());
  const elements = Math.floor(partBytes / elementSize(value.dtype));
  using flat = scope(() => value.detach().reshape([-1]));
  for (let start = 0; start < flat.numel; start += elements) {
    yield bytes(scope(() => flat.narrow(0, start, Math.min(elements, flat.numel - start)).toTypedArray()));
  }
}

/** What a safetensors file holds. The tensors belong to the caller, who disposes them. */
export interface SafetensorsFile {
  /** In the order of their bytes. */
  readonly tensors: StateDict;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads every tensor of a file. They belong to the caller, who disposes them. Integers of types that tensors do not have (I8,
 * I16, I32, U16, U32, U64) become int64.
 * Throws SafetensorsError, naming the file and the tensor, for anything that does not fit the format; for a file of another
 * format its message says which, and how to convert it. A file that cannot be opened gives the system's error, such as ENOENT.
 */
export async function readSafetensors(file: string): Promise<SafetensorsFile> {
  return readInParts(file, PART_BYTES);
}

/** @internal `readSafetensors` with parts of a size that a test can reach. */
export async function readInParts(file: string, partBytes: number): Promise<SafetensorsFile> {
  return withHeader(file, async (opened, header) => {
    const tensors: StateDict = new Map();
    try {
      const source = { ...opened, partBytes };
      for (const group of groupsOf(header.tensors, partBytes)) await readGroup(source, group, tensors);
      return { tensors, metadata: header.metadata };
    } catch (error) {
      for (const value of tensors.values()) value.dispose();
      throw error;
    }
  });
}

/** Throws as `readSafetensors` does for a file whose header is not that of a safetensors file of its size. No tensor is read. */
export const checkSafetensors = async (file: string): Promise<void> => void (await readSafetensorsHeader(file));

/** What a safetensors file holds, without its tensors. */
export interface SafetensorsHeader {
  /** Of the tensors by name, in the order of their bytes. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Throws as `readSafetensors` does. No tensor is read. */
export const readSafetensorsHeader = (file: string): Promise<SafetensorsHeader> =>
  withHeader(file, async (_, { tensors, metadata }) => ({
    shapes: new Map(tensors.map(({ name, shape }) => [name, shape])),
    metadata,
  }));

async function withHeader<T>(file: string, read: (opened: TensorFile, header: Header) => Promise<T>): Promise<T> {
  const found = await stat(file);
  if (!found.isFile()) {
    const kind = found.isDirectory() ? 'a directory' : 'something that is no regular file';
    throw new SafetensorsError(file, `expected a safetensors file, got ${kind}`, 'NOT_SAFETENSORS');
  }
  const handle = await open(file, 'r');
  try {
    const headerBytes = await readHeader({ file, handle }, found.size);
    const dataStart = 8 + headerBytes.length;
    return await read({ file, handle, dataStart }, parseHeader(file, headerBytes, found.size - dataStart));
  } finally {
    await handle.close();
  }
}

type Bytes = Uint8Array<ArrayBuffer>;

interface OpenFile {
  readonly file: string;
  readonly handle: FileHandle;
}

interface TensorFile extends OpenFile {
  /** Where the bytes of tensors begin. */
  readonly dataStart: number;
}

interface TensorSource extends TensorFile {
  readonly partBytes: number;
}

async function readHeader(opened: OpenFile, size: number): Promise<Bytes> {
  const { file, handle } = opened;
  const prefix = await readBytes(opened, 'its beginning', 0, Math.min(size, 9));
  const length = size < 8 ? Number.NaN : Number(new DataView(prefix.buffer).getBigUint64(0, true));
  const fits = length <= MAX_HEADER_BYTES && length <= size - 8;
  if (!fits || prefix[8] !== 0x7b /* { */) {
    const other = await describeOtherFormat(handle, file, size);
    if (other !== null)
      throw new SafetensorsError(file, `expected a safetensors file, got ${other}`, 'NOT_SAFETENSORS');
    if (size < 8)
      throw new SafetensorsError(
        file,
        `expected a safetensors file, got ${size === 0 ? 'an empty file' : `${size} bytes`}`,
      );
    if (!fits) throw new SafetensorsError(file, `its header would be ${length} bytes of a file of ${size}`);
  }
  return readBytes(opened, 'the header', 8, 8 + length);
}

async function readBytes(opened: OpenFile, what: string, start: number, end: number): Promise<Bytes> {
  const bytes = new Uint8Array(end - start);
  await fill(opened, what, bytes, start);
  return bytes;
}

async function fill({ file, handle }: OpenFile, what: string, bytes: Bytes, start: number): Promise<void> {
  const got = await readRegion(handle, bytes, start);
  if (got === bytes.length) return;
  throw new SafetensorsError(file, `${what}: expected ${bytes.length} bytes from byte ${start} on, got ${got}`);
}

/**
 * Tensors whose bytes follow each other, at most `partBytes` together, so that small ones come in one read; a larger one is
 * alone.
 */
function* groupsOf(tensors: readonly StoredTensor[], partBytes: number): Generator<readonly StoredTensor[]> {
  let group: StoredTensor[] = [];
  for (const stored of tensors) {
    if (group.length > 0 && stored.end - group[0]!.start > partBytes) {
      yield group;
      group = [];
    }
    group.push(stored);
  }
  if (group.length > 0) yield group;
}

async function readGroup(source: TensorSource, group: readonly StoredTensor[], into: StateDict): Promise<void> {
  const { file, dataStart, partBytes } = source;
  const [{ start: from, name }] = group as [StoredTensor];
  const to = group.at(-1)!.end;
  if (to - from > partBytes) return readLarge(source, group[0]!, into);
  const bytes = await readBytes(source, `tensor ${name}`, dataStart + from, dataStart + to);
  for (const stored of group) {
    const elements = elementsOf(file, stored, bytes.subarray(stored.start - from, stored.end - from));
    into.set(stored.name, tensor(elements, { shape: stored.shape, dtype: dtypeOf(stored.dtype) }));
  }
}

async function readLarge(source: TensorSource, stored: StoredTensor, into: StateDict): Promise<void> {
  const { file, dataStart, partBytes } = source;
  const { name, dtype, shape, start, end } = stored;
  const target = empty(shape, { dtype: dtypeOf(dtype) });
  into.set(name, target);
  const size = storedElementSize(dtype);
  const partLength = Math.floor(partBytes / size) * size;
  const buffer = new Uint8Array(Math.min(partLength, end - start));
  for (let at = start; at < end; at += partLength) {
    const bytes = buffer.subarray(0, end - at);
    await fill(source, `tensor ${name}`, bytes, dataStart + at);
    scope(() => {
      const part = tensor(elementsOf(file, stored, bytes), { dtype: target.dtype });
      target
        .reshape([-1])
        .narrow(0, (at - start) / size, part.numel)
        .copy_(part);
    });
  }
}

/** Stored bytes as the elements of the tensor that they become. */
function elementsOf(file: string, { name, dtype }: StoredTensor, bytes: Bytes): TypedArray {
  const length = bytes.byteLength / storedElementSize(dtype);
  // A typed array of wider elements begins at a multiple of their size.
  const { buffer, byteOffset } = bytes.byteOffset % storedElementSize(dtype) === 0 ? bytes : bytes.slice();
  switch (dtype) {
    case 'F64':
      return new Float64Array(buffer, byteOffset, length);
    case 'F32':
      return new Float32Array(buffer, byteOffset, length);
    case 'F16':
    case 'BF16':
      return new Uint16Array(buffer, byteOffset, length);
    case 'I64':
      return new BigInt64Array(buffer, byteOffset, length);
    case 'U64': {
      const values = new BigInt64Array(buffer, byteOffset, length);
      const tooLarge = values.find((value) => value < 0n);
      if (tooLarge === undefined) return values;
      throw new SafetensorsError(
        file,
        `tensor ${name}: expected values below 2^63, got ${BigInt.asUintN(64, tooLarge)}`,
        'SAFETENSORS_UNSUPPORTED',
      );
    }
    case 'I32':
      return toInt64(new Int32Array(buffer, byteOffset, length));
    case 'U32':
      return toInt64(new Uint32Array(buffer, byteOffset, length));
    case 'I16':
      return toInt64(new Int16Array(buffer, byteOffset, length));
    case 'U16':
      return toInt64(new Uint16Array(buffer, byteOffset, length));
    case 'I8':
      return toInt64(new Int8Array(buffer, byteOffset, length));
    case 'U8':
    case 'BOOL':
      return bytes;
  }
}

/** Integers of at most 32 bits, low word and sign: quicker than a BigInt for each. */
function toInt64(values: Int8Array | Int16Array | Uint16Array | Int32Array | Uint32Array): BigInt64Array {
  const words = new Int32Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    words[2 * i] = value;
    words[2 * i + 1] = value < 0 ? -1 : 0;
  }
  return new BigInt64Array(words.buffer);
}
