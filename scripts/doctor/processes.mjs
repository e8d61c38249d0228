import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, tail } from '../support/process.mjs';

/** @import { Environment } from '../support/paths.mjs' */
/** @import { Addon } from './addon.mjs' */

/**
 * Whether several processes can work together, by Gloo on CPUs and by NCCL on GPUs: each the reason why not, or null where they can.
 * @typedef {{ gloo: string | null, nccl: string | null }} Processes
 */

/** Two ranks in one process, by way of sockets all the same, form a sum; milliseconds until they give up. */
const PATIENCE = 20_000;

/**
 * What the addon says of itself, and for Gloo a trial: it needs a working network of this machine's own.
 * @param {Addon} addon
 * @param {Environment} env
 * @returns {Promise<Processes>}
 */
export async function describeProcesses({ path, build }, env) {
  if (path === undefined || build === undefined) return { gloo: 'there is no addon that loads', nccl: null };
  const { glooReason, ncclReason } = build;
  return { gloo: glooReason || (await tryGloo(path, env)), nccl: ncclReason || null };
}

/**
 * In a process of its own: a fault there is not one here.
 * @param {string} path
 * @param {Environment} env
 */
async function tryGloo(path, env) {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-doctor-'));
  try {
    const args = [join(import.meta.dirname, 'try-gloo.mjs'), path, join(folder, 'store'), String(PATIENCE)];
    const { code, stdout, stderr } = await run(process.execPath, args, { env, timeout: 3 * PATIENCE });
    if (code !== 0) return `an all-reduce ended the process: ${tail(stderr, 1) || `exit code ${code}`}`;
    return stdout.trim() || null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
