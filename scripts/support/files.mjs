import { createHash, randomUUID } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { systemReason } from './errors.mjs';

/** @import { FileHandle } from 'node:fs/promises' */

/** The system refused a change on disk. The message names the path, what was to be done and why it could not be. */
export class WriteError extends Error {
  code = /** @type {const} */ ('WRITE_FAILED');

  /**
   * @param {string} path
   * @param {unknown} cause
   * @param {string} [action] a participle
   */
  constructor(path, cause, action = 'written') {
    super(`${path}: could not be ${action}: ${systemReason(cause)}`, { cause });
    this.name = 'WriteError';
    this.path = path;
  }
}

/**
 * An error of the system as a WriteError; any other as it is.
 * @param {string} path
 * @param {unknown} error
 * @param {string} [action] a participle (default: written)
 * @returns {unknown}
 */
export function asWriteError(path, error, action) {
  const isOfSystem = error instanceof Error && 'syscall' in error && !(error instanceof WriteError);
  return isOfSystem ? new WriteError(path, error, action) : error;
}

/**
 * Files that are being written: removed if the process (or the worker thread) ends before they are whole.
 * @type {Set<string>}
 */
const partials = new Set();

/**
 * Two writers of one file must not write into each other's partial one.
 * @param {string} path
 */
function beginPartial(path) {
  if (partials.size === 0) process.on('exit', removePartials);
  const partial = `${path}.${randomUUID().slice(0, 8)}.partial`;
  partials.add(partial);
  return partial;
}

/** @param {string} partial */
function endPartial(partial) {
  partials.delete(partial);
  if (partials.size === 0) process.removeListener('exit', removePartials);
}

function removePartials() {
  for (const partial of partials) rmSync(partial, { force: true });
}

/**
 * Writes a file that appears whole or not at all, and is on the disk when this resolves; until then an older one stays.
 * Rejects with WriteError.
 * @param {string} path
 * @param {string | Uint8Array | ((file: FileHandle) => Promise<void>)} content a function writes to the file it is given, which it may read, too
 */
export async function writeWhole(path, content) {
  const partial = beginPartial(path);
  try {
    const file = await open(partial, 'w+');
    try {
      await (typeof content === 'function' ? content(file) : file.writeFile(content));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    throw asWriteError(path, error);
  } finally {
    endPartial(partial);
  }
}

/**
 * What a JSON file holds, or undefined when it is missing or not JSON (a file that a crash left half written).
 * @param {string} path
 * @returns {unknown}
 */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Whether a value is an object whose members can be looked at: a JSON file may hold anything.
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
export function isObject(value) {
  return typeof value === 'object' && value !== null;
}

/**
 * Writes a JSON file whole or not at all. Throws WriteError.
 * @param {string} path
 * @param {unknown} value
 */
export function writeJson(path, value) {
  const partial = beginPartial(path);
  try {
    mkdirSync(dirname(path), { recursive: true });
    const file = openSync(partial, 'w');
    try {
      writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(partial, path);
  } catch (error) {
    rmSync(partial, { force: true });
    throw asWriteError(path, error);
  } finally {
    endPartial(partial);
  }
}

/**
 * The text of a file, or '' when there is none.
 * @param {string} path
 */
export function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/**
 * The files under a folder, sorted, as full paths; none when the folder is missing.
 * @param {string} folder
 * @param {(name: string) => boolean} [accept]
 */
export function filesUnder(folder, accept = () => true) {
  return entriesUnder(folder)
    .filter((entry) => entry.isFile() && accept(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** @param {string} folder */
function entriesUnder(folder) {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true });
  } catch {
    return [];
  }
}

/**
 * One digest over names and contents; a missing file counts as its absence.
 * @param {readonly string[]} paths
 * @param {string} [base] the names are relative to it (default: the paths as given)
 */
export function digestFiles(paths, base) {
  const hash = createHash('sha256');
  for (const path of paths) {
    hash.update(`${base === undefined ? path : relative(base, path)}\0`);
    try {
      const content = readFileSync(path);
      hash.update(`${content.length}\0`).update(content);
    } catch {
      hash.update('missing\0');
    }
  }
  return hash.digest('hex');
}

/**
 * Size and modification time: enough to notice that a large file was replaced, without reading it.
 * @param {string} path
 */
export function identityOf(path) {
  try {
    const { size, mtimeMs } = statSync(path);
    return `${size}@${mtimeMs}`;
  } catch {
    return 'missing';
  }
}
