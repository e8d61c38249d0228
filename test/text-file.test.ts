import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseJson, readJsonFile, readLines, readTextFile } from '../lib/text-file.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-text-'));
afterAll(() => rm(folder, { recursive: true }));
const file = join(folder, 'given');
const given = (bytes: Uint8Array | string): string => {
  writeFileSync(file, bytes);
  return file;
};

const TEXT = 'ä\r\n漢字 𝄞\n';
const bytesOf = (encoding: 'utf8' | 'utf16le', mark: boolean): Buffer =>
  Buffer.from(`${mark ? '\ufeff' : ''}${TEXT}`, encoding);

describe('the text of a file', () => {
  it.each([
    ['UTF-8', bytesOf('utf8', false)],
    ['UTF-8 with a byte-order mark', bytesOf('utf8', true)],
    ['UTF-16, little endian', bytesOf('utf16le', true)],
    ['UTF-16, big endian', Buffer.from(bytesOf('utf16le', true)).swap16()],
  ])('is read from %s, without the mark', async (_, bytes) => {
    expect(await readTextFile(given(bytes))).toBe(TEXT);
  });

  it.each([
    ['UTF-32', Buffer.from([0xff, 0xfe, 0, 0, 0x41, 0, 0, 0]), 'got UTF-32'],
    ['UTF-16 without a mark', Buffer.from('seed', 'utf16le'), 'got UTF-16 without one'],
    ['Latin-1', Buffer.from('eins\nzwölf', 'latin1'), `${file}:2:3: expected UTF-8, got other bytes`],
    ['UTF-16 that is cut off', Buffer.from([0xff, 0xfe, 0x41]), 'expected UTF-16LE, got other bytes'],
    [
      'a binary file',
      Buffer.from('name\0more'),
      `${file}:1:5: expected UTF-8, or UTF-16 with a byte-order mark, got a byte of 0, as in binary files`,
    ],
  ])('is refused by file and kind where it is %s', async (_, bytes, problem) => {
    await expect(readTextFile(given(bytes))).rejects.toMatchObject({
      code: 'TEXT_FILE',
      message: expect.stringContaining(file),
    });
    await expect(readTextFile(file)).rejects.toThrow(problem);
  });

  it('is refused where it cannot be read or has no end', async () => {
    await expect(readTextFile(join(folder, 'none'))).rejects.toThrow(
      `${join(folder, 'none')}: cannot be read: there is no such file`,
    );
    await expect(readTextFile(folder)).rejects.toThrow(`${folder}: cannot be read: it is a directory`);
    await expect(readTextFile('/dev/zero')).rejects.toThrow(
      '/dev/zero: expected a text file, got one of more than 64 MiB',
    );
  });

  it('has lines, whatever ends them, without the spaces around them and the empty ones at the end', async () => {
    expect(await readLines(given('a b \r\n\tc\rd\n\ne\n \r\n\n'))).toEqual(['a b', 'c', 'd', '', 'e']);
    expect(await readLines(given(''))).toEqual([]);
  });
});

describe('JSON', () => {
  it.each(['{"a":[1,-2.5e+3,{"b":null}],"c":"\\u00e4\\"\\\\","d":true}', ' [ ] ', '{}', '"text"', '-0', '1e400'])(
    'is what JSON.parse makes of it: %s',
    (text) => {
      expect(parseJson(text, 'f')).toEqual(JSON.parse(text));
    },
  );

  it('may hold strings and numbers of any length', () => {
    const long = 'x'.repeat(3e7);
    expect(parseJson(JSON.stringify([long]), 'f')).toEqual([long]);
    expect(parseJson('1'.repeat(3e7), 'f')).toBe(Number.POSITIVE_INFINITY);
    expect(() => parseJson(`["${long}\\`, 'f')).toThrow('f:1:2: expected a value or ], got a text that does not end');
  });

  it('is read over a byte-order mark', async () => {
    expect(await readJsonFile(given('\ufeff{"seed": 3}'))).toEqual({ seed: 3 });
  });

  it.each([
    ['{\n  "a": 1,\n}', '3:1: a comma before }: take it out\n  }'],
    ['[1, 2,\r\n]', '2:1: a comma before ]: take it out\n  ]'],
    ['{a: 1}', "1:2: expected a name in double quotes or }, got 'a'\n  {a: 1}"],
    ["{'a': 1}", "1:2: expected a name in double quotes or }, got '''"],
    ['{"a": 1\n"b": 2}', '2:1: expected a comma or }, got \'"\'\n  "b": 2}'],
    ['{"a" 1}', "1:6: expected a colon, got '1'"],
    ['{"a": 01}', "1:7: expected a value, got '01'"],
    ['{"a": NaN}', "1:7: expected a value, got 'NaN'"],
    ['{"a": .5}', "1:7: expected a value, got '.5'"],
    ['// text\n{}', "1:1: expected a value, got '/'"],
    ['{"a": "x\ny"}', '1:7: expected a value, got a text that does not end on its line'],
    ['{"a": "C:\\data"}', '1:7: expected a value, got a text that does not end on its line, or that has a backslash'],
    ['{"a": [1}', "1:9: expected a comma or ], got '}'"],
    ['{} {}', "1:4: expected nothing more, got '{'"],
    ['{"a": 1', '1:8: expected a comma or }, got the end of the text'],
    ['', '1:1: expected a value, got the end of the text'],
    ['{"a": 1, "b": {"a": 2}, "\\u0061": 3}', '1:25: the name "\\u0061" is there twice'],
  ])('is refused by line and column, with the line: %j', (text, message) => {
    expect(() => parseJson(text, 'given.json')).toThrow(
      expect.objectContaining({ code: 'TEXT_FILE', message: expect.stringContaining(`given.json:${message}`) }),
    );
  });
});
