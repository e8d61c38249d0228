// The modules that a run names. A run directory is data: nothing of them runs unless whoever opens it says so.
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { shown as shownName } from '../format.js';
import { type LoadedCode, loadCode, type OwnCode } from './code-module.js';
import { RunDirectoryError } from './errors.js';
import type { ModuleRecord, RunConfig } from './record.js';
import { RunDirectory } from './run-directory.js';

/**
 * The modules of a run's network and data. Whoever trusts the run directory may give them where the run is opened or resumed.
 * This runs nothing of them. Throws RunDirectoryError.
 */
export async function recordedModules(runDirectory: string): Promise<{ network?: URL; data?: URL }> {
  const { modules = {} } = await RunDirectory.open(runDirectory).readConfig();
  return Object.fromEntries(Object.entries(modules).map(([name, { path }]) => [name, pathToFileURL(path)]));
}

/** The code to open a run with, and notes on it. */
export interface CodeOfRun extends LoadedCode {
  /** For people: the modules whose text has changed since the run was started. */
  readonly changes: readonly string[];
}

/**
 * Loads the code that is given for a run and compares it with the modules that the run names. Throws RunDirectoryError where the
 * run needs a module that is not given, which it names, and ModuleFileError.
 */
export async function loadCodeOfRun(
  runDirectory: string,
  { modules = {} }: RunConfig,
  given: OwnCode,
  needs: readonly ('network' | 'data')[],
): Promise<CodeOfRun> {
  const missing = needs.filter(
    (name) => modules[name] !== undefined && given[name] === undefined && given.module === undefined,
  );
  if (missing.length > 0) {
    const named = await Promise.all(missing.map(async (name) => describeModule(name, modules[name]!)));
    const flags = missing.map((name) => `--${name} FILE`).join(' ');
    throw new RunDirectoryError(
      `${runDirectory}: ${named.join(', and ')}, which has not been run: give ${missing.join(' and ')} (${flags}), or trust what the run ` +
        'names (--trust-module; in code recordedModules)',
    );
  }
  const code = await loadCode(given);
  const changes = needs.flatMap((name) => {
    const [before, now] = [modules[name], code.modules?.[name]];
    if (before === undefined || code[name] === undefined || before.sha256 === now?.sha256) return [];
    if (now === undefined)
      return [`The ${name} is given in code, and was by the module ${before.path} when the run was started.`];
    return [`The module of the ${name} is another than the run's was: ${now.path} has another text.`];
  });
  return { ...code, changes };
}

async function describeModule(name: 'network' | 'data', record: ModuleRecord): Promise<string> {
  const done = name === 'network' ? 'its network is built' : 'its images are read';
  return `${done} by the module ${shownName(record.path)} (${await stateOf(record)})`;
}

/** What a module is: small. A path of an unknown run may be that of a pipe or a device, which has no end. */
const MOST_BYTES = 16 * 2 ** 20;

async function stateOf({ path, sha256 }: ModuleRecord): Promise<string> {
  const found = await stat(path).catch(() => null);
  if (found === null) return 'not there now';
  if (!found.isFile() || found.size > MOST_BYTES) return 'no module now';
  const text = await readFile(path).catch(() => null);
  if (text === null) return 'not readable now';
  return createHash('sha256').update(text).digest('hex') === sha256 ? 'as the run was started with' : 'changed since';
}
