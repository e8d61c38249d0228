import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { digestFiles } from '../support/files.mjs';
import { withLock } from '../support/lock.mjs';
import { installLocked } from './dependencies.mjs';

/** @import { StepContext } from './steps.mjs' */

const files = ['package.json', 'package-lock.json'];

/**
 * Where tools lie that a folder of the source locks: beside those of other versions, under this name.
 * @param {string} source
 * @param {string} name
 */
export function toolsFolder(source, name) {
  const locked = files.map((file) => join(source, file));
  return `${name}-${digestFiles(locked, source).slice(0, 12)}`;
}

/**
 * Installs what `source` locks into `folder`, once; a folder with its name is whole.
 * @param {string} source
 * @param {string} folder
 * @param {Pick<StepContext, 'env' | 'out' | 'signal'>} context
 */
export async function installTools(source, folder, context) {
  const partial = `${folder}.partial`;
  const install = async () => {
    if (existsSync(folder)) return;
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    for (const file of files) cpSync(join(source, file), join(partial, file));
    try {
      await installLocked(partial, context);
    } catch (error) {
      rmSync(partial, { recursive: true, force: true });
      throw error;
    }
    renameSync(partial, folder);
  };
  await withLock(`${folder}.lock`, install, { signal: context.signal });
}
