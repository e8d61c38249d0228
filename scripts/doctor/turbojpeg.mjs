import { run } from '../support/process.mjs';
import { turboJpegCandidates } from '../support/turbojpeg.mjs';

/** @import { Environment } from '../support/paths.mjs' */
/** @import { Addon } from './addon.mjs' */

/**
 * The TurboJPEG library that JPEG images are decoded with; undefined where there is none, or no addon to open it.
 * @param {Addon} addon
 * @param {Environment} env
 * @returns {Promise<string | undefined>}
 */
export async function describeTurboJpeg({ path, build }, env) {
  if (path === undefined || build === undefined) return undefined;
  const script =
    'const { openTurboJpeg } = require(process.argv[1]);' +
    'for (const path of process.argv.slice(2)) {' +
    '  const found = openTurboJpeg(path);' +
    '  if (found) { process.stdout.write(found); break; }' +
    '}';
  const args = ['-e', script, path, ...turboJpegCandidates(env).map((candidate) => candidate.path)];
  const { code, stdout } = await run(process.execPath, args, { env, timeout: 60_000 });
  return code === 0 && stdout !== '' ? stdout : undefined;
}
