import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from './errors.mjs';
import { asWriteError } from './files.mjs';

/**
 * Makes a directory and the missing ones above it; an existing one is left as it is. Node's `recursive` does the same, but never
 * ends where a directory refuses new ones as if it were not there, as those under /proc do. Rejects with WriteError.
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
