// What people take for safetensors files is named, with the way to convert it.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensors, SafetensorsError } from '../../lib/nn/index.js';
import { FIXTURES } from '../support/fixtures.js';
import { pythonMissing } from '../support/python.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-foreign-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function refusalOf(file: string): Promise<string> {
  const error = await readSafetensors(file).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SafetensorsError);
  expect(error).toMatchObject({ file, code: 'NOT_SAFETENSORS' });
  const { message } = error as Error;
  expect(message).toContain(`${file}: expected a safetensors file, got `);
  return message;
}

const text = (...parts: string[]): Buffer => Buffer.from(parts.join(''), 'latin1');

describe('a file of another format is named', () => {
  it.each<[what: string, content: Buffer, message: RegExp]>([
    [
      'a pointer of Git LFS',
      text('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614\nsize 531503671\n'),
      /got a pointer of Git LFS to a file of 531503671 bytes; get the file itself with: git lfs pull$/,
    ],
    [
      'an error page',
      text('\n<!DOCTYPE html>\n<html><head><title>\n404: Not Found </title>'),
      /got a web page \(404: Not Found\); download/,
    ],
    ['a page without a title', text('\xef\xbb\xbf<html>', '<body>'.repeat(1000)), /got a web page; download/],
    ['an error as XML', text('<?xml version="1.0"?>\n<Error>'), /got text that begins with "<\?xml version=/],
    ['an error as text', text('Entry not found'), /got text that begins with "Entry not found"; download/],
    ['an error as JSON', text('{"error":"Repository not found"}'), /got text that begins with "{\\"error\\":/],
    [
      'the index of several files',
      text('{\n  "metadata": {},\n  "weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
      /got the index of weights in several files; convert it with Python:\n {4}import json, os\n/,
    ],
    ['gzip', gzipSync('weights'), /got a file compressed with gzip; decompress it with gunzip$/],
    ['xz', text('\xfd7zXZ\0\0\x04'), /compressed with xz/],
    ['bzip2', text('BZh91AY&SY\0'), /compressed with bzip2/],
    ['Zstandard', text('\x28\xb5\x2f\xfd\0'), /compressed with Zstandard/],
    ['tar', Buffer.concat([Buffer.alloc(257), text('ustar\x0000'), Buffer.alloc(248)]), /got a tar archive; unpack it/],
    ['GGUF', text('GGUF\x03\0\0\0\0\0\0\0'), /got a GGUF file, .* get the safetensors file/],
    ['HDF5', text('\x89HDF\r\n\x1a\n\0\0'), /got an HDF5 file/],
    ['TensorFlow Lite', text('\x1c\0\0\0TFL3\0'), /got a TensorFlow Lite model/],
    [
      'ONNX',
      text('\x08\x08\x12\x07pytorch\x1a\x052.1.0'),
      /got an ONNX model; convert it with Python:\n {4}import onnx\n/,
    ],
    ['another pickle', text('\x80\x04\x95\0\0\0\0\0\0\0\0}.'), /got a Python pickle; convert it with Python:\n/],
    ['another zip archive', text('PK\x03\x04\x14\0\0\0readme.txt'), /got a zip archive; unpack it/],
  ])('%s', async (what, content, message) => {
    const file = join(folder, what);
    writeFileSync(file, content);
    expect(await refusalOf(file)).toMatch(message);
  });

  it('a directory, and what is no regular file', async () => {
    mkdirSync(join(folder, 'model.safetensors'));
    expect(await refusalOf(join(folder, 'model.safetensors'))).toMatch(/got a directory$/);
    expect(await refusalOf('/dev/null')).toMatch(/got something that is no regular file$/);
  });

  it('a file of torch.save whose list of files is far behind its beginning', async () => {
    const whole = readFileSync(join(FIXTURES, 'foreign', 'torch-save.pt'));
    const file = join(folder, 'large.pt');
    writeFileSync(file, whole);
    truncateSync(file, 2 ** 20);
    expect(await refusalOf(file)).toContain('got a file of torch.save; ');
  });
});

/** What the safetensors file that the lines write must hold, from foreign_cases.py. */
const FIRST = [1.5, -2, 0.25, 3];
const TRANSPOSED = [1.5, 0.25, -2, 3];
const SECOND = [1, -1];

describe('the Python lines of the message', () => {
  it('write over no file that they read', async () => {
    const file = join(folder, 'weights.safetensors');
    cpSync(join(FIXTURES, 'foreign', 'checkpoint.pt'), file);
    const message = await refusalOf(file);
    expect(message).toContain(`torch.load(${JSON.stringify(file)},`);
    expect(message).toContain(JSON.stringify(join(folder, 'weights.converted.safetensors')));
    expect(message.split(JSON.stringify(file))).toHaveLength(2);
  });

  const python = process.env.LAYERWISE_TEST_PYTHON || 'python3';
  const missing = (() => {
    if (pythonMissing !== null) return pythonMissing;
    try {
      execFileSync(python, ['-c', 'import safetensors'], { stdio: 'ignore' });
      return null;
    } catch {
      return `${python} has no safetensors`;
    }
  })();

  it.for<[name: string, what: string, values: Record<string, number[]>]>([
    ['torch-save.pt', 'a file of torch.save', { weight: TRANSPOSED, tied: FIRST }],
    ['checkpoint.pt', 'a file of torch.save', { weight: TRANSPOSED, tied: FIRST }],
    ['torch-save-1.5.pt', 'a file of torch.save before PyTorch 1.6', { weight: TRANSPOSED, tied: FIRST }],
    ['torchscript.pt', 'a TorchScript archive (torch.jit.save)', { weight: FIRST, bias: SECOND }],
    ['weights.npz', 'a NumPy archive (.npz)', { weight: FIRST, bias: SECOND }],
    ['weights.npy', 'a NumPy array (.npy)', { name: FIRST }],
  ])('convert %s', async ([name, what, values], { skip }) => {
    // A folder whose name needs care in a Python string.
    const place = join(folder, `it's "C:\\new" ü.d`);
    mkdirSync(place, { recursive: true });
    const file = join(place, name);
    cpSync(join(FIXTURES, 'foreign', name), file);
    const message = await refusalOf(file);
    expect(message).toContain(`got ${what}`);
    const [, lines] = message.split('convert it with Python:\n');
    expect(lines!.split('\n').every((line) => line.startsWith('    '))).toBe(true);
    skip(missing !== null, missing ?? '');

    execFileSync(python, ['-c', lines!.replaceAll(/^ {4}/gm, '')]);
    const { tensors } = await readSafetensors(file.replace(/\.\w+$/, '.safetensors'));
    const got = [...tensors].map(([key, value]) => [key, Array.from(value.toTypedArray(), Number)]);
    for (const value of tensors.values()) value.dispose();
    expect(Object.fromEntries(got)).toEqual(values);
  });
});
