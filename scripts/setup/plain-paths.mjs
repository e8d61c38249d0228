import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readRecord } from '../libtorch/resolved.mjs';
import { reasonOf, SetupError } from '../support/errors.mjs';
import { writeJson } from '../support/files.mjs';
import { linkEntries } from '../support/links.mjs';
import { isPackage, root } from '../support/paths.mjs';
import { toolsRoot } from './build-tools.mjs';

/** @import { LibTorch } from '../libtorch/resolved.mjs' */

/**
 * The clone, a folder for node-gyp, the state directory and the folders of Node-API's headers, under plain paths.
 * @typedef {{ source: string, gypSource: string, out: string, nodeApi: string[] }} PlainPaths
 */

/**
 * What every build tool takes as it is. Of the rest each refuses something else: CMake `#`, `[` and `;`, gyp spaces, make
 * `$`, `:` and `=`, the compiler's way to the linker commas; and CMake warns of long paths.
 */
const plain = /^[\p{L}\p{M}\p{N}/._+~@-]{1,400}$/u;

/** @param {string} path */
export function isPlain(path) {
  return plain.test(path);
}

/**
 * Calls `work` with paths that every build tool takes: those of the clone, of the state directory and of Node-API's headers
 * themselves, or links to them in a temporary folder, which goes afterwards. `out` then holds what the build reads of the
 * state directory, so what the build makes there is to be fetched.
 * @template T
 * @param {string} out
 * @param {(paths: PlainPaths) => T | Promise<T>} work
 */
export async function withPlainPaths(out, work) {
  const record = readRecord(out);
  if (record === undefined) throw new SetupError('LIBTORCH_NOT_FOUND', `${out} holds no record of a LibTorch`);
  const nodeApi = nodeApiIncludes();
  if ([root, out, ...foldersOf(record), ...nodeApi].every(isPlain)) {
    return work({ source: root, gypSource: root, out, nodeApi });
  }
  const folder = temporaryFolder();
  try {
    return await work(linkInto(folder, { out, record, nodeApi }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns {string[]} */
function nodeApiIncludes() {
  const require = createRequire(join(toolsRoot(), 'package.json'));
  return [require('node-api-headers').include_dir, dirname(require.resolve('node-addon-api'))];
}

/** @param {LibTorch} record */
function foldersOf({ includeDirs, libDir, runtimeDirs, cudaIncludeDir, ncclIncludeDir }) {
  return [
    ...includeDirs,
    libDir,
    ...runtimeDirs,
    ...[cudaIncludeDir, ncclIncludeDir].flatMap((folder) => folder ?? []),
  ];
}

function temporaryFolder() {
  const parent = isPlain(tmpdir()) ? tmpdir() : '/tmp';
  try {
    return mkdtempSync(join(parent, 'layerwise-'));
  } catch (cause) {
    const message = `the build tools do not take the path ${root}, and no link to it can be made in ${parent}`;
    throw new SetupError('PLAIN_PATH', `${message}: ${reasonOf(cause)}`, {
      mend: 'TMPDIR=DIR names a folder that can be written, whose path is of letters and digits',
      cause,
    });
  }
}

/**
 * @param {string} folder
 * @param {{ out: string, record: LibTorch, nodeApi: string[] }} targets
 * @returns {PlainPaths}
 */
function linkInto(folder, { out, record, nodeApi }) {
  /** @type {Map<string, string>} */
  const links = new Map();
  /** @param {string} path */
  const link = (path) => {
    if (isPlain(path)) return path;
    const made = links.get(path) ?? join(folder, `link-${links.size}`);
    if (!links.has(path)) symlinkSync(path, made);
    links.set(path, made);
    return made;
  };
  const [plainOut, gypSource] = [join(folder, 'out'), join(folder, 'gyp')];
  mkdirSync(plainOut);
  for (const name of ['generated', 'rpath.txt']) symlinkSync(join(out, name), join(plainOut, name));
  writeJson(join(plainOut, 'libtorch.json'), {
    ...record,
    includeDirs: record.includeDirs.map(link),
    libDir: link(record.libDir),
    libraries: record.libraries.map((path) => join(link(dirname(path)), path.slice(dirname(path).length + 1))),
    runtimeDirs: record.runtimeDirs.map(link),
    cudaIncludeDir: record.cudaIncludeDir === null ? null : link(record.cudaIncludeDir),
    ncclIncludeDir: record.ncclIncludeDir === null ? null : link(record.ncclIncludeDir),
  });
  if (!isPackage) linkGypSource(gypSource);
  return { source: link(root), gypSource, out: plainOut, nodeApi: nodeApi.map(link) };
}

/**
 * A folder for node-gyp. gyp looks through links to its own files, so those are copied.
 * @param {string} folder
 */
function linkGypSource(folder) {
  const modules = join(folder, 'node_modules');
  linkEntries(join(root, 'node_modules'), modules, ['node-gyp']);
  cpSync(join(root, 'binding.gyp'), join(folder, 'binding.gyp'));
  for (const name of ['native', 'package.json', 'scripts']) symlinkSync(join(root, name), join(folder, name));
  const nodeGyp = join(root, 'node_modules', 'node-gyp');
  if (existsSync(nodeGyp)) cpSync(nodeGyp, join(modules, 'node-gyp'), { recursive: true, dereference: true });
}
