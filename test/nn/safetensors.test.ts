import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readSafetensors, SafetensorsError, type StateDict, writeSafetensors } from '../../lib/nn/index.js';
import { readInParts, writeInParts } from '../../lib/nn/safetensors.js';
import { type DType, memoryStats, scope, Tensor, TensorError, tensor } from '../../lib/tensor/index.js';
import { type EncodedTensor, expectClose, FIXTURES, readFixture } from '../support/fixtures.js';

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'layerwise-safetensors-'));
  file = join(folder, 'model.safetensors');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function disposeAll(tensors: ReadonlyMap<string, Tensor>): void {
  for (const value of tensors.values()) value.dispose();
}

const textOf = (header: unknown): string => (typeof header === 'string' ? header : JSON.stringify(header));

/** A file with this header (bytes, text, or an object to be JSON) and this data, or that many bytes of it. */
function writeRaw(header: unknown, data: number | Uint8Array, headerLength?: bigint): void {
  const text = header instanceof Uint8Array ? header : Buffer.from(textOf(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerLength ?? BigInt(text.length));
  writeFileSync(file, Buffer.concat([prefix, text, typeof data === 'number' ? Buffer.alloc(data) : data]));
}

const entry = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });

describe('readSafetensors', () => {
  it('reads a file that Python wrote, in whatever order its header is', async () => {
    const { tensors, metadata } = await readSafetensors(join(FIXTURES, 'by-python.safetensors'));
    const expected = readFixture<Record<string, EncodedTensor>>('by-python.json');
    expect([...tensors.keys()].sort()).toEqual(Object.keys(expected).sort());
    for (const [name, value] of tensors) expectClose(value, expected[name]!, name, { relative: 0 });
    expect(metadata).toEqual({ format: 'pt' });
    disposeAll(tensors);
  });

  const float = entry('F32', [2], [0, 8]);
  it.each<[string, RegExp, unknown, number, bigint?]>([
    ['a header longer than the file', /header would be 1000 bytes/, '{}', 0, 1000n],
    ['a header of 2^63 bytes', /header would be 92233720/, '{}', 0, 2n ** 63n],
    ['a header that is not JSON', /the header: expected a value, got the end of the text/, '{"weight": ', 8],
    ['a header that is a list', /not a JSON object/, [float], 8],
    ['a header that is null', /not a JSON object/, 'null', 0],
    ['an entry that is null', /tensor weight: expected a dtype/, { weight: null }, 8],
    ['an unknown dtype', /tensor weight: expected a dtype .* got X9/, { weight: entry('X9', [2], [0, 8]) }, 8],
    [
      'a dtype that is a name of JavaScript',
      /tensor weight: .* got toString/,
      { weight: entry('toString', [2], [0, 8]) },
      8,
    ],
    ['a dtype that is no text', /tensor weight: .* got object/, { weight: entry(['F32'], [2], [0, 8]) }, 8],
    ['a missing dtype', /tensor weight: expected a dtype/, { weight: { shape: [2], data_offsets: [0, 8] } }, 8],
    ['a shape that is no list', /tensor weight: .* shape/, { weight: entry('F32', 2, [0, 8]) }, 8],
    ['a negative size', /tensor weight: .* shape/, { weight: entry('F32', [-2], [0, 8]) }, 8],
    ['a fractional size', /tensor weight: .* shape/, { weight: entry('F32', [0.5], [0, 2]) }, 2],
    ['offsets outside the data', /tensor weight: .* outside/, { weight: float }, 4],
    ['negative offsets', /tensor weight: .* outside/, { weight: entry('F32', [2], [-8, 0]) }, 8],
    ['reversed offsets', /tensor weight: .* outside/, { weight: entry('F32', [2], [8, 0]) }, 8],
    ['missing offsets', /tensor weight: .* outside/, { weight: { dtype: 'F32', shape: [2] } }, 8],
    ['offsets as text', /tensor weight: .* outside/, { weight: entry('F32', [2], ['0', '8']) }, 8],
    ['too few bytes for the shape', /tensor weight: expected 12 bytes/, { weight: entry('F32', [3], [0, 8]) }, 8],
    [
      'a shape of more bytes than a number counts',
      /tensor weight: expected/,
      { weight: entry('F32', [2 ** 40, 2 ** 40], [0, 8]) },
      8,
    ],
    ['overlapping tensors', /tensor bias: .* another/, { weight: float, bias: entry('F32', [1], [4, 8]) }, 8],
    ['bytes between tensors', /tensor bias: no tensor/, { weight: float, bias: entry('F32', [1], [12, 16]) }, 16],
    ['bytes after the last tensor', /4 bytes after the last/, { weight: float }, 12],
    ['a byte before the first tensor', /tensor weight: no tensor/, { weight: entry('F32', [1], [4, 8]) }, 8],
    ['data without tensors', /8 bytes after the last/, '{}', 8],
    ['three offsets', /tensor weight: .* outside/, { weight: entry('F32', [2], [0, 8, 8]) }, 8],
    [
      'an empty tensor whose other sizes no number counts',
      /tensor weight: expected a shape of fewer elements, got \[9007199254740991, 9007199254740991, 0\]/,
      { weight: entry('F32', [2 ** 53 - 1, 2 ** 53 - 1, 0], [0, 0]) },
      0,
    ],
    [
      'the same with the 0 in front',
      /tensor weight: expected a shape of fewer elements/,
      { weight: entry('F32', [0, 2 ** 40, 2 ** 40], [0, 0]) },
      0,
    ],
    [
      'a size beyond 2^53',
      /tensor weight: .* shape/,
      '{"weight":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'more dimensions than LibTorch has',
      /tensor weight: expected at most 64 dimensions for shape, got 65/,
      { weight: entry('F32', Array(65).fill(1), [0, 4]) },
      4,
    ],
    ['metadata that is no text', /__metadata__/, { __metadata__: { epoch: 3 }, weight: float }, 8],
    ['metadata that is a list', /__metadata__/, { __metadata__: ['pt'], weight: float }, 8],
    ['metadata that is null', /__metadata__/, { __metadata__: null, weight: float }, 8],
    ['metadata that is text', /__metadata__/, { __metadata__: 'pt', weight: float }, 8],
    ['a header with spaces before it', /not a JSON object/, ` ${JSON.stringify({ weight: float })}`, 8],
    ['a byte-order mark before the header', /not a JSON object/, `\ufeff${JSON.stringify({ weight: float })}`, 8],
    ['a header that is not UTF-8', /not UTF-8/, Buffer.from('{"\xe9": {}}', 'latin1'), 0],
    [
      'a tensor that is there twice',
      /the header: the name "w" is there twice/,
      `{"w":${JSON.stringify(float)},"v":${JSON.stringify(entry('F32', [0], [8, 8]))},"w":${JSON.stringify(float)}}`,
      8,
    ],
    [
      'a name that is there twice, once escaped',
      /the header: the name "\\u0077\\"" is there twice/,
      `{"w\\"":${JSON.stringify(float)}, "\\u0077\\"" :${JSON.stringify(float)}}`,
      8,
    ],
    [
      'a dtype that is there twice',
      /the header: the name "dtype" is there twice/,
      '{"w":{"dtype":"F32","shape":[2],"dtype":"I64","data_offsets":[0,8]}}',
      8,
    ],
    ['metadata with a key twice', /the header: the name "a" is there twice/, '{"__metadata__":{"a":"1","a":"2"}}', 0],
  ])('refuses %s', async (_name, problem, header, dataBytes, headerLength) => {
    writeRaw(header, dataBytes, headerLength);
    const error = await readSafetensors(file).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(SafetensorsError);
    expect((error as SafetensorsError).file).toBe(file);
    expect((error as Error).message).toMatch(problem);
    expect((error as Error).message).toContain(file);
  });

  it('takes keys of different objects, and text in values, for no duplicates', async () => {
    writeRaw(
      '{"__metadata__":{"dtype":"dtype","a":"{\\"a\\":[","\\\\":"\\\\"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
      0,
    );
    const { tensors, metadata } = await readSafetensors(file);
    expect(metadata).toEqual({ dtype: 'dtype', a: '{"a":[', '\\': '\\' });
    disposeAll(tensors);
  });

  it.each(['C64', 'F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F4'])('refuses %s by name', async (dtype) => {
    writeRaw({ weight: entry(dtype, [1], [0, 8]) }, 8);
    await expect(readSafetensors(file)).rejects.toMatchObject({
      code: 'SAFETENSORS_UNSUPPORTED',
      message: `${file}: tensor weight: expected a dtype of F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, got ${dtype}`,
    });
  });

  it.each<[string, ArrayBufferView, bigint[]]>([
    ['I8', Int8Array.of(-128, -1, 127), [-128n, -1n, 127n]],
    ['I16', Int16Array.of(-32768, -1, 32767), [-32768n, -1n, 32767n]],
    ['U16', Uint16Array.of(0, 1, 65535), [0n, 1n, 65535n]],
    ['I32', Int32Array.of(-(2 ** 31), -1, 2 ** 31 - 1), [-(2n ** 31n), -1n, 2n ** 31n - 1n]],
    ['U32', Uint32Array.of(0, 2 ** 31, 2 ** 32 - 1), [0n, 2n ** 31n, 2n ** 32n - 1n]],
    ['U64', BigUint64Array.of(0n, 2n ** 62n, 2n ** 63n - 1n), [0n, 2n ** 62n, 2n ** 63n - 1n]],
  ])('reads %s as int64, exactly, also from an offset that is not aligned', async (dtype, values, expected) => {
    const end = 1 + values.byteLength;
    const data = Buffer.concat([Buffer.of(7), Buffer.from(values.buffer)]);
    writeRaw({ odd: entry('U8', [1], [0, 1]), weight: entry(dtype, [3], [1, end]) }, data);
    for (const partBytes of [1000, 16]) {
      const { tensors } = await readInParts(file, partBytes);
      const { dtype: got, shape } = tensors.get('weight')!;
      expect([got, shape]).toEqual(['int64', [3]]);
      expect([...tensors.get('weight')!.toTypedArray()]).toEqual(expected);
      disposeAll(tensors);
    }
  });

  it('refuses a U64 that int64 does not hold, and leaves no tensor behind', async () => {
    const values = BigUint64Array.of(1n, 2n ** 63n);
    const data = Buffer.concat([Buffer.alloc(8), Buffer.from(values.buffer)]);
    writeRaw({ first: entry('F32', [2], [0, 8]), weight: entry('U64', [2], [8, 24]) }, data);
    const before = memoryStats();
    await expect(readSafetensors(file)).rejects.toThrow(
      'tensor weight: expected values below 2^63, got 9223372036854775808',
    );
    expect(memoryStats()).toEqual(before);
  });

  it('reads many small tensors in a few reads', async () => {
    const many = new Map(
      Array.from({ length: 300 }, (_, i) => [`t${i}`, tensor([i], { shape: i % 2 === 0 ? [1] : [1, 1] })]),
    );
    await writeSafetensors(file, many);
    const handle = await open(file);
    const read = vi.spyOn(Object.getPrototypeOf(handle), 'read');
    await handle.close();
    try {
      const { tensors } = await readSafetensors(file);
      expect(read.mock.calls.length).toBeLessThan(10);
      expect([...tensors].map(([name, value]) => [name, value.item()])).toEqual(
        [...many].map(([name], i) => [name, i]),
      );
      disposeAll(tensors);
    } finally {
      read.mockRestore();
    }
    disposeAll(many);
  });

  it('goes on after short reads, and says how much came where the file ends', async () => {
    const written = samples();
    await writeSafetensors(file, written);
    const handle = await open(file);
    const prototype = Object.getPrototypeOf(handle);
    const { read } = prototype;
    await handle.close();
    let left = Number.POSITIVE_INFINITY;
    const short = vi.spyOn(prototype, 'read').mockImplementation(async function (this: unknown, ...args: unknown[]) {
      const [buffer, offset, length, position] = args as [Uint8Array, number, number, number];
      const most = Math.min(length, 5, left);
      left -= most;
      return most === 0 ? { bytesRead: 0 } : read.call(this, buffer, offset, most, position);
    });
    try {
      const { tensors } = await readSafetensors(file);
      expectSame(tensors, written);
      disposeAll(tensors);
      const before = memoryStats();
      // The header comes whole, the tensors do not: another program has cut the file off since its size was asked for.
      const bytes = readFileSync(file);
      const headerEnd = 8 + Number(bytes.readBigUInt64LE());
      left = 9 + (headerEnd - 8) + 11;
      await expect(readSafetensors(file)).rejects.toThrow(
        `tensor float32: expected ${bytes.length - headerEnd} bytes from byte ${headerEnd} on, got 11`,
      );
      left = 20;
      await expect(readSafetensors(file)).rejects.toThrow(
        `the header: expected ${headerEnd - 8} bytes from byte 8 on, got 11`,
      );
      expect(memoryStats()).toEqual(before);
    } finally {
      short.mockRestore();
    }
    disposeAll(written);
  });

  it.each([
    [0, 'an empty file'],
    [4, '4 bytes'],
  ])('refuses a file of %i bytes', async (size, got) => {
    writeFileSync(file, Buffer.alloc(size));
    await expect(readSafetensors(file)).rejects.toMatchObject({
      code: 'SAFETENSORS_CORRUPT',
      message: `${file}: expected a safetensors file, got ${got}`,
    });
  });

  it('refuses a file cut off at any byte', async () => {
    const whole = readFileSync(join(FIXTURES, 'by-python.safetensors'));
    for (let length = 0; length < whole.length; length += 7) {
      writeFileSync(file, whole.subarray(0, length));
      await expect(readSafetensors(file), `${length} bytes`).rejects.toThrow(SafetensorsError);
    }
  });

  it('reports a file that is not there as the system does', async () => {
    await expect(readSafetensors(join(folder, 'nothing'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('makes a bool of any byte that is not 0', async () => {
    const prefix = Buffer.alloc(8);
    const header = Buffer.from(JSON.stringify({ flags: entry('BOOL', [3], [0, 3]) }));
    prefix.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(file, Buffer.concat([prefix, header, Buffer.from([0, 1, 2])]));
    const { tensors } = await readSafetensors(file);
    expect(Array.from(tensors.get('flags')!.toTypedArray(), Number)).toEqual([0, 1, 1]);
    disposeAll(tensors);
  });
});

/** One of every dtype, with a scalar, an empty and a strided one. */
function samples(): StateDict {
  return scope(
    () =>
      new Map<string, Tensor>([
        ['float32', tensor([1.5, Number.NaN, Number.NEGATIVE_INFINITY, -0, 1e-40, 3], { shape: [2, 3] })],
        ['float64', tensor(Float64Array.of(Math.PI, 1e-310))],
        ['float16', tensor([1.5, 65504]).to({ dtype: 'float16' })],
        ['bfloat16', tensor([1.5, 3e38]).to({ dtype: 'bfloat16' })],
        ['int64', tensor(BigInt64Array.of(2n ** 62n, -1n))],
        ['uint8', tensor(Uint8Array.of(0, 255, 7))],
        ['bool', tensor([1, 0], { dtype: 'bool' })],
        ['scalar', tensor([42], { shape: [], dtype: 'int64' })],
        ['empty', tensor([], { shape: [0, 3] })],
        ['strided', tensor([1, 2, 3, 4, 5, 6], { shape: [2, 3] }).transpose(0, 1)],
        ['__proto__', tensor([1])],
        ['7', tensor([7])],
      ]),
  );
}

function expectSame(got: StateDict, expected: StateDict): void {
  const bytes = (t: Tensor) => Buffer.from(t.toTypedArray().buffer).toString('hex');
  const described = (tensors: StateDict) => [...tensors].map(([name, t]) => [name, t.dtype, t.shape, bytes(t)]);
  // In the order of the bytes, which is the order of writing.
  expect(described(got)).toEqual(described(expected));
}

describe('writeSafetensors', () => {
  it('keeps every dtype to the bit, scalars, empty and strided tensors, and the metadata', async () => {
    const written = samples();
    await writeSafetensors(file, written, { epoch: '3' });
    const { tensors, metadata } = await readSafetensors(file);
    expect(metadata).toEqual({ epoch: '3' });
    expectSame(tensors, written);
    disposeAll(tensors);
    disposeAll(written);
  });

  it.each([8, 9, 16, 24])(
    'goes through in parts of %i bytes to the same file and the same tensors',
    async (partBytes) => {
      const written = samples();
      await writeSafetensors(file, written);
      const whole = readFileSync(file);
      await writeInParts(file, written, {}, partBytes);
      expect(readFileSync(file)).toEqual(whole);
      const { tensors } = await readInParts(file, partBytes);
      expectSame(tensors, written);
      disposeAll(tensors);
      disposeAll(written);
    },
  );

  it('writes the bytes that the format describes', async () => {
    const tensors = new Map([['w', tensor([1, -2])]]);
    await writeSafetensors(file, tensors);
    const bytes = readFileSync(file);
    const headerLength = Number(bytes.readBigUInt64LE());
    expect((8 + headerLength) % 8).toBe(0);
    expect(JSON.parse(bytes.subarray(8, 8 + headerLength).toString())).toEqual({ w: entry('F32', [2], [0, 8]) });
    expect(bytes.subarray(8 + headerLength).toString('hex')).toBe('0000803f000000c0');
    disposeAll(tensors);
  });

  it('leaves the old file and nothing else when writing fails', async () => {
    const good = new Map([['w', tensor([1])]]);
    await writeSafetensors(file, good);
    const before = readFileSync(file);
    const broken = new Map<string, Tensor>([['w', tensor([2])]]);
    const late = tensor([3]);
    // Fails when its elements are read, after the header and the first tensor have been written.
    Object.defineProperty(late, 'toTypedArray', {
      value: () => {
        throw new Error('no more disk');
      },
    });
    broken.set('late', late);
    await expect(writeSafetensors(file, broken)).rejects.toThrow('no more disk');
    expect(readFileSync(file)).toEqual(before);
    expect(readdirSync(folder)).toEqual(['model.safetensors']);
    disposeAll(good);
    disposeAll(broken);
  });

  it('leaves nothing behind when the file cannot take its place', async () => {
    mkdirSync(join(file, 'occupied'), { recursive: true });
    const tensors = new Map([['w', tensor([1])]]);
    await expect(writeSafetensors(file, tensors)).rejects.toThrow();
    expect(existsSync(join(file, 'occupied'))).toBe(true);
    expect(readdirSync(folder)).toEqual(['model.safetensors']);
    disposeAll(tensors);
  });

  it('refuses a disposed tensor and the name __metadata__', async () => {
    const gone = tensor([1]);
    gone.dispose();
    await expect(writeSafetensors(file, new Map([['w', gone]]))).rejects.toThrow(TensorError);
    const tensors = new Map([['__metadata__', tensor([1])]]);
    await expect(writeSafetensors(file, tensors)).rejects.toThrow(/__metadata__/);
    await expect(writeSafetensors(file, new Map(), { epoch: 3 } as never)).rejects.toThrow(/strings for metadata/);
    expect(readdirSync(folder)).toEqual([]);
    disposeAll(tensors);
  });
});

it.each<DType>(['float32', 'float64', 'int64'])('reads %s from an offset that is not aligned', async (dtype) => {
  const odd = new Map([
    ['a', tensor(Uint8Array.of(1))],
    ['b', tensor([5, -6], { dtype })],
  ]);
  await writeSafetensors(file, odd);
  const { tensors } = await readSafetensors(file);
  expect(tensors.get('b')!.toArray()).toEqual([5, -6]);
  disposeAll(tensors);
  disposeAll(odd);
  expect(odd.get('a')).toBeInstanceOf(Tensor);
});
