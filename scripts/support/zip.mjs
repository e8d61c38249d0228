import {
  chmodSync,
  closeSync,
  createReadStream,
  createWriteStream,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, isAbsolute, join, normalize, sep } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32, createInflateRaw, inflateRawSync } from 'node:zlib';

const signature = { local: 0x04034b50, central: 0x02014b50, end: 0x06054b50, end64: 0x06064b50, locator64: 0x07064b50 };
const method = { stored: 0, deflated: 8 };
const fileType = { mask: 0o170000, symlink: 0o120000, directory: 0o040000 };

/** Entries up to this size are read whole: a LibTorch has ten thousand headers and a few large libraries. */
const smallEntry = 4 << 20;

/** An archive that is damaged, unsafe, or uses what this reader does not know. Codes: `DAMAGED`, `UNSAFE`, `UNSUPPORTED`. */
export class ZipError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'ZipError';
    this.code = code;
  }
}

/**
 * Unpacks a zip file into `target`. `select(name)` gives the path, relative to `target`, that an entry is written to, or
 * undefined to leave it out. Every size and CRC-32 is checked. No entry can be written outside `target`: names that
 * lead out are refused before anything is written, and symbolic links, which must stay inside too, are made last.
 */
export async function extractZip(path, target, { select = (name) => name, onProgress, signal } = {}) {
  const file = openSync(path, 'r');
  try {
    const chosen = readEntries(file, path)
      .filter((entry) => !entry.isDirectory)
      .map((entry) => ({ ...entry, to: select(entry.name) }))
      .filter((entry) => entry.to !== undefined)
      .map((entry) => ({ ...entry, to: inside(target, entry.to, entry.name) }));
    const total = chosen.reduce((sum, entry) => sum + entry.size, 0);
    let received = 0;
    const links = [];
    for (const entry of chosen) {
      signal?.throwIfAborted();
      mkdirSync(dirname(entry.to), { recursive: true });
      if (entry.isSymlink) links.push({ ...entry, content: readSmall(file, entry).toString('utf8') });
      else await writeEntry(path, file, entry, signal);
      received += entry.size;
      onProgress?.({ received, total });
    }
    for (const link of links) makeLink(link, target);
    return { files: chosen.length, bytes: total };
  } finally {
    closeSync(file);
  }
}

/** The entries' names, sizes and positions, from the central directory. */
export function listZip(path) {
  const file = openSync(path, 'r');
  try {
    return readEntries(file, path);
  } finally {
    closeSync(file);
  }
}

/** The content of one small entry, or undefined when the archive has none of that name. */
export function readZipEntry(path, name) {
  const file = openSync(path, 'r');
  try {
    const entry = readEntries(file, path).find((candidate) => candidate.name === name);
    return entry === undefined ? undefined : readSmall(file, entry);
  } finally {
    closeSync(file);
  }
}

function readEntries(file, path) {
  const length = fstatSync(file).size;
  const { count, offset, size } = findDirectory(file, length, path);
  if (offset + size > length) throw new ZipError('DAMAGED', `${path} is truncated: its directory lies beyond its end`);
  const directory = readAt(file, offset, size, path);
  const entries = [];
  for (let at = 0, index = 0; index < count; index++) {
    if (at + 46 > size || directory.readUInt32LE(at) !== signature.central) {
      throw new ZipError('DAMAGED', `${path} is damaged: entry ${index} of its directory is not one`);
    }
    const { entry, next } = parseEntry(directory, at);
    entries.push(entry);
    at = next;
  }
  return entries;
}

function parseEntry(directory, at) {
  const nameEnd = at + 46 + directory.readUInt16LE(at + 28);
  const extraEnd = nameEnd + directory.readUInt16LE(at + 30);
  const next = extraEnd + directory.readUInt16LE(at + 32);
  const name = directory.toString('utf8', at + 46, nameEnd);
  // The high half of the external attributes is a Unix mode only when the maker's system (byte 5) is Unix.
  const mode = directory.readUInt8(at + 5) === 3 ? directory.readUInt32LE(at + 38) >>> 16 : 0;
  const entry = {
    name,
    encrypted: (directory.readUInt16LE(at + 8) & 1) === 1,
    method: directory.readUInt16LE(at + 10),
    crc: directory.readUInt32LE(at + 16),
    ...sizes64(directory, at, directory.subarray(nameEnd, extraEnd)),
    mode,
    isDirectory: name.endsWith('/') || (mode & fileType.mask) === fileType.directory,
    isSymlink: (mode & fileType.mask) === fileType.symlink,
  };
  return { entry, next };
}

/** The fields that say 0xffffffff stand, in this order, in the zip64 extra field (APPNOTE 4.5.3). */
function sizes64(directory, at, extra) {
  const fields = {
    size: directory.readUInt32LE(at + 24),
    compressedSize: directory.readUInt32LE(at + 20),
    offset: directory.readUInt32LE(at + 42),
  };
  const wide = extraField(extra, 1);
  let position = 0;
  for (const name of ['size', 'compressedSize', 'offset']) {
    if (fields[name] !== 0xffffffff || wide === undefined || position + 8 > wide.length) continue;
    fields[name] = Number(wide.readBigUInt64LE(position));
    position += 8;
  }
  return fields;
}

function extraField(extra, wanted) {
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === wanted) return extra.subarray(at + 4, at + 4 + length);
    at += 4 + length;
  }
  return undefined;
}

