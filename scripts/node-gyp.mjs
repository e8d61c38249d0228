// `npm run build:node-gyp`: the addon by node-gyp, in build/Release, from the LibTorch that set-up resolved.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { compileJobs } from './setup/addon.mjs';
import { withPlainPaths } from './setup/plain-paths.mjs';
import { workingTree } from './setup/working-tree.mjs';
import { outDir, root } from './support/paths.mjs';

/** @import { PlainPaths } from './setup/plain-paths.mjs' */

const release = join('build', 'Release');

process.exitCode = await main(process.argv.slice(2));

/**
 * @param {string[]} args
 * @returns {Promise<number>}
 */
async function main(args) {
  const tree = await workingTree();
  if (tree === undefined) return 1;
  if (tree !== root) return start([join(tree, 'scripts', 'node-gyp.mjs'), ...args]);
  const record = join(outDir(), 'libtorch.json');
  if (existsSync(record)) return withPlainPaths(outDir(), (paths) => rebuild(paths, args));
  process.stderr.write(`LibTorch is not resolved yet: expected ${record}. Run: npm run setup\n`);
  return 1;
}

/**
 * @param {PlainPaths} paths
 * @param {string[]} args
 */
function rebuild({ gypSource, out }, args) {
  const program = join(gypSource, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const flags = ['rebuild', '--jobs', String(compileJobs()), ...args];
  // node-gyp writes its own folder into the makefile: it is to be the link, not what lies behind.
  const code = start(['--preserve-symlinks', '--preserve-symlinks-main', program, ...flags], {
    cwd: gypSource,
    env: { ...process.env, LAYERWISE_OUT: out },
  });
  if (code === 0 && gypSource !== root) {
    mkdirSync(join(root, release), { recursive: true });
    const addon = join(release, 'layerwise.node');
    cpSync(join(gypSource, addon), join(root, addon));
  }
  return code;
}

/**
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
function start(args, options = {}) {
  return spawnSync(process.execPath, args, { stdio: 'inherit', ...options }).status ?? 1;
}
