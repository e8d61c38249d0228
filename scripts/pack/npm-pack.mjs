import { join } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { run, which } from '../support/process.mjs';

/**
 * A tarball: `size` is in bytes, `files` are the paths in it.
 * @typedef {{ name: string, path: string, size: number, files: readonly string[] }} Tarball
 */

/**
 * Packs a folder that holds all that a package is made of.
 * @param {string} source
 * @param {string} folder where the tarball goes
 * @returns {Promise<Tarball>}
 */
export async function npmPack(source, folder) {
  const args = ['pack', source, '--pack-destination', folder, '--json', '--ignore-scripts'];
  const { code, stdout, stderr } = await run(which('npm') ?? 'npm', args, { cwd: folder });
  if (code !== 0) throw new SetupError('NPM_FAILED', `npm pack failed (exit code ${code}):\n${stderr || stdout}`);
  // npm 12 lists packages by name.
  const listed = JSON.parse(stdout);
  const [{ name, filename, size, files }] = Array.isArray(listed) ? listed : Object.values(listed);
  const paths = files.map((/** @type {{ path: string }} */ { path }) => path);
  return { name, path: join(folder, filename), size, files: paths };
}
