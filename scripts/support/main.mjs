import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * Whether a module, by its import.meta.url, is the program that Node was started with. Node resolves links in a module's
 * address and not in process.argv, so in a clone that is reached through a link the two differ.
 * @param {string} url
 */
export function isMain(url) {
  try {
    return realpathSync(process.argv[1]) === realpathSync(fileURLToPath(url));
  } catch {
    return false;
  }
}
