import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { platformKey } from './platform.mjs';

/**
 * Variables such as those of the process; tests give others.
 * @typedef {Readonly<Record<string, string | undefined>>} Environment
 */

/** The repository's root, without a trailing slash. */
export const root = resolve(fileURLToPath(new URL('../..', import.meta.url)));

const manifest = readManifest();

/** The version of this package. */
export const packageVersion = manifest.version;

/** Whether this is the package as npm installs it, compiled and without its TypeScript, rather than a clone. */
export const isPackage = !existsSync(join(root, 'tsconfig.json'));

/** What a user types, here, to set up. */
export const setUpCommand = isPackage ? 'npx layerwise setup' : 'npm run setup';

/** What a user types, here, to see what is wrong. */
export const doctorCommand = isPackage ? 'npx layerwise doctor' : 'npm run doctor';

/** The Node-API version that the addon is compiled for. */
export const nodeApiVersion = manifest.binary.napi_versions[0];

/**
 * The state directory, with everything that set-up makes: the resolved LibTorch, stamps, logs, the addon. A clone has its own. A
 * package has one in the cache folder, by version and ABI, since `npm ci` removes whatever lies in node_modules.
 * @param {Environment} [env]
 */
export function outDir(env = process.env) {
  if (!isPackage) return resolve(root, env.LAYERWISE_OUT || 'out');
  if (env.LAYERWISE_OUT) return resolve(env.LAYERWISE_OUT);
  return join(cacheDir(env), `layerwise-${packageVersion}-napi${nodeApiVersion}-${platformKey()}`);
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

/** @returns {{ version: string, binary: { napi_versions: readonly number[] } }} */
function readManifest() {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
}
