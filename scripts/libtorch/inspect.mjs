import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readDynamicSection } from '../support/elf.mjs';
import { SetupError } from '../support/errors.mjs';
import { readText } from '../support/files.mjs';
import { isOn } from '../support/flags.mjs';
import { isSupported, supportedRange } from './pins.mjs';

/** @import { Environment } from '../support/paths.mjs' */
/** @import { LibTorch } from './resolved.mjs' */

const suffix = process.platform === 'darwin' ? 'dylib' : 'so';
/** @type {Readonly<Record<string, string | undefined>>} */
const multiarchOf = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };
const multiarch = multiarchOf[process.arch];

/** Where the compiler looks anyway: naming these as -isystem would reorder them and break libstdc++'s #include_next. */
const standardIncludes = ['/usr/include', '/usr/local/include'];

const cudaToolkits = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda'];

/**
 * Describes the LibTorch in a directory. Throws a SetupError that says what is missing when the directory holds none, or
 * one that is not supported.
 * @param {string} directory
 * @param {{ source: string, env?: Environment }} options
 * @returns {LibTorch}
 */
export function inspectLibTorch(directory, { source, env = process.env }) {
  const root = resolve(directory);
  const libDir = findLibDir(root);
  const include = findInclude(root);
  const version = readVersion(include);
  refuseUnsupported(version, root, env);
  /** @param {string} name */
  const has = (name) => existsSync(join(libDir, `lib${name}.${suffix}`));
  const withCuda = has('torch_cuda') && has('c10_cuda');
  const names = ['torch', 'torch_cpu', 'c10', ...(withCuda ? ['torch_cuda', 'c10_cuda'] : [])];
  const includeDirs = [include, join(include, 'torch/csrc/api/include')];
  const cuda = withCuda ? cudaVersion(root, libDir) : null;
  const nvidiaDirs = cuda === null ? [] : siblingNvidiaDirs(root);
  const cudaIncludeDir = cuda === null ? null : findCudaHeaders(nvidiaDirs, cuda);
  return {
    source,
    root,
    includeDirs: includeDirs.filter((folder) => !standardIncludes.includes(folder)),
    libDir,
    libraries: names.filter(has).map((name) => join(libDir, `lib${name}.${suffix}`)),
    runtimeDirs: nvidiaDirs,
    version,
    cuda,
    cudaIncludeDir,
    ncclIncludeDir: cudaIncludeDir === null ? null : findNcclHeaders(nvidiaDirs),
    cxx11Abi: usesCxx11Abi(join(libDir, `libc10.${suffix}`)),
  };
}

/** @param {string} root */
function findLibDir(root) {
  const names = ['lib', ...(multiarch === undefined ? [] : [join('lib', multiarch)]), 'lib64'];
  const candidates = names.map((name) => join(root, name));
  const found = candidates.find((folder) => existsSync(join(folder, `libtorch_cpu.${suffix}`)));
  if (found !== undefined) return found;
  if (existsSync(join(root, 'libtorch', 'lib'))) {
    throw missing(`${root} holds no LibTorch, but ${join(root, 'libtorch')} does`);
  }
  throw missing(`${root} holds no LibTorch: expected libtorch_cpu.${suffix} in one of ${candidates.join(', ')}`);
}

/** @param {string} root */
function findInclude(root) {
  const include = join(root, 'include');
  if (existsSync(join(include, 'ATen', 'ATen.h'))) return include;
  throw missing(`${root} holds LibTorch's libraries without its headers: expected ${join(include, 'ATen', 'ATen.h')}`);
}

/** @param {string} message */
function missing(message) {
  return new SetupError('LIBTORCH_NOT_FOUND', message);
}

