import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { isObject, readJson, writeJson } from '../support/files.mjs';
import { outDir } from '../support/paths.mjs';

/** @typedef {import('../support/paths.mjs').Environment} Environment */

/**
 * A LibTorch, as `out/libtorch.json` holds it: exactly which files to include and link.
 * @typedef {object} LibTorch
 * @property {string} source where it comes from, in words
 * @property {string} root
 * @property {string[]} includeDirs
 * @property {string} libDir
 * @property {string[]} libraries full paths
 * @property {string[]} runtimeDirs where NVIDIA's libraries are
 * @property {string} version
 * @property {string | null} cuda the CUDA release, such as 13.0; null for a CPU build
 * @property {string | null} cudaIncludeDir
 * @property {string | null} ncclIncludeDir
 * @property {boolean} cxx11Abi
 * @property {string[]} [compromise] why this CPU build stands in for a CUDA one
 */

/**
 * The record that set-up left, or undefined; one whose libraries are gone counts as none.
 * @param {Environment} [env]
 * @returns {LibTorch | undefined}
 */
export function readResolved(env = process.env) {
  const record = readRecord(outDir(env));
  return record?.libraries.every((path) => existsSync(path)) ? record : undefined;
}

/**
 * What a state directory's record says, or undefined, whether or not the libraries are still there.
 * @param {string} out
 */
export function readRecord(out) {
  const record = readJson(join(out, 'libtorch.json'));
  return isLibTorch(record) ? record : undefined;
}

/**
 * @param {unknown} record
 * @returns {record is LibTorch}
 */
function isLibTorch(record) {
  if (!isObject(record)) return false;
  const { source, root, libDir, version, cuda, cudaIncludeDir, ncclIncludeDir, cxx11Abi } = record;
  const lists = [record.includeDirs, record.libraries, record.runtimeDirs];
  return (
    [source, root, libDir, version].every((value) => typeof value === 'string') &&
    [cuda, cudaIncludeDir, ncclIncludeDir].every((value) => value === null || typeof value === 'string') &&
    lists.every((list) => Array.isArray(list) && list.every((path) => typeof path === 'string')) &&
    typeof cxx11Abi === 'boolean'
  );
}

/**
 * Writes the record, and beside it the linker's arguments for where LibTorch is found when the addon loads.
 * @param {LibTorch} record
 * @param {Environment} [env]
 */
export function writeResolved(record, env = process.env) {
  const folders = [record.libDir, ...record.runtimeDirs];
  refuseSearchPaths(folders);
  const quoted = folders.map((folder) => `-rpath "${folder.replace(/["\\]/g, '\\$&')}"\n`);
  writeJson(join(outDir(env), 'libtorch.json'), record);
  writeFileSync(join(outDir(env), 'rpath.txt'), quoted.join(''));
}

/**
 * The loader's search paths are separated by colons and have variables; neither can be quoted.
 * @param {string[]} folders
 */
function refuseSearchPaths(folders) {
  const bad = folders.find((folder) => /[:\n]|\$\{?(ORIGIN|LIB|PLATFORM)/.test(folder));
  if (bad === undefined) return;
  throw new SetupError(
    'LIBTORCH_PATH',
    `LibTorch lies in ${bad}, where no loader finds it: expected a path without ":", line breaks and $ORIGIN, $LIB or $PLATFORM`,
    { mend: 'LAYERWISE_CACHE=DIR or LIBTORCH=DIR names another folder' },
  );
}
