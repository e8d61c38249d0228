import { SetupError } from '../support/errors.mjs';
import { isOn, settingOf } from '../support/flags.mjs';
import { compareVersions } from '../support/platform.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/**
 * A platform: `libc` is its C library on Linux, with the version where that is glibc's.
 * @typedef {{ platform: string, arch: string, libc?: { name: string, version?: string | undefined } | undefined }} Platform
 */

/** @typedef {{ reason: string, mend: string }} PlatformProblem */

/**
 * What is read of Node's diagnostic report.
 * @typedef {{ header?: { glibcVersionRuntime?: string }, sharedObjects?: readonly string[] }} ProcessReport
 */

/** What the pinned LibTorch is linked against (its wheels are called manylinux_2_28). */
const oldestGlibc = '2.28';

const onlyGlibc =
  'a distribution with glibc, such as Debian, Ubuntu or Fedora (in a container: node:22-slim for node:22-alpine)';
const ownLibTorch = 'LIBTORCH=DIR names a LibTorch that you have for it';

/**
 * The platform of this process.
 * @returns {Platform}
 */
export function describePlatform() {
  const { platform, arch } = process;
  return { platform, arch, libc: platform === 'linux' ? libcOf(processReport()) : undefined };
}

/**
 * From Node's diagnostic report: the version of glibc that runs, or the loader's name.
 * @param {ProcessReport} report
 */
export function libcOf({ header, sharedObjects = [] }) {
  if (header?.glibcVersionRuntime) return { name: 'glibc', version: header.glibcVersionRuntime };
  return {
    name: sharedObjects.some((path) => /\/(ld|libc\.)-?musl-/.test(path)) ? 'musl' : 'unknown',
    version: undefined,
  };
}

/** @returns {ProcessReport} */
function processReport() {
  /** @type {NodeJS.ProcessReport & { excludeNetwork?: boolean | undefined }} Newer than the types. */
  const report = process.report;
  const { excludeNetwork } = report;
  // Looking up the names of all network addresses may take seconds.
  report.excludeNetwork = true;
  try {
    return report.getReport();
  } finally {
    report.excludeNetwork = excludeNetwork;
  }
}

/**
 * Why LibTorch cannot be had for a platform, or undefined. Where the environment names a LibTorch, only that is refused
 * which no LibTorch is made for.
 * @param {Platform} facts
 * @param {Environment} [env]
 * @returns {PlatformProblem | undefined}
 */
export function platformProblem({ platform, arch, libc }, env = process.env) {
  if (platform === 'win32') {
    return problem('Windows is not supported', 'use WSL 2: wsl --install, then the same command in its Linux');
  }
  if (['ia32', 'arm', 'mips', 'mipsel', 'ppc', 's390'].includes(arch)) {
    return problem(
      `Node is a 32-bit program (${arch}), and LibTorch is made for 64 bits`,
      'install a 64-bit Node on a 64-bit system',
    );
  }
  if (settingOf(env.LIBTORCH) !== undefined || isOn(env.LIBTORCH_USE_PYTORCH)) return undefined;
  const name = `${platform}-${arch}`;
  if (name === 'darwin-x64') {
    return problem(
      'LibTorch has had no releases for Intel Macs since 2.2',
      `${ownLibTorch} (release 2.2.2); on Apple silicon install an arm64 Node`,
    );
  }
  if (!['linux-x64', 'linux-arm64', 'darwin-arm64'].includes(name))
    return problem(`there is no LibTorch for ${name}`, ownLibTorch);
  if (platform !== 'linux') return undefined;
  if (libc?.name !== 'glibc') {
    const found = libc?.name === 'musl' ? 'musl, as on Alpine' : 'another C library';
    return problem(`LibTorch is made for glibc, and this Node runs on ${found}`, `${onlyGlibc}; or ${ownLibTorch}`);
  }
  if (libc.version !== undefined && compareVersions(libc.version, oldestGlibc) < 0) {
    return problem(
      `glibc is too old: expected ${oldestGlibc} or later, which LibTorch is linked against, got ${libc.version}`,
      `a newer distribution or a container; or LIBTORCH=DIR names an older LibTorch (1.13 or later)`,
    );
  }
  return undefined;
}

/**
 * Throws before anything is installed or fetched.
 * @param {Platform} [facts]
 * @param {Environment} [env]
 */
export function refusePlatform(facts = describePlatform(), env = process.env) {
  const found = platformProblem(facts, env);
  if (found !== undefined) throw new SetupError('PLATFORM', found.reason, { mend: found.mend });
}

/**
 * @param {string} reason
 * @param {string} mend
 * @returns {PlatformProblem}
 */
const problem = (reason, mend) => ({ reason, mend });
