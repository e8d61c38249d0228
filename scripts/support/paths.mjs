import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Variables such as those of the process; tests give others.
 * @typedef {Readonly<Record<string, string | undefined>>} Environment
 */

/** The repository's root, without a trailing slash. */
export const root = resolve(fileURLToPath(new URL('../..', import.meta.url)));

/**
 * Everything that set-up makes for this clone: the resolved LibTorch, stamps, logs, the addon.
 * @param {Environment} [env]
 */
export function outDir(env = process.env) {
  return resolve(root, env.LAYERWISE_OUT || 'out');
}

/**
 * What clones share: downloads and provisioned copies of LibTorch.
 * @param {Environment} [env]
 */
export function cacheDir(env = process.env) {
  if (env.LAYERWISE_CACHE) return resolve(env.LAYERWISE_CACHE);
  if (env.XDG_CACHE_HOME) return join(resolve(env.XDG_CACHE_HOME), 'layerwise');
  return join(homedir(), '.cache', 'layerwise');
}
