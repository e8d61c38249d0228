import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readSafetensors, SafetensorsError, type StateDict, writeSafetensors } from '../../lib/nn/index.js';
import { type DType, scope, Tensor, TensorError, tensor } from '../../lib/tensor/index.js';
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

/** A file with this header (text, or an object to be JSON) and that many bytes of data. */
function writeRaw(header: unknown, dataBytes: number, headerLength?: bigint): void {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerLength ?? BigInt(text.length));
  writeFileSync(file, Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]));
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
    ['an empty file', /shorter than 8 bytes/, '', -1],
    ['a header longer than the file', /header would be 1000 bytes/, '{}', 0, 1000n],
    ['a header of 2^63 bytes', /header would be 92233720/, '{}', 0, 2n ** 63n],
    ['a header that is not JSON', /not JSON/, '{"weight": ', 8],
    ['a header that is a list', /not a JSON object/, [float], 8],
    ['a header that is null', /not a JSON object/, 'null', 0],
    ['an entry that is null', /tensor weight: expected a dtype/, { weight: null }, 8],
    ['an unknown dtype', /tensor weight: expected a dtype .* got F8/, { weight: entry('F8', [2], [0, 8]) }, 8],
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
    ['metadata that is no text', /__metadata__/, { __metadata__: { epoch: 3 }, weight: float }, 8],
  ])('refuses %s', async (_name, problem, header, dataBytes, headerLength) => {
    if (dataBytes < 0) writeFileSync(file, '');
    else writeRaw(header, dataBytes, headerLength);
    const error = await readSafetensors(file).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(SafetensorsError);
    expect((error as SafetensorsError).file).toBe(file);
    expect((error as Error).message).toMatch(problem);
    expect((error as Error).message).toContain(file);
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

describe('writeSafetensors', () => {
  it('keeps every dtype to the bit, scalars, empty and strided tensors, and the metadata', async () => {
    const written = samples();
    await writeSafetensors(file, written, { epoch: '3' });
    const { tensors, metadata } = await readSafetensors(file);
    expect(metadata).toEqual({ epoch: '3' });
    expect([...tensors.keys()].sort()).toEqual([...written.keys()].sort());
    for (const [name, value] of written) {
      const read = tensors.get(name)!;
      expect([read.dtype, read.shape], name).toEqual([value.dtype, value.shape]);
      const bytes = (t: Tensor) => Buffer.from(t.toTypedArray().buffer).toString('hex');
      expect(bytes(read), name).toBe(bytes(value));
    }
    disposeAll(tensors);
    disposeAll(written);
  });

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
