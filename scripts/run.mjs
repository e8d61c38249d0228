// `node scripts/run.mjs test [vitest's arguments]`, `node scripts/run.mjs example NAME [arguments]`,
// `node scripts/run.mjs bench [arguments]`, `node scripts/run.mjs fuzz [arguments]` and
// `node scripts/run.mjs COMMAND [arguments]`, where COMMAND is one of the command line's: set-up first, then the program
// itself in this same process, so that its signals, terminal and exit code are its own. With `--sanitize NAME` the addon is
// one that was built with a sanitizer.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setUp } from './setup.mjs';
import { requireNode } from './support/node-version.mjs';
import { outDir } from './support/paths.mjs';
import { takeSanitizer } from './support/sanitize.mjs';
import { deliverInterruptsOnce } from './support/signals.mjs';

requireNode();
deliverInterruptsOnce();
const [command, ...given] = process.argv.slice(2);
const { args, preload } = takeSanitizer(given, process.env);
const { code, tree } = await setUp();
if (code !== 0) process.exit(code);
// Tests and cases of fuzzing run in processes of their own, which have it from their start.
if (preload !== undefined) process.env.LD_PRELOAD = preload;
await handOver(tree, command, args);

/**
 * @param {string} root
 * @param {string | undefined} command
 * @param {readonly string[]} args
 */
async function handOver(root, command, args) {
  // A clone may keep several builds, each with its own state directory; the one just set up is the one meant.
  if (process.env.LAYERWISE_OUT) process.env.LAYERWISE_ADDON ||= join(outDir(), 'cmake', 'Release', 'layerwise.node');
  if (command === 'test') return runTests(root, args);
  const [program, ...programArgs] = programFor(root, command, args);
  await start(program, programArgs);
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 */
async function start(program, args) {
  process.argv = [process.execPath, program, ...args];
  await import(pathToFileURL(program).href);
}

/**
 * Vite takes a `#` or a `?` in a path for the end of a file's name, so there it runs through a link.
 * @param {string} root
 * @param {readonly string[]} args
 */
async function runTests(root, args) {
  /** @type {typeof import('./setup/plain-paths.mjs')} */
  const { withPlainPaths } = await import(pathToFileURL(join(root, 'scripts', 'setup', 'plain-paths.mjs')).href);
  /** @param {string} folder */
  const program = (folder) => join(folder, 'node_modules', 'vitest', 'vitest.mjs');
  // Vitest takes its configuration from the working directory.
  process.chdir(root);
  await withPlainPaths(outDir(), async ({ source }) => {
    if (source === root) return start(program(root), ['run', ...args]);
    const flags = ['--preserve-symlinks', '--preserve-symlinks-main'];
    const ofWorkers = flags.map((flag) => `--execArgv=${flag}`);
    const all = [...flags, program(source), 'run', '--root', source, ...ofWorkers, ...args];
    process.exitCode = spawnSync(process.execPath, all, { stdio: 'inherit' }).status ?? 1;
  });
}

/**
 * The program and its arguments.
 * @param {string} root
 * @param {string | undefined} command
 * @param {readonly string[]} args
 * @returns {[program: string, ...args: string[]]}
 */
function programFor(root, command, args) {
  if (command === 'example') return compiledExample(root, args);
  if (command === 'bench') return [join(root, 'bench', 'run.mjs'), ...args];
  if (command === 'fuzz') return [join(root, 'test', 'fuzz', 'run.mjs'), ...args];
  return [join(root, 'dist', 'cli', 'main.js'), ...(command === undefined ? [] : [command]), ...args];
}

/**
 * An example is named without its ending; all of them are compiled, which takes a second when nothing has changed.
 * @param {string} root
 * @param {readonly string[]} args
 * @returns {[program: string, ...args: string[]]}
 */
function compiledExample(root, [name, ...args]) {
  const names = readdirSync(join(root, 'examples'))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length));
  if (name === undefined || !names.includes(name)) {
    console.error(`expected one of the examples ${names.join(', ')}, got ${name ?? 'none'}`);
    process.exit(2);
  }
  const { status } = spawnSync(
    process.execPath,
    [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', join(root, 'tsconfig.examples.json')],
    { stdio: 'inherit' },
  );
  if (status !== 0) process.exit(1);
  return [join(root, 'out', 'examples', `${name}.js`), ...args];
}
