import { pinned, pinnedCuda } from '../libtorch/pins.mjs';
import { installCommand } from '../setup/prerequisites.mjs';
import { nodeProblem } from '../support/node-version.mjs';
import { isPackage, setUpCommand } from '../support/paths.mjs';
import { compareVersions, oldestDriverFor } from '../support/platform.mjs';

/** @import { CudaVerdict, Driver, Facts, Finding } from '../doctor.mjs' */
/** @import { Environment } from '../support/paths.mjs' */
/** @import { Gpu } from '../support/platform.mjs' */

/** @typedef {Facts & { driver: Driver, cuda: CudaVerdict }} JudgedFacts */

/**
 * Whether `--device cuda` works, and the reason either way, from the outermost cause inwards: no GPU or driver, a driver
 * older than the CUDA release, a LibTorch without CUDA, a build against another LibTorch, and last what LibTorch says.
 * @param {Pick<Facts, 'platform' | 'gpus' | 'libtorch' | 'addon'> & { driver: Driver }} facts
 * @returns {CudaVerdict}
 */
export function judgeCuda({ platform, gpus, driver, libtorch, addon }) {
  /**
   * @param {string} reason
   * @param {string} [mend]
   */
  const no = (reason, mend) => ({ usable: false, reason, mend });
  if (!platform.key.startsWith('linux-')) return no(`there is no CUDA build for ${platform.key}`);
  if (driver === undefined) return no('no NVIDIA driver was found');
  if (libtorch === undefined) return no('LibTorch is not resolved yet', setUpCommand);
  if (libtorch.build === 'CPU') return no(...cpuBuildReason(driver));
  const cuda = libtorch.build.replace('CUDA ', '');
  const oldest = oldestDriverFor(cuda);
  if (driver.version !== undefined && oldest !== undefined && compareVersions(driver.version, oldest) < 0) {
    return no(`the NVIDIA driver ${driver.version} is too old for CUDA ${cuda}`, `install driver ${oldest} or later`);
  }
  if (addon.build === undefined) return no(`the addon cannot tell: ${addon.problem}`, addon.mend);
  if (!addon.build.cudaBuild) return no('the addon was built against a CPU build of LibTorch', setUpCommand);
  if (!addon.build.cudaAvailable) return no(addon.build.cudaReason || 'LibTorch sees no device', gpuMend(gpus));
  return { usable: true, reason: `CUDA ${cuda}, ${addon.build.cudaDeviceCount} device(s)`, mend: undefined };
}

/**
 * @param {NonNullable<Driver>} driver
 * @returns {[reason: string, mend: string]}
 */
function cpuBuildReason({ version, sign }) {
  const oldest = oldestDriverFor(pinnedCuda);
  if (version !== undefined && oldest !== undefined && compareVersions(version, oldest) < 0) {
    const reason = `LibTorch is a CPU build, since the NVIDIA driver ${version} is too old for CUDA ${pinnedCuda}`;
    return [reason, `install driver ${oldest} or later, then ${setUpCommand}`];
  }
  const reason = `LibTorch is a CPU build, though there is an NVIDIA driver (${version ?? sign})`;
  return [reason, `LAYERWISE_LIBTORCH_VARIANT=cu130 ${setUpCommand} (or point LIBTORCH at a CUDA build)`];
}

/** @param {readonly Gpu[]} gpus */
function gpuMend(gpus) {
  return gpus.length === 0
    ? 'see that nvidia-smi lists a GPU (in a container: start it with the GPUs passed in)'
    : undefined;
}

/**
 * What is wrong, the errors first.
 * @param {JudgedFacts} facts
 * @param {Environment} [env]
 * @returns {Finding[]}
 */
export function judge(facts, env = process.env) {
  const found = [
    nodeFinding(),
    ...toolFindings(facts, env),
    libtorchFinding(facts),
    addonFinding(facts),
    versionFinding(facts),
    cudaFinding(facts),
    headersFinding(facts),
    glooFinding(facts),
    platformFinding(facts),
    pinFinding(facts),
  ];
  const findings = found.filter((finding) => finding !== undefined);
  return ['error', 'warning'].flatMap((level) => findings.filter((finding) => finding.level === level));
}

