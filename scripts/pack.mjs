// `npm run pack [-- --no-prebuilt]`: makes the tarballs of a release in out/pack: `layerwise`, and `layerwise-<platform>` with the
// compiled addon alone.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packMain } from './pack/main-package.mjs';
import { packPrebuilt } from './pack/prebuilt-package.mjs';
import { setUp } from './setup.mjs';
import { reasonOf } from './support/errors.mjs';
import { isMain } from './support/main.mjs';
import { outDir, root } from './support/paths.mjs';
import { bytes } from './support/progress.mjs';

if (isMain(import.meta.url)) process.exitCode = await main();

/** @returns {Promise<number>} */
async function main() {
  try {
    const { values } = parseArgs({ options: { 'no-prebuilt': { type: 'boolean' } } });
    const { code, tree } = await setUp();
    if (code !== 0) return code;
    if (tree !== root || !existsSync(join(root, 'dist')))
      throw new Error(`expected a clone that can be written, got ${root}`);
    await packInto(join(outDir(), 'pack'), { withPrebuilt: values['no-prebuilt'] !== true });
    return 0;
  } catch (error) {
    process.stderr.write(`${reasonOf(error)}\n`);
    return 1;
  }
}

/**
 * @param {string} folder
 * @param {{ withPrebuilt: boolean }} options
 */
async function packInto(folder, { withPrebuilt }) {
  const prebuilt = withPrebuilt ? await packPrebuilt(folder) : undefined;
  const main = await packMain(folder, { prebuilt: prebuilt?.name });
  for (const { path, size } of [main, ...(prebuilt === undefined ? [] : [prebuilt])]) {
    process.stdout.write(`${path} (${bytes(size)})\n`);
  }
}
