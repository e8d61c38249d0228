import { chmod, mkdir, mkdtemp, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readCifar10 } from '../../lib/data/cifar10.js';
import { loadDataset } from '../../lib/data/dataset.js';
import { unpickle } from '../../lib/data/pickle.js';
import { unprivileged } from '../support/unprivileged.js';
import { IMAGE_LENGTH, labelOf, pickleBatch, pixelsOf, writeBinary, writePython } from './cifar10-files.js';

const RECORDS = 12;
const BINARY = 'cifar-10-batches-bin';
const PYTHON = 'cifar-10-batches-py';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-cifar10-'));
});
afterEach(() => rm(dir, { recursive: true }));

const read = (options: { trainLimit?: number; testLimit?: number; dataDir?: string } = {}) =>
  readCifar10({ dataDir: dir, recordsPerBatch: RECORDS, ...options });

describe.each([
  { layout: 'binary', folder: BINARY, write: writeBinary },
  { layout: 'Python', folder: PYTHON, write: writePython },
])('the official $layout layout', ({ folder, write }) => {
  beforeEach(() => write(join(dir, folder), RECORDS));

  it('gives every image and label of the batches in order', async () => {
    const { train, test, classes, title, name } = await read();
    expect({ name, title, first: classes[0], last: classes[9] }).toEqual({
      name: 'cifar10',
      title: 'CIFAR-10',
      first: 'airplane',
      last: 'truck',
    });
    expect(train).toMatchObject({ count: 5 * RECORDS, channels: 3, height: 32, width: 32 });
    expect(test.count).toBe(RECORDS);
    for (const [at, batch, image] of [
      [0, 0, 0],
      [13, 1, 1],
      [59, 4, 11],
    ] as const) {
      expect(train.labels[at]).toBe(labelOf(batch, image));
      expect(train.images.subarray(at * IMAGE_LENGTH, (at + 1) * IMAGE_LENGTH)).toEqual(pixelsOf(batch, image));
    }
    expect(test.labels[3]).toBe(labelOf(5, 3));
  });

  it('is found when the directory is the folder itself', async () => {
    const dataset = await read({ dataDir: join(dir, folder) });
    expect(dataset.train.images).toEqual((await read()).train.images);
  });

  it('gives the first images under a limit', async () => {
    const { train, test } = await read({ trainLimit: 15, testLimit: 1000 });
    expect(train.images).toEqual((await read()).train.images.subarray(0, 15 * IMAGE_LENGTH));
    expect(Array.from(train.labels)).toEqual(Array.from((await read()).train.labels.subarray(0, 15)));
    expect(test.count).toBe(RECORDS);
  });

  it('refuses a batch that the system does not give, by name', async () => {
    const file = join(dir, folder, `data_batch_3${folder === BINARY ? '.bin' : ''}`);
    await chmod(dir, 0o755);
    await chmod(file, 0);
    await unprivileged(() =>
      expect(read()).rejects.toMatchObject({
        code: 'DATA_UNREADABLE',
        message: `${file} cannot be read: permission denied (EACCES)`,
      }),
    );
    await rm(file);
    await symlink(file, file);
    await expect(read()).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: `${file} cannot be read: its symbolic links form a loop (ELOOP)`,
    });
  });

  it('refuses a missing batch by name, even one beyond the limit', async () => {
    const suffix = folder === BINARY ? '.bin' : '';
    await rm(join(dir, folder, `data_batch_4${suffix}`));
    await expect(read({ trainLimit: 1 })).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringContaining(`data_batch_4${suffix} is missing`),
    });
  });
});

describe('the binary layout', () => {
  const file = () => join(dir, BINARY, 'data_batch_2.bin');
  beforeEach(() => writeBinary(join(dir, BINARY), RECORDS));

  it.each([
    ['truncated', (size: number) => size - 1],
    ['too long', (size: number) => size + 3073],
  ])('refuses a file that is %s by name', async (fault, resize) => {
    await truncate(file(), resize(RECORDS * 3073));
    await expect(read()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(new RegExp(`data_batch_2.bin is ${fault}: \\d+ bytes, expected 36876`)),
    });
  });

  it('refuses a label over 9 by file and image', async () => {
    const bytes = await readFile(file());
    bytes[3073 * 7] = 10;
    await writeFile(file(), bytes);
    await expect(read()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/data_batch_2.bin: image 7 has label 10, expected 0 to 9/),
    });
  });

  it("refuses another data set's list of classes", async () => {
    await writeFile(join(dir, BINARY, 'batches.meta.txt'), 'apple\nbear\n');
    await expect(read()).rejects.toThrow('batches.meta.txt does not list the ten classes');
  });

  it('is preferred where both are there', async () => {
    await mkdir(join(dir, PYTHON));
    await writeFile(join(dir, PYTHON, 'data_batch_1'), 'not read');
    expect((await read()).train.count).toBe(5 * RECORDS);
  });

  it('expects 10,000 images a file by default', async () => {
    await expect(loadDataset({ name: 'cifar10', dataDir: dir })).rejects.toThrow('expected 30730000');
  });
});

