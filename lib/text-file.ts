// Text files that people wrote: configuration, lists of names, JSON that an editor has been over.

import { createReadStream } from 'node:fs';
import { LayerwiseError } from './errors.js';

/** More than this is no text that a person wrote. */
const MAX_BYTES = 64 * 2 ** 20;

/** A text file cannot be read, or is not the text that was expected: which file, where in it (from 1), and what is there. */
export class TextFileError extends LayerwiseError {
  override readonly name = 'TextFileError';
  readonly code = 'TEXT_FILE';

  constructor(
    readonly file: string,
    readonly problem: string,
    readonly position: { readonly line: number; readonly column: number } | null = null,
    options?: ErrorOptions,
  ) {
    super(`${file}${position === null ? '' : `:${position.line}:${position.column}`}: ${problem}`, options);
  }
}

/**
 * The text of a file in UTF-8, with or without a byte-order mark, or in UTF-16 with one; the mark is not in the text.
 * Throws TextFileError for a file that cannot be read, is larger than 64 MiB or holds other bytes.
 */
export async function readTextFile(file: string): Promise<string> {
  return decodeText(await readBounded(file), file);
}

/** The lines of a text file, whatever ends them, without spaces around them and without empty lines at the end. */
export async function readLines(file: string): Promise<string[]> {
  const lines = (await readTextFile(file)).split(/\r\n|\n|\r/).map((line) => line.trim());
  return lines.slice(0, lines.findLastIndex((line) => line !== '') + 1);
}

/** The value of a JSON file. Throws TextFileError as `readTextFile` and `parseJson` do. */
export async function readJsonFile(file: string): Promise<unknown> {
  return parseJson(await readTextFile(file), file);
}

/**
 * The value of JSON. Throws TextFileError with line, column and the line itself for what is no JSON, and for a name that
 * an object has twice.
 */
export function parseJson(text: string, file: string): unknown {
  const mistake = findMistake(text);
  if (mistake !== null) throw atMistake(mistake, text, file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TextFileError(file, `not JSON (${(error as Error).message})`, null, { cause: error });
  }
}

/** Reads no more than what may be text: a device has no end. */
async function readBounded(file: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of createReadStream(file, { end: MAX_BYTES })) {
      parts.push(part);
      length += part.length;
    }
  } catch (error) {
    throw new TextFileError(file, `cannot be read: ${reasonOf(error)}`, null, { cause: error });
  }
  if (length > MAX_BYTES) throw new TextFileError(file, 'expected a text file, got one of more than 64 MiB');
  return Buffer.concat(parts);
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOENT: 'there is no such file',
    EISDIR: 'it is a directory',
    EACCES: 'permission denied',
  };
  return reasons[code ?? ''] ?? message;
}

