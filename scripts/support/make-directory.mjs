import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { asWriteError } from './files.mjs';

/**
 * Makes a directory, with those above it that are missing; one that is there is left as it is. Node's `recursive` does the
 * same, but never ends where a directory takes no new ones and says that it is not there, as those under /proc.
 */
export async function makeDirectory(path) {
  const above = dirname(path);
  if (!existsSync(above)) await makeDirectory(above);
  try {
    await mkdir(path);
  } catch (error) {
    if (error.code !== 'EEXIST' || !statSync(path).isDirectory()) throw asWriteError(path, error, 'made');
  }
}
