// NVIDIA's libraries, which a CUDA build of LibTorch needs and does not hold.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readDynamicSection } from '../support/elf.mjs';

/**
 * The package of each library in NVIDIA's wheels, by the library's name without `lib` and version.
 * @type {Readonly<Record<string, string | undefined>>}
 */
const packages = {
  cublas: 'nvidia-cublas',
  cublasLt: 'nvidia-cublas',
  cudart: 'nvidia-cuda-runtime',
  cudnn: 'nvidia-cudnn',
  cufft: 'nvidia-cufft',
  cufile: 'nvidia-cufile',
  cupti: 'nvidia-cuda-cupti',
  curand: 'nvidia-curand',
  cusolver: 'nvidia-cusolver',
  cusparse: 'nvidia-cusparse',
  cusparseLt: 'nvidia-cusparselt',
  nccl: 'nvidia-nccl',
  nvJitLink: 'nvidia-nvjitlink',
  nvToolsExt: 'nvidia-nvtx',
  nvrtc: 'nvidia-cuda-nvrtc',
  nvshmem_host: 'nvidia-nvshmem',
};

/** From CUDA 13 on, NVIDIA names only those for the CUDA release that are no part of the toolkit. */
const besideToolkit = ['nvidia-cudnn', 'nvidia-cusparselt', 'nvidia-nccl', 'nvidia-nvshmem'];

/**
 * Whether a library is of those; the driver's own, libcuda.so.1, comes with the driver alone.
 * @param {string} soname
 */
export function isNvidias(soname) {
  return /^lib(cu|nv|nccl)/.test(soname) && soname !== 'libcuda.so.1';
}

/**
 * The libraries of NVIDIA that LibTorch's libraries in `libDir` name, and that neither it nor the other folders hold.
 * @param {string} libDir
 * @param {readonly string[]} folders
 */
export function missingNvidiaLibraries(libDir, folders) {
  const present = new Set(
    [libDir, ...folders].filter((folder) => existsSync(folder)).flatMap((folder) => readdirSync(folder)),
  );
  const needed = readdirSync(libDir)
    .filter((name) => /^lib(torch|c10|caffe2).*\.so$/.test(name))
    .flatMap((name) => readDynamicSection(join(libDir, name))?.needed ?? []);
  return [...new Set(needed)].filter((name) => isNvidias(name) && !present.has(name)).sort();
}

/**
 * What pip is asked for to get libraries of a CUDA release, such as `12.8`.
 * @param {readonly string[]} sonames
 * @param {string} cuda
 */
export function nvidiaPackages(sonames, cuda) {
  const major = Number.parseInt(cuda, 10);
  const names = sonames.flatMap((soname) => {
    const [, library = ''] = /^lib(\w+?)\.so/.exec(soname) ?? [];
    return packages[library] ?? [];
  });
  return [...new Set(names)]
    .sort()
    .map((name) => (major < 13 || besideToolkit.includes(name) ? `${name}-cu${major}` : name));
}