/** Throws TextFileError for bytes that are no text. */
function decodeText(bytes: Uint8Array, file: string): string {
  const startsWith = (...mark: number[]): boolean => mark.every((byte, i) => bytes[i] === byte);
  const expected = 'expected UTF-8, or UTF-16 with a byte-order mark';
  if (startsWith(0xff, 0xfe, 0, 0) || startsWith(0, 0, 0xfe, 0xff))
    throw new TextFileError(file, `${expected}, got UTF-32`);
  const encoding = startsWith(0xff, 0xfe) ? 'utf-16le' : startsWith(0xfe, 0xff) ? 'utf-16be' : 'utf-8';
  let text: string;
  try {
    text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (error) {
    const before = new TextDecoder(encoding).decode(bytes).split('\ufffd', 1)[0]!;
    const problem = `expected ${encoding.toUpperCase()}, got other bytes`;
    throw new TextFileError(file, problem, positionOf(before.length, before), { cause: error });
  }
  const nul = text.indexOf('\0');
  if (nul === -1) return text;
  const got = nul < 2 && bytes.length % 2 === 0 ? 'UTF-16 without one' : 'a byte of 0, as in binary files';
  throw new TextFileError(file, `${expected}, got ${got}`, positionOf(nul, text));
}

interface Mistake {
  /** Position in the text. */
  readonly at: number;
  readonly problem: string;
}

const SPACE = /[ \t\n\r]*/y;
/** Any token but a string. */
const TOKEN = /[{}[\]:,]|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])|(?:true|false|null)(?!\w)/y;
const PLAIN_CHARACTERS = /[ !#-[\]-\uffff]*/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

type Expected = 'value' | 'firstItem' | 'firstName' | 'name' | 'colon' | 'nextItem' | 'nextMember' | 'end';

const EXPECTED: Record<Expected, string> = {
  value: 'expected a value',
  firstItem: 'expected a value or ]',
  firstName: 'expected a name in double quotes or }',
  name: 'expected a name in double quotes',
  colon: 'expected a colon',
  nextItem: 'expected a comma or ]',
  nextMember: 'expected a comma or }',
  end: 'expected nothing more',
};

/**
 * The first thing in a text that is no JSON, or null. JSON.parse says only of some mistakes where they are, and keeps the
 * last of two values with one name.
 */
function findMistake(text: string): Mistake | null {
  // Of each open object the names so far; null for an open list.
  const open: (Set<string> | null)[] = [];
  let expected: Expected = 'value';
  for (let at = endOf(SPACE, text, 0); at < text.length; ) {
    const end = endOfToken(text, at);
    const token = text.slice(at, end);
    const next = after(token, expected, open);
    if (next === null) return { at, problem: problemOf(token, expected, open, shown(text, at)) };
    expected = next;
    at = endOf(SPACE, text, end);
  }
  return expected === 'end' ? null : { at: text.length, problem: `${EXPECTED[expected]}, got the end of the text` };
}

/** Where a match that starts at `start` ends; `start` itself where there is none. */
function endOf(pattern: RegExp, text: string, start: number): number {
  pattern.lastIndex = start;
  return pattern.test(text) ? pattern.lastIndex : start;
}

function endOfToken(text: string, start: number): number {
  return text[start] === '"' ? endOfString(text, start) : endOf(TOKEN, text, start);
}

/** In pieces: one pattern for the whole would go back over a long string on V8's stack, and overflow it. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; ) {
    at = endOf(PLAIN_CHARACTERS, text, at);
    if (text[at] === '"') return at + 1;
    const end = endOf(ESCAPE, text, at);
    if (end === at) return start;
    at = end;
  }
}

/** What is expected after a token, or null where the token is not. */
function after(token: string, expected: Expected, open: (Set<string> | null)[]): Expected | null {
  const isValue = expected === 'value' || expected === 'firstItem';
  const isName = expected === 'name' || expected === 'firstName';
  switch (token) {
    case '':
      return null;
    case '{':
    case '[':
      if (!isValue) return null;
      open.push(token === '{' ? new Set() : null);
      return token === '{' ? 'firstName' : 'firstItem';
    case '}':
    case ']': {
      const allowed: Expected[] = token === '}' ? ['firstName', 'nextMember'] : ['firstItem', 'nextItem'];
      if (!allowed.includes(expected)) return null;
      open.pop();
      return afterValue(open);
    }
    case ',':
      return expected === 'nextItem' ? 'value' : expected === 'nextMember' ? 'name' : null;
    case ':':
      return expected === 'colon' ? 'value' : null;
  }
  if (isValue) return afterValue(open);
  if (!isName || token[0] !== '"') return null;
  const names = open.at(-1)!;
  const name = JSON.parse(token) as string;
  if (names.has(name)) return null;
  names.add(name);
  return 'colon';
}

function afterValue(open: readonly (Set<string> | null)[]): Expected {
  const container = open.at(-1);
  return container === undefined ? 'end' : container === null ? 'nextItem' : 'nextMember';
}

function problemOf(token: string, expected: Expected, open: readonly (Set<string> | null)[], got: string): string {
  const container = open.at(-1);
  if (token[0] === '"' && (expected === 'name' || expected === 'firstName')) return `the name ${token} is there twice`;
  const isTrailingComma =
    (token === '}' && expected === 'name') || (token === ']' && expected === 'value' && container === null);
  return isTrailingComma ? `a comma before ${token}: take it out` : `${EXPECTED[expected]}, got ${got}`;
}

/** What a reader sees at a position that is no token, or the wrong one. */
function shown(text: string, at: number): string {
  if (text[at] === '"' && endOfString(text, at) === at) {
    return 'a text that does not end on its line, or that has a backslash before what needs none';
  }
  const word = /[\w.+-]+|./uy;
  return `'${text.slice(at, endOf(word, text, at)).slice(0, 40)}'`;
}

const SHOWN_LINE = 100;

function atMistake({ at, problem }: Mistake, text: string, file: string): TextFileError {
  const position = positionOf(at, text);
  const line = text.split(/\r\n|\n|\r/)[position.line - 1]!;
  const start = Math.max(0, position.column - 1 - SHOWN_LINE / 2);
  return new TextFileError(file, `${problem}\n  ${line.slice(start, start + SHOWN_LINE)}`, position);
}

/** Line and column, both from 1. */
function positionOf(at: number, text: string): { line: number; column: number } {
  const before = text.slice(0, at).split(/\r\n|\n|\r/);
  return { line: before.length, column: before.at(-1)!.length + 1 };
}
