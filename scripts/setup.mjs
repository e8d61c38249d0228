import { fileURLToPath } from 'node:url';
import { requireNode } from './support/node-version.mjs';
import { takeSanitizer } from './support/sanitize.mjs';

/**
 * Brings a clone to the point where it trains: prerequisites, npm dependencies, LibTorch, the addon, the compiled
 * TypeScript. Each step prints one line to standard error and is skipped when nothing that it depends on has changed;
 * interrupted anywhere, the next call goes on. Returns the process's exit code, 0 when everything is there.
 */
export async function setUp(options = {}) {
  requireNode();
  const { runSteps } = await import('./setup/steps.mjs');
  return runSteps(options);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { name } = takeSanitizer(process.argv.slice(2), process.env);
  process.exitCode = await setUp({ announceFresh: true });
  if (name !== undefined && process.exitCode === 0) {
    console.error(
      `set-up: npm test -- --sanitize ${name} test/tensor runs tests on it, npm run fuzz -- --sanitize ${name} more`,
    );
  }
}