describe('the Python layout', () => {
  const file = () => join(dir, PYTHON, 'data_batch_1');
  const labels = Array.from({ length: RECORDS }, (_, i) => labelOf(0, i));
  const data = Buffer.concat(labels.map((_, i) => pixelsOf(0, i)));
  beforeEach(() => writePython(join(dir, PYTHON), RECORDS));

  it('refuses a label over 9', async () => {
    await writeFile(file(), pickleBatch({ labels: labels.with(3, 10), data, records: RECORDS }));
    await expect(read()).rejects.toThrow(/data_batch_1: image 3 has label 10/);
  });

  it('refuses other counts than the official ones', async () => {
    await writeFile(file(), pickleBatch({ labels: labels.slice(1), data, records: RECORDS }));
    await expect(read()).rejects.toThrow(/data_batch_1: 'labels' is not a list of 12 numbers/);
    const half = data.subarray(0, 6 * IMAGE_LENGTH);
    await writeFile(file(), pickleBatch({ labels, data: half, records: 6 }));
    await expect(read()).rejects.toThrow(/'data' is not an array of shape \[12, 3072\]/);
  });

  it('refuses a file cut off anywhere', () => {
    const whole = pickleBatch({ labels, data, records: RECORDS });
    for (let length = 0; length < whole.length; length += length < 300 || length > whole.length - 60 ? 1 : 997) {
      expect(() => unpickle(whole.subarray(0, length), 'cut')).toThrow(/^cut is damaged/);
    }
  });

  it('throws nothing but its own errors on flipped bits', () => {
    const whole = pickleBatch({ labels, data, records: RECORDS });
    const opcodes = whole.length - data.length;
    for (let at = 0; at < opcodes; at++) {
      const place = at < 200 ? at : whole.length - (opcodes - at);
      for (let bit = 0; bit < 8; bit++) {
        const damaged = Buffer.from(whole);
        damaged[place]! ^= 1 << bit;
        try {
          unpickle(damaged, 'damaged');
        } catch (error) {
          expect(error).toMatchObject({ name: 'DataError', code: expect.stringMatching(/CORRUPT|UNSUPPORTED/) });
        }
      }
    }
  });

  it.each([
    ['a call', Buffer.from('\x80\x02cos\nsystem\nU\x04true\x85R.', 'latin1'), 'os.system'],
    ['a builtin', Buffer.from('\x80\x02c__builtin__\neval\n.', 'latin1'), '__builtin__.eval'],
    ['an instance', Buffer.from('\x80\x02(ios\nsystem\n.', 'latin1'), 'INST'],
    ['a new-style object', Buffer.from('\x80\x02)\x81.', 'latin1'), 'NEWOBJ'],
    ['an import from the stack', Buffer.from('\x80\x02\x93.', 'latin1'), 'STACK_GLOBAL'],
    ['a persistent id', Buffer.from('\x80\x02Pid\n.', 'latin1'), 'PERSID'],
    ['Unicode text', Buffer.from('\x80\x02X\x01\x00\x00\x00a.', 'latin1'), 'BINUNICODE'],
    ['an unknown opcode', Buffer.from('\x80\x02\xfe.', 'latin1'), '0xfe'],
    ['another protocol', Buffer.from('\x80\x04N.', 'latin1'), 'protocol 4'],
  ])('refuses %s by name and file', (_what, bytes, name) => {
    expect(() => unpickle(bytes, 'a/data_batch_1')).toThrow(
      expect.objectContaining({ code: 'DATA_UNSUPPORTED', message: expect.stringMatching(`^a/data_batch_1.*${name}`) }),
    );
  });

  it('refuses arrays of another dtype', () => {
    const bytes = pickleBatch({ labels, data, records: RECORDS, dtype: 'f8' });
    expect(() => unpickle(bytes, 'file')).toThrow("dtype 'f8'");
  });

  it('refuses a file of many times the bytes of its images before it reads it', async () => {
    await truncate(file(), 2 ** 33);
    await expect(read()).rejects.toThrow(/data_batch_1 is too long: 8589934592 bytes, expected at most \d+/);
  });

  it('refuses a label that is a list in a few words', async () => {
    const bytes = pickleBatch({ labels, data, records: RECORDS });
    // ](K0 K1 ... e: the first label becomes a list.
    const first = bytes.indexOf(Buffer.from(`](K${String.fromCharCode(labels[0]!)}`, 'latin1')) + 2;
    await writeFile(file(), Buffer.concat([bytes.subarray(0, first), Buffer.from(']'), bytes.subarray(first + 2)]));
    await expect(read()).rejects.toThrow('data_batch_1: image 0 has label no number, expected 0 to 9');
  });
});

