// `node scripts/run.mjs test [vitest's arguments]` and `node scripts/run.mjs COMMAND [arguments]`, where COMMAND is one
// of the command line's: set-up first, then the program itself in this same process, so that its signals, terminal and
// exit code are its own.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setUp } from './setup.mjs';
import { requireNode } from './support/node-version.mjs';
import { deliverInterruptsOnce } from './support/signals.mjs';

requireNode();
deliverInterruptsOnce();
const [command, ...args] = process.argv.slice(2);
const code = await setUp();
if (code !== 0) process.exit(code);
await handOver(command, args);

async function handOver(command, args) {
  const { outDir, root } = await import('./support/paths.mjs');
  // A clone may keep several builds, each with its own state directory; the one just set up is the one meant.
  if (process.env.LAYERWISE_OUT) process.env.LAYERWISE_ADDON ||= join(outDir(), 'cmake', 'Release', 'layerwise.node');
  const [program, programArgs] =
    command === 'test'
      ? [join(root, 'node_modules', 'vitest', 'vitest.mjs'), ['run', ...args]]
      : [join(root, 'dist', 'cli', 'main.js'), [command, ...args].filter((arg) => arg !== undefined)];
  process.argv = [process.execPath, program, ...programArgs];
  await import(pathToFileURL(program).href);
}