/** @param {string} include */
function readVersion(include) {
  const headers = ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h'];
  for (const text of headers.map((name) => readText(join(include, name)))) {
    const [major, minor, patch] = ['MAJOR', 'MINOR', 'PATCH'].map((part) => {
      return new RegExp(`#define TORCH_VERSION_${part} (\\d+)`).exec(text)?.[1];
    });
    if (major !== undefined) return `${major}.${minor}.${patch}`;
  }
  throw missing(
    `${include} does not tell its LibTorch's version: expected TORCH_VERSION_MAJOR in ${headers.join(' or ')}`,
  );
}

/**
 * @param {string} version
 * @param {string} root
 * @param {Environment} env
 */
function refuseUnsupported(version, root, env) {
  if (isSupported(version) || isOn(env.LIBTORCH_BYPASS_VERSION_CHECK)) return;
  throw new SetupError(
    'LIBTORCH_VERSION',
    `LibTorch ${version} in ${root} is not supported: expected ${supportedRange}`,
    { mend: 'LIBTORCH_BYPASS_VERSION_CHECK=1 tries it all the same' },
  );
}

/**
 * The CUDA release that LibTorch was built for: from its own notes, else from the runtime library that it names.
 * @param {string} root
 * @param {string} libDir
 */
function cudaVersion(root, libDir) {
  const digits = /\+cu(\d+)(\d)\b/.exec(readText(join(root, 'build-version')));
  if (digits !== null) return `${digits[1]}.${digits[2]}`;
  const fromPython = /^cuda\b.*=\s*'([\d.]+)'/m.exec(readText(join(root, 'version.py')))?.[1];
  if (fromPython !== undefined) return fromPython;
  const needed = readDynamicSection(join(libDir, 'libc10_cuda.so'))?.needed ?? [];
  return needed.map((name) => /^libcudart\.so\.([\d.]+)$/.exec(name)?.[1]).find(Boolean) ?? 'unknown';
}

/**
 * Where pip puts NVIDIA's libraries: beside torch, as nvidia/<package>/lib.
 * @param {string} root
 */
export function siblingNvidiaDirs(root) {
  const nvidia = resolve(realpathSync(root), '..', 'nvidia');
  if (!existsSync(nvidia)) return [];
  return readdirSync(nvidia)
    .sort()
    .map((name) => join(nvidia, name, 'lib'))
    .filter((folder) => existsSync(folder));
}

/**
 * CUDA's runtime headers, of the same major release, or null. The runtime's own wheel lacks crt/, without which its
 * headers do not compile.
 * @param {readonly string[]} nvidiaDirs
 * @param {string} cuda
 */
function findCudaHeaders(nvidiaDirs, cuda) {
  const folders = [...nvidiaDirs.map((lib) => resolve(lib, '..')), ...cudaToolkits.flatMap((folder) => folder || [])];
  const usable = folders
    .map((folder) => join(folder, 'include'))
    .find((include) => {
      const release = /#define CUDART_VERSION\s+(\d+)/.exec(readText(join(include, 'cuda_runtime_api.h')))?.[1];
      const sameMajor = Math.floor(Number(release) / 1000) === Number.parseInt(cuda, 10);
      return sameMajor && existsSync(join(include, 'crt', 'host_defines.h'));
    });
  return usable ?? null;
}

/**
 * The folder of NCCL's header, or null: beside the library of pip's wheel, or in CUDA's toolkit. A development package's is in one
 * of the compiler's own folders.
 * @param {readonly string[]} nvidiaDirs
 */
function findNcclHeaders(nvidiaDirs) {
  const wheels = nvidiaDirs.map((lib) => resolve(lib, '..'));
  const roots = [...wheels, ...cudaToolkits.flatMap((folder) => folder || []), '/usr'];
  const folders = roots.map((folder) => join(folder, 'include'));
  return folders.find((include) => existsSync(join(include, 'nccl.h'))) ?? null;
}

/**
 * Which std::string the library was compiled with, from the mangled name of a constructor that every release exports.
 * Code compiled with the other one does not link.
 * @param {string} library
 */
function usesCxx11Abi(library) {
  const old = Buffer.from('c105ErrorC1ENS_14SourceLocationESs');
  return !readFileSync(library).includes(old);
}
