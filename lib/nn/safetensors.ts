// The safetensors format: 8 bytes of header length (little endian), a JSON header that names each tensor's dtype, shape
// and place, then the bytes. https://github.com/huggingface/safetensors
import { open } from 'node:fs/promises';
import { writeWhole } from '../../scripts/support/files.mjs';
import { type DType, elementSize, type Tensor, type TypedArray, tensor } from '../tensor/index.js';
import { SafetensorsError } from './errors.js';
import type { StateDict } from './module.js';

const NAMES: Record<DType, string> = {
  float32: 'F32',
  float64: 'F64',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  uint8: 'U8',
  bool: 'BOOL',
};
const DTYPES = new Map(Object.entries(NAMES).map(([dtype, name]) => [name, dtype as DType]));

/** A longer header is taken for a corrupted file; the format's own reader uses the same limit. */
const MAX_HEADER_BYTES = 100_000_000;

/** The header's one key that is no tensor. */
const METADATA = '__metadata__';

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/**
 * Writes tensors, in their order, to a file that appears whole or not at all: until it is whole, an older one stays. Throws
 * WriteError where the system refuses it.
 */
export async function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  if (tensors.has(METADATA)) throw new SafetensorsError(file, `tensor ${METADATA}: the name is the format's own`);
  // Without a prototype, so that every name, also __proto__, is a plain key.
  const header: Record<string, unknown> = Object.create(null);
  if (Object.keys(metadata).length > 0) header[METADATA] = metadata;
  let offset = 0;
  for (const [name, value] of tensors) {
    header[name] = { dtype: NAMES[value.dtype], shape: value.shape, data_offsets: [offset, offset + value.byteLength] };
    offset += value.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  // Padded with spaces so that the data starts at a multiple of 8.
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ');
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));

  await writeWhole(file, async (handle) => {
    await handle.appendFile(Buffer.concat([length, padded]));
    for (const value of tensors.values()) {
      const data = value.toTypedArray();
      await handle.appendFile(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  });
}

function parseHeader(file: string, text: string): { metadata: Record<string, string>; entries: Record<string, Entry> } {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    throw new SafetensorsError(file, 'the header is not JSON');
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new SafetensorsError(file, 'the header is not a JSON object');
  }
  const { [METADATA]: metadata = {}, ...entries } = header as Record<string, unknown>;
  const isText = (value: unknown): value is Record<string, string> =>
    typeof value === 'object' && value !== null && Object.values(value).every((text) => typeof text === 'string');
  if (!isText(metadata)) throw new SafetensorsError(file, `expected an object of strings for ${METADATA}`);
  return { metadata, entries: entries as Record<string, Entry> };
}

/** The tensors must fill the data, without holes and without sharing bytes: anything else is a damaged header. */
function checkCoverage(file: string, entries: Record<string, Entry>, dataBytes: number): void {
  let covered = 0;
  const byPlace = Object.entries(entries).sort(
    ([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1],
  );
  for (const [
    name,
    {
      data_offsets: [start, end],
    },
  ] of byPlace) {
    if (start < covered) throw new SafetensorsError(file, `tensor ${name}: its bytes are another tensor's too`);
    if (start > covered) throw new SafetensorsError(file, `tensor ${name}: no tensor holds the bytes before it`);
    covered = end;
  }
  if (covered !== dataBytes) {
    throw new SafetensorsError(file, `${dataBytes - covered} bytes after the last tensor belong to none`);
  }
}

function checkEntry(file: string, name: string, entry: Entry, dataBytes: number): DType {
  const dtype = DTYPES.get(entry?.dtype);
  if (dtype === undefined) {
    throw new SafetensorsError(
      file,
      `tensor ${name}: expected a dtype of ${[...DTYPES.keys()].join(', ')}, got ${entry?.dtype}`,
    );
  }
  const isSize = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(entry.shape) || !entry.shape.every(isSize)) {
    throw new SafetensorsError(file, `tensor ${name}: expected a list of sizes for shape`);
  }
  const [start, end] = Array.isArray(entry.data_offsets) ? entry.data_offsets : [];
  if (!isSize(start) || !isSize(end) || end! < start! || end! > dataBytes) {
    throw new SafetensorsError(
      file,
      `tensor ${name}: its bytes ${start} to ${end} lie outside the file's ${dataBytes}`,
    );
  }
  const expected = entry.shape.reduce((product, size) => product * size, 1) * elementSize(dtype);
  if (end! - start! !== expected) {
    throw new SafetensorsError(file, `tensor ${name}: expected ${expected} bytes for its shape, got ${end! - start!}`);
  }
  return dtype;
}

function asTypedArray(dtype: DType, bytes: Uint8Array): TypedArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    case 'float64':
      return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
    case 'int64':
      return new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
    case 'float16':
    case 'bfloat16':
      return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
    default:
      return bytes;
  }
}

export interface SafetensorsFile {
  readonly tensors: StateDict;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads every tensor of a file. They belong to the caller, who disposes them.
 * Throws SafetensorsError, naming the file and the tensor, for anything that does not fit the format.
 */
export async function readSafetensors(file: string): Promise<SafetensorsFile> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const prefix = Buffer.alloc(8);
    if ((await handle.read(prefix, 0, 8, 0)).bytesRead < 8) throw new SafetensorsError(file, 'shorter than 8 bytes');
    const headerLength = Number(prefix.readBigUInt64LE());
    if (headerLength > MAX_HEADER_BYTES || headerLength > size - 8) {
      throw new SafetensorsError(file, `its header would be ${headerLength} bytes of a file of ${size}`);
    }
    const headerBytes = Buffer.alloc(headerLength);
    await handle.read(headerBytes, 0, headerLength, 8);
    const { metadata, entries } = parseHeader(file, headerBytes.toString('utf8'));

    const dataStart = 8 + headerLength;
    const checked = Object.entries(entries).map(([name, entry]) => ({
      name,
      entry,
      dtype: checkEntry(file, name, entry, size - dataStart),
    }));
    checkCoverage(file, entries, size - dataStart);
    const tensors: StateDict = new Map();
    try {
      for (const { name, entry, dtype } of checked) {
        const bytes = new Uint8Array(entry.data_offsets[1] - entry.data_offsets[0]);
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, dataStart + entry.data_offsets[0]);
        if (bytesRead !== bytes.length)
          throw new SafetensorsError(file, `tensor ${name}: the file ends before its last byte`);
        tensors.set(name, tensor(asTypedArray(dtype, bytes), { shape: entry.shape, dtype }));
      }
    } catch (error) {
      for (const value of tensors.values()) value.dispose();
      throw error;
    }
    return { tensors, metadata };
  } finally {
    await handle.close();
  }
}
