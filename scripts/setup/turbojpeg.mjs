import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describeAddon } from '../doctor/addon.mjs';
import { describeTurboJpeg } from '../doctor/turbojpeg.mjs';
import { reasonOf, SetupError } from '../support/errors.mjs';
import { digestFiles, isObject, readJson, writeJson } from '../support/files.mjs';
import { withLock } from '../support/lock.mjs';
import { root } from '../support/paths.mjs';
import { platformKey } from '../support/platform.mjs';
import { fetchedTurboJpeg, installedTurboJpeg, turboJpegCandidates } from '../support/turbojpeg.mjs';
import { installTools } from './locked-tools.mjs';

/** @import { Step, StepContext } from './steps.mjs' */

/** The package with libjpeg-turbo's library, locked; nothing that its own code depends on. */
const locked = join(root, 'scripts', 'setup', 'turbojpeg');

/**
 * The library that JPEG files are decoded with, fetched where neither the package with the compiled addon nor the system has one.
 * Training works without, by another decoder: what goes wrong is told, set-up goes on, and the next one tries again.
 * @type {Step}
 */
export const turboJpegStep = {
  name: 'TurboJPEG',
  isOptional: true,
  inputs: ({ env, out }) => [
    digestFiles([join(locked, 'package-lock.json')]),
    turboJpegCandidates(env),
    // Another number each time, where there was none.
    isDecided(out) || performance.timeOrigin + performance.now(),
  ],
  outputs: () => [],
  async run(context) {
    const { env, out } = context;
    if (env.LAYERWISE_TURBOJPEG) return decide(out, `LAYERWISE_TURBOJPEG is ${env.LAYERWISE_TURBOJPEG}`);
    const found = await inUse(context);
    if (found !== undefined) return decide(out, found);
    try {
      await fetchTurboJpeg(locked, context);
    } catch (error) {
      context.signal.throwIfAborted();
      return leave(context, reasonOf(error));
    }
    const fetched = await inUse(context);
    return fetched === undefined ? leave(context, 'it does not load') : decide(out, fetched);
  },
};

/** @param {StepContext} context */
async function inUse({ env }) {
  return describeTurboJpeg(await describeAddon(env), env);
}

/** @param {string} out */
function recordOf(out) {
  return join(out, 'turbojpeg.json');
}

/**
 * Whether the library is there that the last set-up found.
 * @param {string} out
 */
function isDecided(out) {
  const record = readJson(recordOf(out));
  if (!isObject(record) || typeof record.found !== 'string') return false;
  return !record.found.startsWith('/') || existsSync(record.found);
}

/**
 * @param {string} out
 * @param {string} found
 */
function decide(out, found) {
  writeJson(recordOf(out), { found });
  return found;
}

/**
 * @param {StepContext} context
 * @param {string} reason
 */
function leave({ out, note }, reason) {
  rmSync(recordOf(out), { force: true });
  note(
    `libjpeg-turbo's library could not be had: ${reason}\n` +
      '  JPEG files are decoded by sharp, which takes longer; the next set-up tries again (LAYERWISE_TURBOJPEG=none: it does not)',
  );
  return 'none';
}

/**
 * Brings this platform's library of the package that `source` locks into the cache; npm compares its checksum. Rejects with a reason.
 * @param {string} source
 * @param {Pick<StepContext, 'env' | 'out' | 'note' | 'signal'>} context
 */
export async function fetchTurboJpeg(source, context) {
  const target = fetchedTurboJpeg(context.env);
  if (existsSync(target)) return;
  const folder = dirname(target);
  mkdirSync(dirname(folder), { recursive: true });
  await withLock(`${folder}.lock`, () => fetchInto(folder, source, context), { signal: context.signal });
}

/**
 * @param {string} folder which is whole once it has its name
 * @param {string} source
 * @param {Pick<StepContext, 'env' | 'out' | 'note' | 'signal'>} context
 */
async function fetchInto(folder, source, context) {
  // Another set-up may have been faster.
  if (existsSync(fetchedTurboJpeg(context.env))) return;
  context.note('fetching the decoder of JPEG files (libjpeg-turbo) by npm');
  const [all, partial] = [`${folder}.all-platforms`, `${folder}.partial`];
  try {
    // Without a network npm tries for more than a minute, and training needs none of this.
    const env = { npm_config_fetch_retries: '1', npm_config_fetch_retry_mintimeout: '1000', ...context.env };
    await installTools(source, all, { ...context, env });
    const library = installedTurboJpeg(all);
    if (!existsSync(library)) throw new SetupError('NO_TURBOJPEG', `the package has none for ${platformKey()}`);
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial);
    cpSync(library, join(partial, basename(library)));
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  } finally {
    rmSync(all, { recursive: true, force: true });
  }
}
