import { join } from 'node:path';
import { pinned } from '../libtorch/pins.mjs';
import { readRecord, writeResolved } from '../libtorch/resolved.mjs';
import { resolveLibTorch } from '../libtorch.mjs';
import { digestFiles, filesUnder, identityOf } from '../support/files.mjs';
import { cacheDir, root } from '../support/paths.mjs';
import { nvidiaDriverSign } from '../support/platform.mjs';
import { which } from '../support/process.mjs';

/** @import { Step, StepContext } from './steps.mjs' */

/** @type {Step} */
export const libtorchStep = {
  name: 'LibTorch',
  doing: 'looking for one',
  inputs: libtorchInputs,
  outputs: libtorchOutputs,
  async run({ env, note, signal }) {
    const record = await resolveLibTorch({ env, note, signal });
    writeResolved(record, env);
    return `${record.version}, ${record.cuda ? `CUDA ${record.cuda}` : 'CPU'} build, ${record.source}`;
  },
};

/**
 * What the environment asks for, what the machine has, and what this code would choose.
 * @param {StepContext} context
 */
function libtorchInputs({ env }) {
  const code = [join(root, 'scripts', 'libtorch.mjs'), ...filesUnder(join(root, 'scripts', 'libtorch'))];
  const names = ['LIBTORCH', 'LIBTORCH_USE_PYTORCH', 'LIBTORCH_BYPASS_VERSION_CHECK', 'LAYERWISE_LIBTORCH_VARIANT'];
  const python = env.LIBTORCH_USE_PYTORCH ? which('python3', env) : '';
  const asked = names.map((name) => `${name}=${env[name] ?? ''}`);
  return [
    ...asked,
    python,
    env.VIRTUAL_ENV ?? '',
    cacheDir(env),
    nvidiaDriverSign(env) ?? '',
    pinned.version,
    digestFiles(code, root),
  ];
}

/** @param {StepContext} context */
function libtorchOutputs({ out }) {
  const files = [join(out, 'libtorch.json'), join(out, 'rpath.txt'), ...(readRecord(out)?.libraries ?? [])];
  return files.map(identityOf);
}
