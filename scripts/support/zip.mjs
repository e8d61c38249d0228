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
import { fromRandomAccessReaderPromise, getFileNameLowLevel, RandomAccessReader } from 'yauzl';
import { codeOf, reasonOf } from './errors.mjs';

/**
 * A file or symbolic link of an archive.
 * @typedef {object} ZipEntry
 * @property {string} name
 * @property {number} size bytes, unpacked
 * @property {number} mode the Unix mode, or 0 where the archive's maker had none
 * @property {import('yauzl').Entry} directory what the central directory says of it
 */

/**
 * An open archive: its entries are read by yauzl, their contents here. Node's own calls are three times as fast as a
 * stream for each of ten thousand headers, and yauzl does not check the CRC-32.
 * @typedef {object} Archive
 * @property {string} path
 * @property {number} file a file descriptor
 * @property {import('yauzl').ZipFile} zip
 */

const fileType = { mask: 0o170000, symlink: 0o120000, directory: 0o040000 };

/** Entries up to this size are read whole: a LibTorch has ten thousand headers and a few large libraries. */
const smallEntry = 4 << 20;

/** An archive that is damaged, unsafe, or uses what this reader does not know. */
export class ZipError extends Error {
  /**
   * @param {'DAMAGED' | 'UNSAFE' | 'UNSUPPORTED'} code
   * @param {string} message
   */
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
 * @param {string} path
 * @param {string} target
 * @param {{ select?: (name: string) => string | undefined, signal?: AbortSignal | undefined }} [options]
 * @returns {Promise<{ files: number, bytes: number }>} what was unpacked
 */
export async function extractZip(path, target, { select = (name) => name, signal } = {}) {
  return withZip(path, async (archive, entries) => {
    const chosen = entries.flatMap((entry) => {
      const to = select(entry.name);
      return to === undefined ? [] : [{ ...entry, to: inside(target, to, entry.name) }];
    });
    const links = [];
    for (const entry of chosen) {
      signal?.throwIfAborted();
      mkdirSync(dirname(entry.to), { recursive: true });
      const isLink = (entry.mode & fileType.mask) === fileType.symlink;
      if (isLink) links.push({ ...entry, content: (await readSmall(archive, entry)).toString('utf8') });
      else await writeEntry(archive, entry, signal);
    }
    for (const link of links) makeLink(link, target);
    return { files: chosen.length, bytes: chosen.reduce((sum, { size }) => sum + size, 0) };
  });
}

/**
 * The names of the files, from the central directory.
 * @param {string} path
 * @returns {Promise<string[]>}
 */
export async function listZip(path) {
  return withZip(path, async (_, entries) => entries.map(({ name }) => name));
}

/**
 * The content of one small file, or undefined when the archive has none of that name.
 * @param {string} path
 * @param {string} name
 * @returns {Promise<Buffer | undefined>}
 */
export async function readZipEntry(path, name) {
  return withZip(path, async (archive, entries) => {
    const entry = entries.find((candidate) => candidate.name === name);
    return entry === undefined ? undefined : readSmall(archive, entry);
  });
}

/**
 * @template T
 * @param {string} path
 * @param {(archive: Archive, entries: ZipEntry[]) => Promise<T>} work
 */
async function withZip(path, work) {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    // Names are decoded and judged here: yauzl refuses a bad one as any other damage, also where nobody selects it.
    const options = { autoClose: false, decodeStrings: false };
    const zip = await damaged(path, () => fromRandomAccessReaderPromise(new FileReader(file), size, options));
    return await work({ path, file, zip }, await damaged(path, () => readEntries(zip)));
  } finally {
    closeSync(file);
  }
}

/** How yauzl reads the file. With its own reader an impossible position in the archive would end the process. */
class FileReader extends RandomAccessReader {
  #file;

  /** @param {number} file */
  constructor(file) {
    super();
    this.#file = file;
  }

  /**
   * What went wrong, or null.
   * @param {Buffer} buffer
   * @param {number} position
   */
  #fill(buffer, position) {
    if (!Number.isSafeInteger(position)) return new Error(`it names a position that no file has, ${position}`);
    const read = readSync(this.#file, buffer, 0, buffer.length, position);
    return read === buffer.length ? null : new Error('it ends too early');
  }