describe('a pickle that is made to cost much', () => {
  const pickle = (...parts: (string | Buffer)[]): Buffer =>
    Buffer.concat(
      ['\x80\x02', ...parts, '.'].map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
    );
  /** Lists of `width` references to the one before, `depth` times: width ** depth values when they are unfolded. */
  const nested = (depth: number, width: number, close: string): Buffer => {
    let text = 'K\x00q\x00';
    for (let level = 1; level <= depth; level++) {
      text += `(${`h${String.fromCharCode(level - 1)}`.repeat(width)}${close}q${String.fromCharCode(level)}`;
    }
    return pickle(text);
  };
  const listOf = (width: number): Buffer => {
    let text = ']q\x00';
    for (let level = 1; level <= 7; level++) {
      text += `](${`h${String.fromCharCode(level - 1)}`.repeat(width)}eq${String.fromCharCode(level)}`;
    }
    return pickle(text);
  };
  const array = 'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R';
  const longName = `T\x00\x00\x01\x00${'a'.repeat(2 ** 16)}`;

  it.each<[string, Buffer, RegExp]>([
    ['lists of lists, each held thirty times', listOf(30), /a list or dictionary that is held twice/],
    ['tuples of tuples', nested(60, 3, 't'), /a value that is neither/],
    ['a list that holds itself', pickle(']q\x00h\x00a'), /held twice/],
    ['a dictionary that holds itself', pickle('}q\x00U\x01ah\x00s'), /held twice/],
    ['a list in a list, ten thousand times', pickle(']'.repeat(10_000), 'a'.repeat(9999)), /nested too deep/],
    ['a dictionary for each byte', pickle('}'.repeat(300_000)), /more than 262144 values/],
    ['a mark for each byte', pickle('('.repeat(300_000)), /more than 262144 values/],
    ['a memo entry for each few bytes', pickle('N', 'r\x01\x00\x00\x00'.repeat(300_000)), /more than 262144 values/],
    ['a memo index of 2^32 - 1', pickle('Nr\xff\xff\xff\xff', 'j\xff\xff\xff\xff', '\x86'), /neither/],
    [
      'a dictionary with a long key, again and again',
      pickle('}', longName, 'q\x00Ns', 'h\x00Ns'.repeat(9)),
      /a name of 65536 bytes/,
    ],
    ['a long name of a dtype', pickle('cnumpy\ndtype\n', longName, '\x85R'), /a name of 65536 bytes/],
    ['a long name of a module', pickle('c', 'a'.repeat(1000), '\nb\n'), /a name of 1000 bytes/],
    [
      'an array of many dimensions',
      pickle(array, '(K\x01(', 'K\x01'.repeat(5000), 'tcnumpy\ndtype\nU\x02u1\x85R\x89U\x01atb'),
      /an array of 5000 dimensions/,
    ],
    ['a string longer than the file', pickle('T\xff\xff\xff\x7f'), /it ends early/],
    ['a string of negative length', pickle('T\xff\xff\xff\xff'), /negative length/],
  ])('%s: refused in a few steps', (_what, bytes, message) => {
    expect(() => unpickle(bytes, 'file')).toThrow(
      expect.objectContaining({ name: 'DataError', message: expect.stringMatching(message) }),
    );
  });

  it.each<[string, string, string]>([
    ['a copy of the top', 'N2', 'DUP'],
    ['an integer of any length', '\x8b\xff\xff\xff\x7f', 'LONG4'],
    ['a frame', '\x95\xff\xff\xff\xff\xff\xff\xff\x7f', 'FRAME'],
    ['text with 8 bytes of length', '\x8d\xff\xff\xff\xff\xff\xff\xff\x7f', 'BINUNICODE8'],
    ['bytes with 8 bytes of length', '\x8e\xff\xff\xff\xff\xff\xff\xff\x7f', 'BINBYTES8'],
  ])('%s: no such opcode is read', (_what, text, name) => {
    expect(() => unpickle(pickle(text), 'file')).toThrow(`the pickle opcode ${name}`);
  });
});

describe('a directory without CIFAR-10', () => {
  it.each([
    ['is empty', ''],
    ['is missing', 'nowhere'],
  ])('that %s is refused with the command that fills it', async (_what, sub) => {
    const dataDir = join(dir, sub);
    await expect(read({ dataDir })).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringContaining(`layerwise data download cifar10 --data-dir ${dataDir}`),
    });
  });

  it('may hold the folder under another name, given as the directory', async () => {
    await writeBinary(join(dir, BINARY), RECORDS);
    await rename(join(dir, BINARY), join(dir, 'renamed'));
    expect((await read({ dataDir: join(dir, 'renamed') })).test.count).toBe(RECORDS);
  });
});
