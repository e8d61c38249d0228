import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { cacheDir, root } from './paths.mjs';
import { platformKey } from './platform.mjs';

/** @import { Environment } from './paths.mjs' */

export const turboJpegName = process.platform === 'darwin' ? 'libturbojpeg.0.dylib' : 'libturbojpeg.so.0';

/** The release of libjpeg-turbo that `brought`, the package with its library for each platform, brings. */
const release = '3.1.2';
const brought = '@julusian/jpeg-turbo';

/**
 * A library that may be there, by its path or, where the system finds it, its name; and where that is from.
 * @typedef {{ path: string, origin: 'LAYERWISE_TURBOJPEG' | 'package' | 'development' | 'cache' | 'system' }} TurboJpegCandidate
 */

/**
 * Where libjpeg-turbo's TurboJPEG may be, the first that can be used is meant: LAYERWISE_TURBOJPEG, a path, or none; the package with
 * the compiled addon; a clone's development package; what set-up put into the cache folder; and wherever the system finds libraries.
 * @param {Environment} [env]
 * @returns {TurboJpegCandidate[]}
 */
export function turboJpegCandidates(env = process.env) {
  const named = env.LAYERWISE_TURBOJPEG;
  if (named === 'none') return [];
  if (named) return [{ path: resolve(named), origin: 'LAYERWISE_TURBOJPEG' }];
  const packaged = folderOf(`layerwise-${platformKey()}`);
  const developed = developedTurboJpeg();
  return [
    ...(packaged === undefined ? [] : [candidate(join(packaged, turboJpegName), 'package')]),
    ...(developed === undefined ? [] : [candidate(developed, 'development')]),
    candidate(fetchedTurboJpeg(env), 'cache'),
    candidate(turboJpegName, 'system'),
  ];
}

/**
 * Whether large images are decoded smaller: unless LAYERWISE_JPEG_SCALING is off. `problem`: that it is neither on nor off.
 * @param {Environment} [env]
 * @returns {{ isOn: boolean, problem?: string }}
 */
export function jpegScaling(env = process.env) {
  const named = env.LAYERWISE_JPEG_SCALING || 'on';
  if (named === 'on' || named === 'off') return { isOn: named === 'on' };
  return { isOn: true, problem: `LAYERWISE_JPEG_SCALING: expected on or off, got ${named}` };
}

/**
 * The release of libjpeg-turbo that a library says of itself, such as `3.1.2`; undefined where it does not.
 * @param {string} path
 * @returns {string | undefined}
 */
export function releaseOfTurboJpeg(path) {
  const bytes = readFileSync(path);
  const at = bytes.indexOf(SAYING);
  return at < 0
    ? undefined
    : /^[\d.]*\d/.exec(bytes.toString('latin1', at + SAYING.length, at + SAYING.length + 20))?.[0];
}

const SAYING = 'libjpeg-turbo version ';

/**
 * @param {string} path
 * @param {TurboJpegCandidate['origin']} origin
 * @returns {TurboJpegCandidate}
 */
function candidate(path, origin) {
  return { path, origin };
}

/** Of the development package. */
export function developedTurboJpeg() {
  const folder = folderOf(brought);
  return folder === undefined ? undefined : libraryIn(folder);
}

/**
 * Where set-up of an installed package puts the library.
 * @param {Environment} env
 */
export function fetchedTurboJpeg(env) {
  return join(cacheDir(env), `libjpeg-turbo-${release}-${platformKey()}`, turboJpegName);
}

/**
 * This platform's library among those that npm has installed into a folder.
 * @param {string} folder
 */
export function installedTurboJpeg(folder) {
  return libraryIn(join(folder, 'node_modules', brought));
}

/** @param {string} folder of the package that brings it */
function libraryIn(folder) {
  return join(folder, 'prebuilds', `jpeg-turbo-${process.platform}-${process.arch}`, turboJpegName);
}

/** @param {string} name */
function folderOf(name) {
  try {
    return dirname(createRequire(join(root, 'package.json')).resolve(`${name}/package.json`));
  } catch {
    return undefined;
  }
}
