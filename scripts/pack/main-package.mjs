import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { filesUnder, writeJson } from '../support/files.mjs';
import { packageVersion, root } from '../support/paths.mjs';
import { npmPack } from './npm-pack.mjs';

/** @import { Tarball } from './npm-pack.mjs' */

/** What a package needs to run, to set itself up and to be read: folders and files of the clone. */
const parts = [
  ...['dist', 'commonjs', 'native'],
  ...['scripts/setup', 'scripts/libtorch', 'scripts/doctor', 'scripts/support'],
  ...['scripts/setup.mjs', 'scripts/libtorch.mjs', 'scripts/doctor.mjs', 'scripts/download.mjs'],
  ...['scripts/generate-operators.mjs', 'CMakeLists.txt', 'README.md', 'CHANGELOG.md', 'LICENSE', 'docs/recipe.md'],
];

/** Source maps lead to sources that a package does not hold; what the compiler keeps for itself is nobody else's. */
const leftOut = /\.(map|tsbuildinfo|png)$/;

/** What of package.json only a clone needs. */
const ofClone = ['private', 'scripts', 'devDependencies'];

/**
 * @param {string} folder where the tarball goes, and beside it what is in it
 * @param {{ prebuilt: string | undefined }} options the name of the package with the compiled addon
 * @returns {Promise<Tarball>}
 */
export async function packMain(folder, { prebuilt }) {
  const stage = join(folder, 'layerwise');
  rmSync(stage, { recursive: true, force: true });
  for (const path of sources()) copy(path, join(stage, relative(root, path)));
  /** @type {Record<string, unknown>} */
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const name of ofClone) delete manifest[name];
  if (prebuilt !== undefined) manifest.optionalDependencies = { [prebuilt]: packageVersion };
  writeJson(join(stage, 'package.json'), manifest);
  return npmPack(stage, folder);
}

function sources() {
  return parts
    .flatMap((part) => (part.includes('.') || part === 'LICENSE' ? [join(root, part)] : filesUnder(join(root, part))))
    .filter((path) => !leftOut.test(path));
}

/**
 * @param {string} from
 * @param {string} to
 */
function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  if (/\.js$/.test(to)) writeFileSync(to, withoutSourceMap(readFileSync(from, 'utf8')));
  else if (/\.d\.ts$/.test(to)) writeFileSync(to, withRelativeScripts(readFileSync(from, 'utf8'), from));
  else cpSync(from, to);
}

/** @param {string} code */
function withoutSourceMap(code) {
  return code.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, '\n');
}

/**
 * The types of `#scripts/...` by their paths: the old resolution `node` knows no "imports" of package.json.
 * @param {string} types
 * @param {string} file
 */
function withRelativeScripts(types, file) {
  const path = relative(dirname(file), join(root, 'dist', 'scripts'));
  return types.replace(/(['"])#scripts\//g, `$1${path.startsWith('.') ? path : `./${path}`}/`);
}
