import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from './errors.mjs';
import { asWriteError } from './files.mjs';

/**
 * Makes a directory, with those above it that are missing; one that is there is left as it is. Node's `recursive` does the
 * same, but never ends where a directory takes no new ones and says that it is not there, as those under /proc. Rejects
 * with WriteError.
 * @param {string} path
 * @returns {Promise<void>}
 */
export async function makeDirectory(path) {
  const above = dirname(path);
  if (!existsSync(above)) await makeDirectory(above);
  try {
    await mkdir(path);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST' || !statSync(path).isDirectory()) throw asWriteError(path, error, 'made');
  }
}
