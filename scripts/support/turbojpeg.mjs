import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { root } from './paths.mjs';
import { platformKey } from './platform.mjs';

/** @import { Environment } from './paths.mjs' */

export const turboJpegName = process.platform === 'darwin' ? 'libturbojpeg.0.dylib' : 'libturbojpeg.so.0';

/**
 * Where libjpeg-turbo's TurboJPEG may be, the first that can be used is meant: LAYERWISE_TURBOJPEG, a path, or none; the package with
 * the compiled addon; a clone's development package; and by its name, wherever the system finds libraries.
 * @param {Environment} [env]
 * @returns {string[]}
 */
export function turboJpegCandidates(env = process.env) {
  const named = env.LAYERWISE_TURBOJPEG;
  if (named === 'none') return [];
  if (named) return [resolve(named)];
  return [packagedTurboJpeg(), developedTurboJpeg(), turboJpegName].filter((path) => path !== undefined);
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

function packagedTurboJpeg() {
  const folder = folderOf(`layerwise-${platformKey()}`);
  return folder === undefined ? undefined : join(folder, turboJpegName);
}

/** Of @julusian/jpeg-turbo, which brings the library for each platform. */
export function developedTurboJpeg() {
  const folder = folderOf('@julusian/jpeg-turbo');
  return folder === undefined
    ? undefined
    : join(folder, 'prebuilds', `jpeg-turbo-${process.platform}-${process.arch}`, turboJpegName);
}

/** @param {string} name */
function folderOf(name) {
  try {
    return dirname(createRequire(join(root, 'package.json')).resolve(`${name}/package.json`));
  } catch {
    return undefined;
  }
}
