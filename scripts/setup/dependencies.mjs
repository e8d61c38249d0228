import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { digestFiles, isObject, readJson } from '../support/files.mjs';
import { root } from '../support/paths.mjs';
import { run, which } from '../support/process.mjs';

/** @import { StepContext } from './steps.mjs' */

export function dependencyInputs() {
  return [digestFiles([join(root, 'package-lock.json')]), process.platform, process.arch];
}

/**
 * Whether node_modules holds what package-lock.json asks for. npm writes its own list of what it installed as the very
 * last thing, so an installation that was broken off has none. Optional packages are other platforms' and may be absent.
 */
export function areInstalled() {
  const wanted = packagesOf(join(root, 'package-lock.json'));
  const installed = packagesOf(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return false;
  return Object.entries(wanted ?? {}).every(([path, entry]) => {
    if (path === '' || !isObject(entry)) return true;
    const present = installed[path];
    return isObject(present) ? present.version === entry.version : entry.optional === true;
  });
}

/**
 * What one of npm's lists holds, by path.
 * @param {string} path
 */
function packagesOf(path) {
  const list = readJson(path);
  return isObject(list) && isObject(list.packages) ? list.packages : undefined;
}

/**
 * Installs exactly what a folder's lockfile asks for. None of it needs its install script, so none is run.
 * @param {string} folder
 * @param {Pick<StepContext, 'env' | 'out' | 'signal'>} context
 */
export async function installLocked(folder, { env, out, signal }) {
  const log = join(out, 'npm.log');
  mkdirSync(out, { recursive: true });
  rmSync(log, { force: true });
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
  const args = ['ci', '--ignore-scripts', '--include=dev', ...quiet];
  const { code, stdout, stderr } = await run(which('npm', env) ?? 'npm', args, { cwd: folder, env, log, signal });
  if (code === 0) return;
  // npm says what went wrong first, then where in its code, and how it is used last.
  const said = (stderr || stdout).split('\n').filter((line) => !/^npm \w+ +at /.test(line));
  const reason = said.slice(0, 8).join('\n').trim();
  throw new SetupError('NPM_FAILED', `npm ci failed (exit code ${code}):\n${reason}\nIts output is in ${log}`);
}
