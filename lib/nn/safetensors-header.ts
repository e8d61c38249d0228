// The header of a safetensors file: a JSON object that names each tensor's dtype, shape and bytes.
import { parseJson, TextFileError } from '../text-file.js';
import { SafetensorsError } from './errors.js';

/** The stored dtypes that are read, with the bytes of an element. */
const ELEMENT_BYTES = {
  ...{ F64: 8, F32: 4, F16: 2, BF16: 2 },
  ...{ I64: 8, I32: 4, I16: 2, I8: 1 },
  ...{ U64: 8, U32: 4, U16: 2, U8: 1 },
  BOOL: 1,
} as const;

export type StoredDType = keyof typeof ELEMENT_BYTES;

const isStoredDType = (name: unknown): name is StoredDType =>
  typeof name === 'string' && Object.hasOwn(ELEMENT_BYTES, name);

/** Bytes of one element in the file. */
export const storedElementSize = (dtype: StoredDType): number => ELEMENT_BYTES[dtype];

/** Dtypes of the format that are not read: there is no tensor of them here. */
const UNREAD_DTYPES = /^(C64|F8_E4M3|F8_E5M2|F8_E8M0|F4|F6_E2M3|F6_E3M2)$/;

/** The header's one key that is no tensor. */
export const METADATA = '__metadata__';

/** LibTorch's own limit for most operators. */
const MAX_DIMENSIONS = 64;

/** A tensor in the file: its bytes are those from `start` up to, and without, `end`, counted from the end of the header. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

export interface Header {
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of their bytes. */
  readonly tensors: readonly StoredTensor[];
}

/**
 * Reads the bytes of a header that is followed by `dataBytes` bytes.
 * Throws SafetensorsError, naming the file and the tensor, for anything that does not fit the format.
 */
export function parseHeader(file: string, bytes: Uint8Array, dataBytes: number): Header {
  const { [METADATA]: metadata = {}, ...entries } = parseObject(file, bytes);
  if (!isMetadata(metadata)) throw new SafetensorsError(file, `expected an object of strings for ${METADATA}`);
  const tensors = Object.entries(entries).map(([name, entry]) => checkEntry(file, name, entry, dataBytes));
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  checkCoverage(file, tensors, dataBytes);
  return { metadata, tensors };
}

export const isMetadata = (value: unknown): value is Record<string, string> =>
  isObject(value) && Object.values(value).every((text) => typeof text === 'string');

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseObject(file: string, bytes: Uint8Array): Record<string, unknown> {
  if (bytes[0] !== 0x7b /* { */) throw new SafetensorsError(file, 'the header is not a JSON object');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SafetensorsError(file, 'the header is not UTF-8');
  }
  try {
    // It begins with a brace.
    return parseJson(text, file) as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof TextFileError)) throw error;
    throw new SafetensorsError(file, `the header: ${error.problem}`);
  }
}

function checkEntry(file: string, name: string, entry: unknown, dataBytes: number): StoredTensor {
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  const refuse = (problem: string): never => {
    throw new SafetensorsError(file, `tensor ${name}: ${problem}`);
  };
  if (!isStoredDType(dtype)) {
    const isUnread = typeof dtype === 'string' && UNREAD_DTYPES.test(dtype);
    const got = typeof dtype === 'string' ? dtype : dtype === undefined ? 'none' : typeof dtype;
    throw new SafetensorsError(
      file,
      `tensor ${name}: expected a dtype of ${Object.keys(ELEMENT_BYTES).join(', ')}, got ${got}`,
      isUnread ? 'SAFETENSORS_UNSUPPORTED' : 'SAFETENSORS_CORRUPT',
    );
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) return refuse('expected a list of sizes for shape');
  if (shape.length > MAX_DIMENSIONS) {
    return refuse(`expected at most ${MAX_DIMENSIONS} dimensions for shape, got ${shape.length}`);
  }
  const [start, end] = Array.isArray(offsets) && offsets.length === 2 ? (offsets as unknown[]) : [];
  if (!isSize(start) || !isSize(end) || end < start || end > dataBytes) {
    return refuse(`its bytes ${start} to ${end} lie outside the file's ${dataBytes}`);
  }
  // Sizes of 0 are left out first: the strides of [2^53 - 1, 2^53 - 1, 0] are as large as without the 0.
  const strided = shape.reduce((product, size) => product * Math.max(size, 1), ELEMENT_BYTES[dtype]);
  if (!Number.isSafeInteger(strided)) return refuse(`expected a shape of fewer elements, got [${shape.join(', ')}]`);
  const expected = shape.includes(0) ? 0 : strided;
  if (end - start !== expected) return refuse(`expected ${expected} bytes for its shape, got ${end - start}`);
  return { name, dtype, shape, start, end };
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** The tensors must fill the data, without holes and without sharing bytes: anything else is a damaged header. */
function checkCoverage(file: string, tensors: readonly StoredTensor[], dataBytes: number): void {
  let covered = 0;
  for (const { name, start, end } of tensors) {
    if (start < covered) throw new SafetensorsError(file, `tensor ${name}: its bytes are another tensor's too`);
    if (start > covered) throw new SafetensorsError(file, `tensor ${name}: no tensor holds the bytes before it`);
    covered = end;
  }
  if (covered !== dataBytes) {
    throw new SafetensorsError(file, `${dataBytes - covered} bytes after the last tensor belong to none`);
  }
}
