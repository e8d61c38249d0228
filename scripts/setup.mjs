import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMain } from './support/main.mjs';
import { requireNode } from './support/node-version.mjs';
import { root } from './support/paths.mjs';
import { takeSanitizer } from './support/sanitize.mjs';

/**
 * Brings a clone or an installed package to the point where it trains: LibTorch and the addon, and in a clone the npm dependencies
 * and the compiled TypeScript. Each step prints one line to standard error and is skipped when nothing that it depends on has changed;
 * interrupted anywhere, the next call goes on.
 * @param {{ announceFresh?: boolean, signal?: AbortSignal }} [options]
 * @returns {Promise<{ code: number, tree: string }>} the process's exit code, 0 when everything is there, and the tree that was
 *   set up: the clone, or its copy where the clone cannot be written
 */
export async function setUp(options = {}) {
  requireNode();
  const { workingTree } = await import('./setup/working-tree.mjs');
  const tree = await workingTree();
  if (tree === undefined) return { code: 1, tree: root };
  /** @type {typeof import('./setup/steps.mjs')} */
  const { runSteps } = await import(pathToFileURL(join(tree, 'scripts', 'setup', 'steps.mjs')).href);
  return { code: await runSteps(options), tree };
}

if (isMain(import.meta.url)) {
  const { name } = takeSanitizer(process.argv.slice(2), process.env);
  const { code } = await setUp({ announceFresh: true });
  process.exitCode = code;
  if (name !== undefined && code === 0) {
    console.error(
      `set-up: npm test -- --sanitize ${name} test/tensor runs tests on it, npm run fuzz -- --sanitize ${name} more`,
    );
  }
}
