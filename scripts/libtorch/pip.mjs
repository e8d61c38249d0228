import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { run, tail, which } from '../support/process.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/**
 * The active Python: that of an activated environment comes first on PATH.
 * @param {Environment} [env]
 */
export function pythonProgram(env = process.env) {
  const program = which('python3', env) ?? which('python', env);
  if (program !== undefined) return program;
  throw new SetupError('NO_PYTHON', 'python3 is not installed');
}

/**
 * Downloads wheels with pip into a fresh folder inside `folder` and hands their paths to `use`; the folder is removed
 * afterwards. pip's configuration (indexes, find-links, proxies, certificates) applies and pip checks the digests.
 * @template T
 * @param {readonly string[]} requirements
 * @param {object} options
 * @param {string} options.folder
 * @param {boolean} [options.withDependencies]
 * @param {string | undefined} [options.extraIndex]
 * @param {Environment} options.env
 * @param {AbortSignal | undefined} [options.signal]
 * @param {(wheels: string[]) => Promise<T>} use
 * @returns {Promise<T>}
 */
export async function withPipDownload(
  requirements,
  { folder, withDependencies = false, extraIndex, env, signal },
  use,
) {
  const target = mkdtempSync(join(folder, 'pip-'));
  try {
    // The wheels serve as archives: no Python runs what is in them, so one interpreter version serves everybody.
    const args = ['-m', 'pip', 'download', '--only-binary=:all:', '--python-version', '3.11', '--dest', target];
    args.push('--disable-pip-version-check', '--no-input');
    if (!withDependencies) args.push('--no-deps');
    if (extraIndex !== undefined) args.push('--extra-index-url', extraIndex);
    const inherit = process.stdout.isTTY === true;
    const { code, stdout, stderr } = await run(pythonProgram(env), [...args, ...requirements], {
      env,
      inherit,
      signal,
    });
    if (code !== 0) throw new SetupError('PIP_FAILED', `pip: ${pipReason(stderr || stdout, code)}`);
    return await use(
      readdirSync(target)
        .filter((name) => name.endsWith('.whl'))
        .map((name) => join(target, name)),
    );
  } finally {
    rmSync(target, { recursive: true, force: true });
  }
}

/**
 * pip's last error; before it come warnings about every retry.
 * @param {string} output
 * @param {number | null} code
 */
function pipReason(output, code) {
  const lines = output.split('\n').map((line) => line.trim());
  return (
    lines.findLast((line) => /^ERROR:|No module named/.test(line))?.replace(/^ERROR:\s*/, '') ??
    (tail(output, 1) || `exit code ${code}`)
  );
}
