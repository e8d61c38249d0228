// The process that runs cases for run.mjs: reads what to run as JSON from standard input, and writes to file descriptor 3 a
// line of JSON before each case, one for each that has failed, and one at the end.
import { readFileSync, writeSync } from 'node:fs';
import { createServer } from 'vite';

/** @import { Fuzzed } from './fuzzed.js' */
/** @import { FuzzEvent, FuzzRequest } from './run.mjs' */

/** @type {FuzzRequest} */
const { formats: file, only, seed, first, count, from } = JSON.parse(readFileSync(0, 'utf8'));
// Vite compiles the TypeScript, as it does for the tests, to what the oldest Node has. Its server stays for what a case imports.
const server = await createServer({
  configFile: false,
  logLevel: 'error',
  appType: 'custom',
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true },
  esbuild: { target: 'node20' },
});
/** @type {readonly Fuzzed[]} */
const all = (await server.ssrLoadModule(file)).formats;
const formats = all.filter(({ name }) => only === undefined || name === only);
if (formats.length === 0) {
  throw new Error(`expected one of ${all.map(({ name }) => name).join(', ')} for --only, got ${only}`);
}

/**
 * At once and in order, also when the next case ends the process.
 * @param {FuzzEvent} event
 */
const tell = (event) => writeSync(3, `${JSON.stringify(event)}\n`);

for (let format = from.format; format < formats.length; format++) {
  const { name, runCase } = formats[format];
  const started = performance.now();
  for (let number = format === from.format ? from.number : first; number < first + count; number++) {
    const running = { format, name, number };
    tell(running);
    try {
      await runCase({ seed, number });
    } catch (error) {
      tell({ failed: (error instanceof Error ? error.stack : undefined) ?? String(error), running });
    }
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  tell({ summary: `${name}: ${count} cases, ${seconds} s` });
}
tell({ done: true });
// A case may have left something behind that keeps the event loop alive.
process.exit(0);
