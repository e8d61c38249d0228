// safetensors files, as Python and as this project writes them.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensors, SafetensorsError } from '../../lib/nn/index.js';
import { elementSize } from '../../lib/tensor/index.js';
import { FIXTURES } from '../support/fixtures.js';
import type { FuzzedFormat } from './format.js';

/** A file of this header and so many bytes of data, none of which is a brace. */
function fileOf(header: object, dataBytes: number): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes, 1)]);
}

const DTYPES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
};

/** A tensor [2, 1] of each dtype. */
function eachDtype(): Buffer {
  let end = 0;
  const entries = Object.entries(DTYPES).map(([dtype, size]) => {
    const start = end;
    end += 2 * size;
    return [dtype.toLowerCase(), { dtype, shape: [2, 1], data_offsets: [start, end] }];
  });
  return fileOf({ __metadata__: { format: 'pt' }, ...Object.fromEntries(entries) }, end);
}

/** The same bytes with the length of the header that they have, so that damage to the length does not hide other damage. */
function withTrueLength(damaged: Uint8Array): Uint8Array {
  const repaired = Buffer.from(damaged);
  const end = repaired.lastIndexOf('}') + 1;
  if (end > 9) {
    repaired[8] = 0x7b;
    repaired.writeBigUInt64LE(BigInt(end - 8));
  }
  return repaired;
}

/** Reads a file: its tensors have the bytes of their shapes, and no more than eight (an int64) for each byte of the file. */
async function read(file: string, bytes: Uint8Array): Promise<void> {
  await writeFile(file, bytes);
  const outcome = await readSafetensors(file).catch((error: unknown) => {
    if (error instanceof SafetensorsError && error.message.includes(file)) return null;
    throw error;
  });
  if (outcome === null) return;
  let total = 0;
  for (const [name, value] of outcome.tensors) {
    const expected = value.shape.reduce((product, size) => product * size, elementSize(value.dtype));
    if (value.byteLength !== expected) throw new Error(`${name}: ${value.byteLength} bytes, expected ${expected}`);
    total += value.byteLength;
    value.dispose();
  }
  if (total > 8 * bytes.length) throw new Error(`${total} bytes of tensors from a file of ${bytes.length}`);
}

export const safetensors: FuzzedFormat = {
  name: 'safetensors',
  seeds: async () => [
    eachDtype(),
    await readFile(join(FIXTURES, 'by-python.safetensors')),
    fileOf(
      {
        a: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
        b: { dtype: 'F32', shape: [0, 9], data_offsets: [4, 4] },
      },
      4,
    ),
    fileOf({}, 0),
  ],
  run: async (damaged) => {
    const folder = await mkdtemp(join(tmpdir(), 'layerwise-fuzz-'));
    try {
      await read(join(folder, 'x.safetensors'), damaged);
      await read(join(folder, 'x.safetensors'), withTrueLength(damaged));
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};
