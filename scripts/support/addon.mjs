import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isPackage, outDir, root } from './paths.mjs';

/** @import { Environment } from './paths.mjs' */

/**
 * The addon that was compiled here, by CMake.
 * @param {string} out
 */
export function compiledAddon(out) {
  return join(out, 'cmake', 'Release', 'layerwise.node');
}

/**
 * The addon that came compiled, in a package of its own. Beside it `libtorch` is a link to LibTorch's libraries, where its DT_RPATH
 * looks for them.
 * @param {string} out
 */
export function prebuiltAddon(out) {
  return join(out, 'prebuilt', 'layerwise.node');
}

/**
 * Where the addon may be, the first that exists is meant: LAYERWISE_ADDON, what set-up made, a clone's node-gyp build.
 * @param {Environment} [env]
 */
export function addonCandidates(env = process.env) {
  if (env.LAYERWISE_ADDON) return [resolve(env.LAYERWISE_ADDON)];
  const out = outDir(env);
  return [
    ...(isPackage ? [prebuiltAddon(out)] : []),
    compiledAddon(out),
    ...(isPackage ? [] : [join(root, 'build', 'Release', 'layerwise.node')]),
  ];
}

/**
 * The addon that the library loads; undefined where there is none.
 * @param {Environment} [env]
 */
export function addonPath(env = process.env) {
  return addonCandidates(env).find((path) => existsSync(path));
}
