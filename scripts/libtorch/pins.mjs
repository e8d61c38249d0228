import { settingOf } from '../support/flags.mjs';
import { compareVersions } from '../support/platform.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/**
 * An official archive; `path` is under `host` or under LAYERWISE_LIBTORCH_MIRROR.
 * @typedef {{ path: string, sha256: string, size: number }} Archive
 */

/**
 * @typedef {object} Pins
 * @property {Readonly<Record<string, Readonly<Record<string, Archive | undefined>> | undefined>>} archives by platform and
 *   variant
 * @property {Readonly<Record<string, string | undefined>>} wheels SHA-256, by the file's name
 * @property {Readonly<Record<string, readonly string[] | undefined>>} nvidiaRequirements what pip is asked for, by variant
 */

/**
 * The release that set-up provisions. Another release is used by pointing LIBTORCH at it.
 * @type {Pins & { version: string, host: string }}
 */
export const pinned = {
  version: '2.13.0',
  host: 'https://download.pytorch.org',

  archives: {
    'linux-x64': {
      cpu: {
        path: '/libtorch/cpu/libtorch-shared-with-deps-2.13.0%2Bcpu.zip',
        sha256: 'edbf4cbed78433d803e90a65f1752e57783d164bce66c95c0872b2ab8f5c159e',
        size: 126_385_248,
      },
      cu130: {
        path: '/libtorch/cu130/libtorch-shared-with-deps-2.13.0%2Bcu130.zip',
        sha256: '945c5a3d946a28b387ad9dc9fddda7ba03e35fae1375b84ebff15df789436f82',
        size: 500_687_821,
      },
    },
    'macos-arm64': {
      cpu: {
        path: '/libtorch/cpu/libtorch-macos-arm64-2.13.0.zip',
        sha256: '1e10c6c4dc2764150c9fb2ad28e1889191302734e7f939108e5d2f22f21a06f8',
        size: 88_779_559,
      },
    },
  },

  /** Wheels whose digest is known beforehand; any other is as good as pip's own check of the index's digest. */
  wheels: {
    'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl':
      '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
  },

  /**
   * NVIDIA's libraries are in neither the CUDA archive nor the CUDA wheel. A wheel names them in its metadata; for the
   * archive these stand in, and every library that the archive needs is looked for afterwards.
   */
  nvidiaRequirements: {
    cu130: [
      'cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.*',
      'nvidia-cudnn-cu13>=9,<10',
      'nvidia-cusparselt-cu13>=0.8,<0.9',
      'nvidia-nccl-cu13>=2,<3',
      'nvidia-nvshmem-cu13>=3,<4',
    ],
  },
};

/**
 * Where the pinned archives come from: the official host, or a mirror of it.
 * @param {Environment} [env]
 */
export function archiveHost(env = process.env) {
  return (settingOf(env.LAYERWISE_LIBTORCH_MIRROR) ?? pinned.host).replace(/\/+$/, '');
}

/** The CUDA release of the variant cu130, the only one that is pinned. */
export const pinnedCuda = '13.0';

/**
 * The CUDA release of a variant's name, or null for the CPU.
 * @param {string} variant
 */
export function cudaOf(variant) {
  const digits = /^cu(\d+)(\d)$/.exec(variant);
  return digits === null ? null : `${digits[1]}.${digits[2]}`;
}

const oldest = '1.13.0';
const tooNew = '3.0.0';

export const supportedRange = `${oldest.replace(/\.0$/, '')} or later, before ${tooNew.replace(/\.0\.0$/, '.0')}`;

/** @param {string} version */
export function isSupported(version) {
  return compareVersions(version, oldest) >= 0 && compareVersions(version, tooNew) < 0;
}