/** The end record stands last, before a comment of at most 65,535 bytes. */
function findDirectory(file, length, path) {
  const size = Math.min(length, 22 + 0xffff);
  const end = readAt(file, length - size, size, path);
  let at = size - 22;
  while (at >= 0 && end.readUInt32LE(at) !== signature.end) at--;
  if (at < 0) throw new ZipError('DAMAGED', `${path} is not a whole zip file: its end record is missing`);
  const record = {
    count: end.readUInt16LE(at + 10),
    size: end.readUInt32LE(at + 12),
    offset: end.readUInt32LE(at + 16),
  };
  const isWide = record.count === 0xffff || record.size === 0xffffffff || record.offset === 0xffffffff;
  if (!isWide || at < 20 || end.readUInt32LE(at - 20) !== signature.locator64) return record;
  const wide = readAt(file, Number(end.readBigUInt64LE(at - 12)), 56, path);
  if (wide.readUInt32LE(0) !== signature.end64)
    throw new ZipError('DAMAGED', `${path} is damaged: no zip64 end record`);
  return {
    count: Number(wide.readBigUInt64LE(32)),
    size: Number(wide.readBigUInt64LE(40)),
    offset: Number(wide.readBigUInt64LE(48)),
  };
}

async function writeEntry(path, file, entry, signal) {
  // Exclusive creation: an archive that names one file twice is refused, not half believed.
  const options = { flag: 'wx', flags: 'wx' };
  if (entry.size <= smallEntry) writeFileSync(entry.to, readSmall(file, entry), options);
  else await streamLarge(path, file, entry, options, signal);
  if (entry.mode & 0o111) chmodSync(entry.to, 0o755);
}

function readSmall(file, entry) {
  const start = dataStart(file, entry);
  const raw = readAt(file, start, entry.compressedSize, entry.name);
  const content = entry.method === method.stored ? raw : inflate(raw, entry);
  verify(entry, content.length, crc32(content));
  return content;
}

function inflate(raw, entry) {
  try {
    return inflateRawSync(raw, { maxOutputLength: Math.max(entry.size, 1) });
  } catch (error) {
    throw new ZipError('DAMAGED', `${entry.name} cannot be unpacked: ${error.message}`);
  }
}

async function streamLarge(path, file, entry, options, signal) {
  const start = dataStart(file, entry);
  let size = 0;
  let crc = 0;
  const check = new Transform({
    transform(chunk, _encoding, done) {
      size += chunk.length;
      crc = crc32(chunk, crc);
      done(size > entry.size ? new ZipError('DAMAGED', `${entry.name} is longer than it says`) : null, chunk);
    },
  });
  const source = createReadStream(path, { start, end: start + entry.compressedSize - 1, highWaterMark: 1 << 20 });
  const unpack = entry.method === method.stored ? [] : [createInflateRaw({ chunkSize: 1 << 20 })];
  try {
    await pipeline(source, ...unpack, check, createWriteStream(entry.to, options), { signal });
  } catch (error) {
    if (!error.code?.startsWith('Z_')) throw error;
    throw new ZipError('DAMAGED', `${entry.name} cannot be unpacked: ${error.message}`);
  }
  verify(entry, size, crc);
}

function dataStart(file, entry) {
  if (entry.encrypted) throw new ZipError('UNSUPPORTED', `${entry.name} is encrypted`);
  if (entry.method !== method.stored && entry.method !== method.deflated) {
    throw new ZipError('UNSUPPORTED', `${entry.name} uses compression method ${entry.method}; expected 0 or 8`);
  }
  const header = readAt(file, entry.offset, 30, entry.name);
  if (header.readUInt32LE(0) !== signature.local)
    throw new ZipError('DAMAGED', `${entry.name} is not where it should be`);
  return entry.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
}

function verify(entry, size, crc) {
  if (size !== entry.size) {
    throw new ZipError('DAMAGED', `${entry.name} is damaged: expected ${entry.size} bytes, got ${size}`);
  }
  if (crc !== entry.crc) {
    const [expected, got] = [entry.crc, crc].map((value) => value.toString(16).padStart(8, '0'));
    throw new ZipError('DAMAGED', `${entry.name} is damaged: expected CRC-32 ${expected}, got ${got}`);
  }
}

function makeLink(link, target) {
  inside(target, join(dirname(link.to.slice(target.length + 1)), link.content), `${link.name} -> ${link.content}`);
  if (isAbsolute(link.content))
    throw new ZipError('UNSAFE', `${link.name} links to ${link.content}, outside the target`);
  symlinkSync(link.content, link.to);
}

/** The full path of an entry; refused when it would lie outside `target`. */
function inside(target, relative, name) {
  const path = normalize(relative);
  const leadsOut = isAbsolute(path) || path === '..' || path.startsWith(`..${sep}`);
  if (leadsOut || path === '.' || /[\\\0]|^[a-z]:/i.test(relative)) {
    throw new ZipError(
      'UNSAFE',
      `the archive holds ${JSON.stringify(name)}, which leads outside the folder it is unpacked to`,
    );
  }
  return join(target, path);
}

function readAt(file, position, length, name) {
  const buffer = Buffer.allocUnsafe(length);
  let read = 0;
  while (read < length) {
    const got = position < 0 ? 0 : readSync(file, buffer, read, length - read, position + read);
    if (got === 0)
      throw new ZipError('DAMAGED', `${name} is truncated: expected ${length} bytes at ${position}, got ${read}`);
    read += got;
  }
  return buffer;
}
