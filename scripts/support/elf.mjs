import { closeSync, openSync, readSync } from 'node:fs';

/** @typedef {{ type: number, offset: number, address: number, size: number }} Segment */
/** @typedef {{ tag: number, value: number }} Tag */

const segment = { load: 1, dynamic: 2 };
const tag = { needed: 1, stringTable: 5, soname: 14, rpath: 15, runpath: 29 };

/**
 * What the dynamic loader reads of a shared library. Undefined for a file that is not a 64-bit little-endian ELF library
 * (on macOS, say). Read here so that no binutils are needed.
 * @param {string} path
 */
export function readDynamicSection(path) {
  const file = openSync(path, 'r');
  try {
    const header = readAt(file, 0, 64);
    if (header.toString('latin1', 0, 4) !== '\x7fELF' || header[4] !== 2 || header[5] !== 1) return undefined;
    const segments = readSegments(file, header);
    const dynamic = segments.find(({ type }) => type === segment.dynamic);
    return dynamic === undefined ? undefined : describe(file, segments, readTags(file, dynamic));
  } finally {
    closeSync(file);
  }
}

/** @type {Readonly<Record<number, string | undefined>>} */
const machines = { 3: 'ia32', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64' };

/**
 * The architecture that an ELF file is for, as Node names it, or its number; undefined for what is no ELF file.
 * @param {string} path
 */
export function readArchitecture(path) {
  const file = openSync(path, 'r');
  try {
    const header = readAt(file, 0, 20);
    if (header.length < 20 || header.toString('latin1', 0, 4) !== '\x7fELF') return undefined;
    const machine = header[5] === 1 ? header.readUInt16LE(18) : header.readUInt16BE(18);
    return machines[machine] ?? `machine ${machine}`;
  } finally {
    closeSync(file);
  }
}

/**
 * @param {number} file
 * @param {Buffer} header
 * @returns {Segment[]}
 */
function readSegments(file, header) {
  const [offset, size, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(54), header.readUInt16LE(56)];
  const table = readAt(file, offset, size * count);
  return Array.from({ length: count }, (_, index) => {
    const at = index * size;
    /** @param {number} position */
    const field = (position) => Number(table.readBigUInt64LE(at + position));
    return { type: table.readUInt32LE(at), offset: field(8), address: field(16), size: field(32) };
  });
}

/**
 * @param {number} file
 * @param {Segment} dynamic
 */
function readTags(file, dynamic) {
  const table = readAt(file, dynamic.offset, dynamic.size);
  /** @type {Tag[]} */
  const tags = [];
  for (let at = 0; at + 16 <= table.length; at += 16) {
    tags.push({ tag: Number(table.readBigInt64LE(at)), value: Number(table.readBigUInt64LE(at + 8)) });
  }
  return tags;
}

/**
 * @param {number} file
 * @param {Segment[]} segments
 * @param {Tag[]} tags
 */
function describe(file, segments, tags) {
  const strings = fileOffset(segments, tags.find((entry) => entry.tag === tag.stringTable)?.value ?? 0);
  /** @param {number} wanted */
  const all = (wanted) =>
    tags.filter((entry) => entry.tag === wanted).map(({ value }) => readString(file, strings + value));
  const [soname, rpath, runpath] = [tag.soname, tag.rpath, tag.runpath].map((wanted) => all(wanted).at(0));
  return { needed: all(tag.needed), soname, rpath, runpath };
}

/**
 * @param {Segment[]} segments
 * @param {number} address
 */
function fileOffset(segments, address) {
  const home = segments.find(({ type, address: start, size }) => {
    return type === segment.load && address >= start && address < start + size;
  });
  return home === undefined ? address : home.offset + address - home.address;
}

/**
 * @param {number} file
 * @param {number} offset
 */
function readString(file, offset) {
  const bytes = readAt(file, offset, 4096);
  return bytes.toString('latin1', 0, bytes.indexOf(0));
}

/**
 * @param {number} file
 * @param {number} position
 * @param {number} length
 */
function readAt(file, position, length) {
  const buffer = Buffer.alloc(length);
  const read = readSync(file, buffer, 0, length, position);
  return buffer.subarray(0, read);
}
