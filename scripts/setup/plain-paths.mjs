import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { readJson, writeJson } from '../support/files.mjs';
import { linkEntries } from '../support/links.mjs';
import { root } from '../support/paths.mjs';

/**
 * What every build tool takes as it is. Of the rest each refuses something else: CMake `#`, `[` and `;`, gyp spaces, make
 * `$`, `:` and `=`, the compiler's way to the linker commas; and CMake warns of long paths.
 */
const plain = /^[\p{L}\p{M}\p{N}/._+~@-]{1,400}$/u;

export function isPlain(path) {
  return plain.test(path);
}

/**
 * Calls `work({ source, gypSource, out, nodeApi })` with paths that every build tool takes: those of the clone, of the
 * state directory and of Node-API's headers themselves, or links to them in a temporary folder, which goes afterwards.
 * `out` then holds what the build reads of the state directory, so what the build makes there is to be fetched.
 */
export async function withPlainPaths(out, work) {
  const record = readJson(join(out, 'libtorch.json'));
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

function nodeApiIncludes() {
  const require = createRequire(join(root, 'package.json'));
  return [require('node-api-headers').include_dir, dirname(require.resolve('node-addon-api'))];
}

function foldersOf({ includeDirs, libDir, runtimeDirs, cudaIncludeDir }) {
  return [...includeDirs, libDir, ...runtimeDirs, cudaIncludeDir].filter((path) => path !== null);
}

function temporaryFolder() {
  const parent = [tmpdir(), '/tmp'].find(isPlain);
  try {
    return mkdtempSync(join(parent, 'layerwise-'));
  } catch (cause) {
    const message = `the build tools do not take the path ${root}, and no link to it can be made in ${parent}`;
    throw new SetupError('PLAIN_PATH', `${message}: ${cause.message}`, {
      mend: 'TMPDIR=DIR names a folder that can be written, whose path is of letters and digits',
      cause,
    });
  }
}

function linkInto(folder, { out, record, nodeApi }) {
  const links = new Map();
  const link = (path) => {
    if (path === null || isPlain(path)) return path;
    if (!links.has(path)) {
      links.set(path, join(folder, `link-${links.size}`));
      symlinkSync(path, links.get(path));
    }
    return links.get(path);
  };
  const [plainOut, gypSource] = ['out', 'gyp'].map((name) => join(folder, name));
  mkdirSync(plainOut);
  for (const name of ['generated', 'rpath.txt']) symlinkSync(join(out, name), join(plainOut, name));
  writeJson(join(plainOut, 'libtorch.json'), {
    ...record,
    includeDirs: record.includeDirs.map(link),
    libDir: link(record.libDir),
    libraries: record.libraries.map((path) => join(link(dirname(path)), path.slice(dirname(path).length + 1))),
    runtimeDirs: record.runtimeDirs.map(link),
    cudaIncludeDir: link(record.cudaIncludeDir),
  });
  linkGypSource(gypSource);
  return { source: link(root), gypSource, out: plainOut, nodeApi: nodeApi.map(link) };
}

/** A folder for node-gyp. gyp looks through links to its own files, so those are copied. */
function linkGypSource(folder) {
  const modules = join(folder, 'node_modules');
  linkEntries(join(root, 'node_modules'), modules, ['node-gyp']);
  cpSync(join(root, 'binding.gyp'), join(folder, 'binding.gyp'));
  for (const name of ['native', 'package.json', 'scripts']) symlinkSync(join(root, name), join(folder, name));
  const nodeGyp = join(root, 'node_modules', 'node-gyp');
  if (existsSync(nodeGyp)) cpSync(nodeGyp, join(modules, 'node-gyp'), { recursive: true, dereference: true });
}
