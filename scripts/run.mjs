// `node scripts/run.mjs test [vitest's arguments]`, `node scripts/run.mjs example NAME [arguments]`,
// `node scripts/run.mjs bench [arguments]` and `node scripts/run.mjs COMMAND [arguments]`, where COMMAND is one of the
// command line's: set-up first, then the program itself in this same process, so that its signals, terminal and exit code
// are its own.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setUp } from './setup.mjs';
import { requireNode } from './support/node-version.mjs';
import { deliverInterruptsOnce } from './support/signals.mjs';

requireNode();
deliverInterruptsOnce();
const [command, ...args] = process.argv.slice(2);
const { code, tree } = await setUp();
if (code !== 0) process.exit(code);
await handOver(tree, command, args);

async function handOver(root, command, args) {
  const { outDir } = await import('./support/paths.mjs');
  // A clone may keep several builds, each with its own state directory; the one just set up is the one meant.
  if (process.env.LAYERWISE_OUT) process.env.LAYERWISE_ADDON ||= join(outDir(), 'cmake', 'Release', 'layerwise.node');
  // Vitest takes its configuration from the working directory.
  if (command === 'test') process.chdir(root);
  const [program, ...programArgs] = programFor(root, command, args);
  process.argv = [process.execPath, program, ...programArgs];
  await import(pathToFileURL(program).href);
}

function programFor(root, command, args) {
  if (command === 'test') return [join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', ...args];
  if (command === 'example') return compiledExample(root, args);
  if (command === 'bench') return [join(root, 'bench', 'run.mjs'), ...args];
  return [join(root, 'dist', 'cli', 'main.js'), command, ...args].filter((arg) => arg !== undefined);
}

/** An example is named without its ending; all of them are compiled, which takes a second when nothing has changed. */
function compiledExample(root, [name, ...args]) {
  const names = readdirSync(join(root, 'examples'))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length));
  if (!names.includes(name)) {
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