  /**
   * @override
   * @type {RandomAccessReader['read']}
   */
  read(buffer, offset, length, position, callback) {
    callback(this.#fill(buffer.subarray(offset, offset + length), position));
  }
}

/** @param {import('yauzl').ZipFile} zip */
async function readEntries(zip) {
  /** @type {ZipEntry[]} */
  const entries = [];
  for await (const directory of zip.eachEntry()) {
    const { generalPurposeBitFlag, fileNameRaw, extraFields, uncompressedSize: size } = directory;
    const name = getFileNameLowLevel(generalPurposeBitFlag, fileNameRaw, extraFields, true);
    // The high half of the external attributes is a Unix mode only when the maker's system is Unix.
    const mode = directory.versionMadeBy >>> 8 === 3 ? directory.externalFileAttributes >>> 16 : 0;
    const isFolder = name.endsWith('/') || (mode & fileType.mask) === fileType.directory;
    if (!isFolder) entries.push({ name, size, mode, directory });
  }
  return entries;
}

/**
 * @param {Archive} archive
 * @param {ZipEntry & { to: string }} entry
 * @param {AbortSignal | undefined} signal
 */
async function writeEntry(archive, entry, signal) {
  // Exclusive creation: an archive that names one file twice is refused, not half believed.
  if (entry.size <= smallEntry) writeFileSync(entry.to, await readSmall(archive, entry), { flag: 'wx' });
  else await streamLarge(archive, entry, signal);
  if (entry.mode & 0o111) chmodSync(entry.to, 0o755);
}

/**
 * @param {Archive} archive
 * @param {ZipEntry} entry
 */
async function readSmall(archive, entry) {
  const { compressedSize, compressionMethod } = entry.directory;
  const start = await dataStart(archive, entry);
  const raw = Buffer.allocUnsafe(compressedSize);
  if (readSync(archive.file, raw, 0, compressedSize, start) < compressedSize) {
    throw new ZipError('DAMAGED', `${entry.name} is damaged: its data lies beyond the end of ${archive.path}`);
  }
  const inflate = () => inflateRawSync(raw, { maxOutputLength: Math.max(entry.size, 1) });
  const content = compressionMethod === 0 ? raw : await damaged(entry.name, inflate);
  verify(entry, content.length, crc32(content));
  return content;
}

/**
 * @param {Archive} archive
 * @param {ZipEntry & { to: string }} entry
 * @param {AbortSignal | undefined} signal
 */
async function streamLarge(archive, entry, signal) {
  const { compressedSize, compressionMethod } = entry.directory;
  const start = await dataStart(archive, entry);
  let size = 0;
  let crc = 0;
  const check = new Transform({
    transform(chunk, _encoding, done) {
      size += chunk.length;
      crc = crc32(chunk, crc);
      done(size > entry.size ? new ZipError('DAMAGED', `${entry.name} is longer than it says`) : null, chunk);
    },
  });
  const range = { start, end: start + compressedSize - 1, highWaterMark: 1 << 20 };
  const source = createReadStream(archive.path, range);
  const unpack = compressionMethod === 0 ? [] : [createInflateRaw({ chunkSize: 1 << 20 })];
  const target = createWriteStream(entry.to, { flags: 'wx' });
  await damaged(entry.name, () => pipeline([source, ...unpack, check, target], { signal }));
  verify(entry, size, crc);
}

/**
 * Where the data of an entry begins, behind a header of its own.
 * @param {Archive} archive
 * @param {ZipEntry} entry
 */
async function dataStart({ zip }, { name, directory }) {
  if (directory.isEncrypted()) throw new ZipError('UNSUPPORTED', `${name} is encrypted`);
  if (!directory.canDecodeFileData()) {
    const method = directory.compressionMethod;
    throw new ZipError('UNSUPPORTED', `${name} uses compression method ${method}; expected 0 or 8`);
  }
  return (await damaged(name, () => zip.readLocalFileHeaderPromise(directory, { minimal: true }))).fileDataStart;
}

/**
 * @param {ZipEntry} entry
 * @param {number} size
 * @param {number} crc
 */
function verify({ name, size: expectedSize, directory }, size, crc) {
  if (size !== expectedSize) {
    throw new ZipError('DAMAGED', `${name} is damaged: expected ${expectedSize} bytes, got ${size}`);
  }
  if (crc !== directory.crc32) {
    const [expected, got] = [directory.crc32, crc].map((value) => value.toString(16).padStart(8, '0'));
    throw new ZipError('DAMAGED', `${name} is damaged: expected CRC-32 ${expected}, got ${got}`);
  }
}

/**
 * What yauzl and zlib say of an archive's bytes, as a ZipError; what the system says, and an abort, as it is.
 * @template T
 * @param {string} name
 * @param {() => T | Promise<T>} read
 * @returns {Promise<T>}
 */
async function damaged(name, read) {
  try {
    return await read();
  } catch (error) {
    const code = codeOf(error);
    if (error instanceof ZipError || (code !== undefined && !/^(Z_|ERR_)/.test(code))) throw error;
    throw new ZipError('DAMAGED', `${name} is damaged: ${reasonOf(error)}`);
  }
}

/**
 * @param {{ name: string, to: string, content: string }} link
 * @param {string} target
 */
function makeLink({ name, to, content }, target) {
  inside(target, join(dirname(to.slice(target.length + 1)), content), `${name} -> ${content}`);
  if (isAbsolute(content)) throw new ZipError('UNSAFE', `${name} links to ${content}, outside the target`);
  symlinkSync(content, to);
}

/**
 * The full path of an entry; refused when it would lie outside `target`.
 * @param {string} target
 * @param {string} relative
 * @param {string} name
 */
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
