import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes a folder whose entries are links to those of another one: it can be added to, and the other stays as it is.
 * @param {string} from
 * @param {string} to
 * @param {readonly string[]} [except] names
 */
export function linkEntries(from, to, except = []) {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) {
    if (!except.includes(name)) symlinkSync(join(from, name), join(to, name));
  }
}
