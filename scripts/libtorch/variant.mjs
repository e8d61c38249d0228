import { SetupError } from '../support/errors.mjs';
import { settingOf } from '../support/flags.mjs';
import {
  compareVersions,
  nvidiaDriverSign,
  nvidiaDriverVersion,
  oldestDriverFor,
  platformKey,
} from '../support/platform.mjs';
import { pinned, pinnedCuda } from './pins.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/**
 * `forced`: the environment asked for it.
 * @typedef {{ variant: string, reason: string, forced: boolean }} Choice
 */

/**
 * Which build of LibTorch this machine is to get. The CUDA build where an NVIDIA driver that can run it is found, else the CPU
 * build; LAYERWISE_LIBTORCH_VARIANT overrides.
 * @param {Environment} [env]
 * @param {string} [platform]
 * @returns {Promise<Choice>}
 */
export async function chooseVariant(env = process.env, platform = platformKey()) {
  const known = ['cpu', 'cu130'];
  const asked = settingOf(env.LAYERWISE_LIBTORCH_VARIANT);
  if (asked !== undefined) {
    if (known.includes(asked))
      return { variant: asked, reason: 'LAYERWISE_LIBTORCH_VARIANT asks for it', forced: true };
    throw new SetupError('BAD_VARIANT', `LAYERWISE_LIBTORCH_VARIANT: expected ${known.join(' or ')}, got ${asked}`);
  }
  /** @param {string} reason */
  const cpu = (reason) => ({ variant: 'cpu', reason, forced: false });
  if (pinned.archives[platform]?.cu130 === undefined) return cpu(`there is no CUDA build for ${platform}`);
  const sign = nvidiaDriverSign(env);
  if (sign === undefined) return cpu('no NVIDIA driver was found');
  const version = await nvidiaDriverVersion(env);
  const oldest = oldestDriverFor(pinnedCuda);
  if (version !== undefined && oldest !== undefined && compareVersions(version, oldest) < 0) {
    return cpu(`the NVIDIA driver ${version} is too old for CUDA ${pinnedCuda}, which needs ${oldest}`);
  }
  return { variant: 'cu130', reason: `an NVIDIA driver was found (${version ?? sign})`, forced: false };
}
