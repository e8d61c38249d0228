import { statSync } from 'node:fs';
import { readResolved } from '../libtorch/resolved.mjs';
import { addonPath } from '../support/addon.mjs';
import { setUpCommand } from '../support/paths.mjs';
import { run, tail } from '../support/process.mjs';
import { explainLoadFailure } from './load-failure.mjs';

/** @import { LibTorch } from '../libtorch/resolved.mjs' */
/** @import { Environment } from '../support/paths.mjs' */

/**
 * What the loaded addon says of itself: `BuildInfo` of lib/tensor/native.ts.
 * @typedef {object} LoadedBuild
 * @property {string} libtorchBuilt
 * @property {string} libtorchLoaded
 * @property {boolean} cudaBuild
 * @property {boolean} cudaAvailable
 * @property {number} cudaDeviceCount
 * @property {string} cudaReason
 * @property {string} glooReason
 * @property {string} ncclReason
 * @property {string} cpuCapability
 * @property {number} threads
 * @property {number} mostThreads
 */

/**
 * The addon that the library would load; `build` is undefined when it is not built or does not load.
 * @typedef {object} Addon
 * @property {string | undefined} path
 * @property {number | undefined} bytes
 * @property {LoadedBuild | undefined} build
 * @property {string | undefined} problem
 * @property {string | undefined} mend what mends the problem
 */

/**
 * What came of loading an addon: what it says of itself, or why it does not load and what mends that.
 * @typedef {{ build: LoadedBuild, problem: undefined, mend: undefined } | { build: undefined, problem: string, mend: string | undefined }} Trial
 */

/**
 * The addon that the library would load.
 * @param {Environment} env
 * @returns {Promise<Addon>}
 */
export async function describeAddon(env) {
  const path = addonPath(env);
  if (path === undefined) {
    return { path, bytes: undefined, build: undefined, problem: 'it is not built', mend: setUpCommand };
  }
  const trial = await tryAddon(path, { env, libtorch: readResolved(env) });
  const problem = trial.problem === undefined ? undefined : `it does not load: ${trial.problem}`;
  return { path, bytes: statSync(path).size, ...trial, problem };
}

/**
 * Loads an addon in a process of its own, since a wrong library may crash it.
 * @param {string} path
 * @param {{ env: Environment, libtorch: LibTorch | undefined, signal?: AbortSignal }} options `libtorch` is the resolved one
 * @returns {Promise<Trial>}
 */
export async function tryAddon(path, { env, libtorch, signal }) {
  const script = 'process.stdout.write(JSON.stringify(require(process.argv[1]).buildInfo()))';
  const options = { env, timeout: 60_000, signal };
  const { code, endedBy, stdout, stderr } = await run(process.execPath, ['-e', script, path], options);
  if (code === 0) return { build: JSON.parse(stdout), problem: undefined, mend: undefined };
  const message = loadError(stderr) || `exit code ${code}`;
  const { reason, mend } = explainLoadFailure({ message, endedBy, path, libtorch, env });
  return { build: undefined, problem: reason, mend };
}

/** @param {string} stderr */
function loadError(stderr) {
  return /^(?:\w*Error): (.+)$/m.exec(stderr)?.[1] ?? tail(stderr, 1);
}
