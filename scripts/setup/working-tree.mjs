import { accessSync, constants, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { reasonOf } from '../support/errors.mjs';
import { filesUnder } from '../support/files.mjs';
import { linkEntries } from '../support/links.mjs';
import { withLock } from '../support/lock.mjs';
import { isPackage, outDir, root } from '../support/paths.mjs';
import { areInstalled } from './dependencies.mjs';

/** What set-up, builds and runs make in a tree; all else is its source. */
const made = new Set(['.git', 'build', 'data', 'dist', 'node_modules', 'out', 'runs']);
/** Folders of node_modules that Vite writes. */
const caches = ['.vite', '.vite-temp'];
const generated = join('lib', 'tensor', 'generated');

/**
 * The tree to set up and run: the clone, or, where the clone cannot be written (a read-only mount, another user's), a copy
 * of its sources in the state directory, brought up to date. Where the state directory cannot be written either, the clone
 * has to be complete and is returned as it is, and so is a package, in which nothing is made. Undefined after a failure, which
 * is printed.
 * @param {Record<string, string | undefined>} [env]
 */
export async function workingTree(env = process.env) {
  const out = outDir(env);
  if (isPackage || isWritable(root) || !couldBeMade(out)) return root;
  const copy = join(out, 'source');
  try {
    await withLock(join(out, 'source.lock'), async () => copySources(root, copy));
    if (areInstalled() && !existsSync(join(copy, 'node_modules'))) {
      linkEntries(join(root, 'node_modules'), join(copy, 'node_modules'), caches);
    }
  } catch (error) {
    process.stderr.write(
      `set-up failed: ${root} cannot be written, and not be copied to ${copy}: ${reasonOf(error)}\n`,
    );
    return undefined;
  }
  // Relative to the clone until now.
  env.LAYERWISE_OUT = out;
  return copy;
}

/** @param {string} path */
export function isWritable(path) {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {string} folder
 * @returns {boolean}
 */
export function couldBeMade(folder) {
  return existsSync(folder) ? isWritable(folder) : couldBeMade(dirname(folder));
}

/**
 * Only what differs is written, so that nothing is compiled again without need; what is gone from the source goes.
 * @param {string} from
 * @param {string} to
 */
function copySources(from, to) {
  const wanted = readdirSync(from, { withFileTypes: true })
    .filter(({ name }) => !made.has(name))
    .flatMap((entry) => (entry.isDirectory() ? filesUnder(join(from, entry.name)) : [join(from, entry.name)]))
    .map((path) => relative(from, path))
    .filter((path) => !path.startsWith(generated));
  for (const path of wanted) {
    if (sameContent(join(from, path), join(to, path))) continue;
    mkdirSync(dirname(join(to, path)), { recursive: true });
    cpSync(join(from, path), join(to, path), { dereference: true });
  }
  const known = new Set(wanted);
  const present = readdirSync(to, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !made.has(entry.name))
    .flatMap(({ name }) => filesUnder(join(to, name)))
    .map((path) => relative(to, path));
  for (const path of present) {
    if (!known.has(path) && !path.startsWith(generated)) rmSync(join(to, path));
  }
}

/**
 * @param {string} left
 * @param {string} right
 */
function sameContent(left, right) {
  return existsSync(right) && readFileSync(left).equals(readFileSync(right));
}