/** @returns {Finding | undefined} */
function nodeFinding() {
  const reason = nodeProblem();
  if (reason === undefined) return undefined;
  return { level: 'error', subject: 'Node', reason, mend: 'install a newer Node from https://nodejs.org' };
}

/**
 * What only building needs is no error where the addon is already built and loads. A package's comes built, and is built again by
 * set-up alone.
 * @param {Facts} facts
 * @param {Environment} env
 * @returns {Finding[]}
 */
function toolFindings({ tools, addon }, env) {
  if (isPackage && addon.build !== undefined) return [];
  const level = addon.build === undefined ? 'error' : 'warning';
  return tools
    .filter(({ problem }) => problem !== undefined)
    .map(({ tool, problem }) => {
      return { level, subject: tool, reason: `missing: ${problem}`, mend: installCommand([tool], env) };
    });
}

/**
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function libtorchFinding({ libtorch, addon }) {
  if (libtorch !== undefined) return undefined;
  return {
    level: addon.build === undefined ? 'error' : 'warning',
    subject: 'LibTorch',
    reason: 'it is not resolved yet',
    mend: setUpCommand,
  };
}

/**
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function addonFinding({ addon }) {
  if (addon.problem === undefined) return undefined;
  return { level: 'error', subject: 'addon', reason: addon.problem, mend: addon.mend };
}

/**
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function versionFinding({ addon: { build } }) {
  if (build === undefined || build.libtorchLoaded === '' || build.libtorchBuilt === build.libtorchLoaded)
    return undefined;
  const reason = `built with LibTorch ${build.libtorchBuilt}, but ${build.libtorchLoaded} is what loads`;
  return { level: 'error', subject: 'addon', reason, mend: setUpCommand };
}

/**
 * Only where there is a GPU to miss.
 * @param {JudgedFacts} facts
 * @returns {Finding | undefined}
 */
function cudaFinding({ cuda, driver }) {
  if (cuda.usable || driver === undefined) return undefined;
  return { level: 'warning', subject: 'CUDA', reason: cuda.reason, mend: cuda.mend };
}

/**
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function headersFinding({ libtorch }) {
  if (libtorch === undefined || libtorch.build === 'CPU' || libtorch.cudaHeaders) return undefined;
  const reason = "CUDA's runtime headers were not found, so CUDA graphs (--cuda-graph) are left out";
  return {
    level: 'warning',
    subject: 'CUDA',
    reason,
    mend: `install the CUDA toolkit (or set CUDA_HOME), then ${setUpCommand}`,
  };
}

/**
 * A build that has Gloo, on a machine where it does not work. An older LibTorch's lack of it is said where versions are.
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function glooFinding({ processes, addon: { build } }) {
  if (processes.gloo === null || build === undefined || build.glooReason !== '') return undefined;
  const reason = `two processes could not work together: ${processes.gloo}`;
  const mend =
    'see that the name of this machine resolves to an address of its own, or name an interface: GLOO_SOCKET_IFNAME=lo';
  return { level: 'warning', subject: 'Gloo', reason, mend };
}

/**
 * Where the addon loads all the same, nothing is wrong with the platform.
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function platformFinding({ platform, addon }) {
  if (platform.problem !== undefined && addon.build === undefined) {
    return { level: 'error', subject: 'platform', ...platform.problem };
  }
  if (platform.proved) return undefined;
  return { level: 'warning', subject: 'platform', reason: `${platform.key} is untested`, mend: undefined };
}

/**
 * @param {Facts} facts
 * @returns {Finding | undefined}
 */
function pinFinding({ libtorch }) {
  if (libtorch === undefined || compareVersions(libtorch.version, pinned.version) >= 0) return undefined;
  const reason = `${libtorch.version} (${libtorch.source}) is supported, but slower than the ${pinned.version} that set-up pins`;
  const mend = `unset LIBTORCH, remove libtorch.json from the state directory and run ${setUpCommand} where there is a network`;
  return { level: 'warning', subject: 'LibTorch', reason, mend };
}
