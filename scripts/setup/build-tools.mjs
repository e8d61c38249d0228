import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir, isPackage, root } from '../support/paths.mjs';
import { installTools, toolsFolder } from './locked-tools.mjs';

/** @import { Environment } from '../support/paths.mjs' */
/** @import { StepContext } from './steps.mjs' */

/** What a package brings to build its addon with: names and versions, locked. */
const locked = join(root, 'scripts', 'setup', 'build-tools');

/**
 * The folder whose node_modules holds cmake-js and Node-API's headers: the clone, where they are development dependencies, or
 * a folder of the cache, since whoever only uses a package needs none of them.
 * @param {Environment} [env]
 */
export function toolsRoot(env = process.env) {
  return isPackage ? toolsFolder(locked, join(cacheDir(env), 'build-tools')) : root;
}

/**
 * Brings what a package builds with into the cache. In a clone it is there.
 * @param {StepContext} context
 */
export async function installBuildTools(context) {
  const folder = toolsRoot(context.env);
  if (existsSync(folder)) return;
  context.note('fetching what the addon is built with (cmake-js and the headers of Node-API) by npm');
  await installTools(locked, folder, context);
}
