import { existsSync } from 'node:fs';
import { arch as nodeArch, platform as nodePlatform } from 'node:process';
import { readText } from './files.mjs';
import { run, which } from './process.mjs';

/** @import { Environment } from './paths.mjs' */

/**
 * @typedef {object} Gpu
 * @property {number} index
 * @property {string} name
 * @property {string} memory
 * @property {string} driver
 * @property {string} capability CUDA compute capability, such as 9.0
 */

/** The platform's name in the table of LibTorch archives: linux-x64, linux-arm64, macos-arm64. */
export function platformKey() {
  return `${nodePlatform === 'darwin' ? 'macos' : nodePlatform}-${nodeArch}`;
}

/** Linux x86-64 is what the project's tests run on; the others resolve through the same steps. */
export function isProved(key = platformKey()) {
  return key === 'linux-x64';
}

/** Whether `apt-get` is this system's way to install something. */
export function isDebianLike(osRelease = readText('/etc/os-release')) {
  const ids = [...osRelease.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].flatMap(([, value]) => value.split(' '));
  return ids.includes('debian') || ids.includes('ubuntu');
}

const driverVersionFile = '/proc/driver/nvidia/version';

const driverLibraries = [
  '/usr/lib/x86_64-linux-gnu/libcuda.so.1',
  '/usr/lib/aarch64-linux-gnu/libcuda.so.1',
  '/usr/lib64/libcuda.so.1',
  '/usr/lib/libcuda.so.1',
  '/usr/lib/wsl/lib/libcuda.so.1',
  '/usr/local/nvidia/lib64/libcuda.so.1',
];

/**
 * Where signs of an NVIDIA driver are, without starting any program: `nvidia-smi` alone may take seconds.
 * @param {Environment} [env]
 * @returns {string | undefined}
 */
export function nvidiaDriverSign(env = process.env) {
  if (nodePlatform !== 'linux') return undefined;
  return [driverVersionFile, which('nvidia-smi', env), ...driverLibraries].find((path) => path && existsSync(path));
}

/**
 * The driver's version, such as 580.65.06, or undefined when nothing tells it.
 * @param {Environment} [env]
 * @returns {Promise<string | undefined>}
 */
export async function nvidiaDriverVersion(env = process.env) {
  const fromKernel = /Module\s+(?:for \S+\s+)?(\d+\.\d+(?:\.\d+)?)/.exec(readText(driverVersionFile))?.[1];
  return fromKernel ?? (await visibleGpus(env)).at(0)?.driver;
}

/**
 * The GPUs that `nvidia-smi` lists.
 * @param {Environment} [env]
 * @returns {Promise<Gpu[]>}
 */
export async function visibleGpus(env = process.env) {
  const program = which('nvidia-smi', env);
  if (program === undefined) return [];
  const query = ['--query-gpu=index,name,memory.total,driver_version,compute_cap', '--format=csv,noheader'];
  const { code, stdout } = await run(program, query, { env, timeout: 20_000 }).catch(() => ({ code: 1, stdout: '' }));
  if (code !== 0) return [];
  return stdout
    .split('\n')
    .filter((line) => line.includes(','))
    .map((line) => line.split(',').map((field) => field.trim()))
    .map(([index, name, memory, driver, capability]) => ({ index: Number(index), name, memory, driver, capability }));
}

/**
 * The oldest driver by the major version of a CUDA release (NVIDIA's CUDA compatibility table).
 * @type {Readonly<Record<number, string | undefined>>}
 */
const oldestDrivers = { 11: '450.80.02', 12: '525.60.13', 13: '580.65.06' };

/**
 * The oldest driver that runs a CUDA release.
 * @param {string} cuda
 */
export function oldestDriverFor(cuda) {
  return oldestDrivers[Number.parseInt(cuda, 10)];
}

/**
 * Compares dotted versions number by number: negative, zero or positive, as for sort().
 * @param {string} left
 * @param {string} right
 */
export function compareVersions(left, right) {
  const [a, b] = [numbersOf(left), numbersOf(right)];
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** @param {string} version */
function numbersOf(version) {
  return version.split('.').map((part) => Number.parseInt(part, 10) || 0);
}
