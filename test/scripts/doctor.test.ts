// What the doctor concludes from what it found, and its own flags.
import { spawnSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { LoadedBuild } from '../../scripts/doctor/addon.mjs';
import { judge, judgeCuda } from '../../scripts/doctor/findings.mjs';
import { type Driver, type Facts, render } from '../../scripts/doctor.mjs';
import { pinned } from '../../scripts/libtorch/pins.mjs';
import { jpegScaling } from '../../scripts/support/turbojpeg.mjs';
import { root, temporaryFolder } from './scripts.js';

type Machine = Facts & { readonly driver: Driver };

const build: LoadedBuild = {
  libtorchBuilt: pinned.version,
  libtorchLoaded: pinned.version,
  cudaBuild: false,
  cudaAvailable: false,
  cudaDeviceCount: 0,
  cudaReason: '',
  glooReason: '',
  ncclReason: 'this LibTorch is a CPU build',
  cpuCapability: 'AVX512',
  threads: 2,
  mostThreads: 2,
};
/** A machine without a GPU where everything is in order. */
const healthy = {
  platform: { key: 'linux-x64', system: 'Linux 6.1', proved: true, problem: undefined },
  node: { version: process.versions.node, napi: '9' },
  tools: [
    { tool: 'compiler', program: 'c++', version: '12.2.0', problem: undefined },
    { tool: 'cmake', program: 'cmake', version: '3.25.1', problem: undefined },
  ],
  libtorch: { path: '/lib', version: pinned.version, build: 'CPU', source: 'the official archive', cudaHeaders: false },
  addon: { path: '/addon', bytes: 1000, build, problem: undefined, mend: undefined },
  turboJpeg: '/libturbojpeg.so.0',
  jpegScaling: jpegScaling({}),
  processes: { gloo: null, nccl: 'this LibTorch is a CPU build' },
  cpu: { model: 'a processor', avx2: true, avx512: true, bf16: true, amx: false },
  processors: { machine: 16, affinity: 8, quota: 2.5, usable: 2 },
  memory: { machine: 64 * 2 ** 30, limit: 4 * 2 ** 30, available: 3 * 2 ** 30 },
  gpus: [],
  driver: undefined,
} satisfies Machine;

const notBuilt: Facts['addon'] = {
  path: undefined,
  bytes: undefined,
  build: undefined,
  problem: 'it is not built',
  mend: 'npm run setup',
};
const gpu = { index: 0, name: 'a GPU', memory: '80 GiB', driver: '580.65.06', capability: '9.0' };
const onCuda = {
  ...healthy,
  libtorch: { ...healthy.libtorch, build: 'CUDA 13.0', cudaHeaders: true },
  addon: {
    ...healthy.addon,
    build: { ...healthy.addon.build, cudaBuild: true, cudaAvailable: true, cudaDeviceCount: 1 },
  },
  gpus: [gpu],
  driver: { sign: '/proc/driver/nvidia', version: '580.65.06' },
};

const findingsOf = (facts: Machine) => judge({ ...facts, cuda: judgeCuda(facts) }, { PATH: process.env.PATH });

it('finds nothing wrong where nothing is, without a GPU and with one', () => {
  expect(findingsOf(healthy)).toEqual([]);
  expect(judgeCuda(healthy)).toMatchObject({ usable: false, reason: 'no NVIDIA driver was found' });
  expect(findingsOf(onCuda)).toEqual([]);
  expect(judgeCuda(onCuda)).toMatchObject({ usable: true, reason: 'CUDA 13.0, 1 device(s)' });
});

describe('says why CUDA is not usable, the outermost cause first', () => {
  const { addon } = onCuda;
  const noCuda = { ...addon.build, cudaAvailable: false };
  it.each<[name: string, facts: Machine, reason: string, mend: string | undefined]>([
    [
      'macOS',
      { ...onCuda, platform: { ...onCuda.platform, key: 'darwin-arm64' } },
      'there is no CUDA build for darwin-arm64',
      undefined,
    ],
    ['no LibTorch', { ...onCuda, libtorch: undefined }, 'LibTorch is not resolved yet', 'npm run setup'],
    [
      'a CPU build',
      { ...onCuda, libtorch: healthy.libtorch },
      'LibTorch is a CPU build, though there is an NVIDIA driver (580.65.06)',
      'LAYERWISE_LIBTORCH_VARIANT=cu130',
    ],
    [
      'an old driver',
      { ...onCuda, driver: { sign: 'x', version: '535.104.05' } },
      'the NVIDIA driver 535.104.05 is too old for CUDA 13.0',
      'install driver',
    ],
    [
      'an old driver, for which set-up took the CPU build',
      { ...onCuda, libtorch: healthy.libtorch, driver: { sign: 'x', version: '535.104.05' } },
      'LibTorch is a CPU build, since the NVIDIA driver 535.104.05 is too old for CUDA 13.0',
      'then npm run setup',
    ],
    [
      'an addon that does not load',
      {
        ...onCuda,
        addon: { ...addon, build: undefined, problem: 'it does not load: no libfoo.so', mend: 'get libfoo' },
      },
      'the addon cannot tell: it does not load: no libfoo.so',
      'get libfoo',
    ],
    [
      'an addon of another LibTorch',
      { ...onCuda, addon: { ...addon, build: { ...addon.build, cudaBuild: false } } },
      'the addon was built against a CPU build of LibTorch',
      'npm run setup',
    ],
    [
      'a GPU that LibTorch does not see',
      { ...onCuda, gpus: [], addon: { ...addon, build: noCuda } },
      'LibTorch sees no device',
      'nvidia-smi',
    ],
  ])('%s', (_, facts, reason, mend) => {
    const judged = judgeCuda(facts);
    expect(judged).toMatchObject({ usable: false, reason });
    if (mend === undefined) expect(judged.mend).toBeUndefined();
    else expect(judged.mend).toContain(mend);
  });
});

describe('names what is wrong, errors first, with the mend', () => {
  it.each<[name: string, facts: Machine, level: string, subject: string, reason: string, mend: string]>([
    ['no addon', { ...healthy, addon: notBuilt }, 'error', 'addon', 'it is not built', 'npm run setup'],
    [
      'an addon built with another release',
      { ...healthy, addon: { ...healthy.addon, build: { ...build, libtorchLoaded: '2.1.0' } } },
      'error',
      'addon',
      `built with LibTorch ${pinned.version}, but 2.1.0 is what loads`,
      'npm run setup',
    ],
    [
      'an old LibTorch',
      { ...healthy, libtorch: { ...healthy.libtorch, version: '1.13.1' } },
      'warning',
      'LibTorch',
      '1.13.1 (the official archive) is supported, but slower',
      'unset LIBTORCH',
    ],
    [
      'no headers of CUDA',
      { ...onCuda, libtorch: { ...onCuda.libtorch, cudaHeaders: false } },
      'warning',
      'CUDA',
      "CUDA's runtime headers were not found",
      'CUDA_HOME',
    ],
    [
      'Gloo that does not work on this machine',
      { ...healthy, processes: { ...healthy.processes, gloo: 'no answer within 20 s' } },
      'warning',
      'Gloo',
      'two processes could not work together: no answer within 20 s',
      'GLOO_SOCKET_IFNAME',
    ],
  ])('%s', (_, facts, level, subject, reason, mend) => {
    const findings = findingsOf(facts);
    expect(findings).toHaveLength(1);
    expect(findings[0]).toMatchObject({ level, subject });
    expect(findings[0]!.reason).toContain(reason);
    expect(findings[0]!.mend).toContain(mend);
  });

  it('a LibTorch without Gloo is named by its version alone', () => {
    const glooReason = 'LibTorch 1.13.1 is too old for several processes';
    const addon = { ...healthy.addon, build: { ...build, glooReason } };
    expect(findingsOf({ ...healthy, addon, processes: { gloo: glooReason, nccl: glooReason } })).toEqual([]);
  });

  it('a platform without LibTorch is an error before the addon is built, and nothing once it loads', () => {
    const problem = { reason: 'LibTorch is made for glibc', mend: 'a distribution with glibc' };
    const facts = { ...healthy, platform: { ...healthy.platform, problem } };
    expect(findingsOf(facts)).toEqual([]);
    const unbuilt = { ...healthy.addon, build: undefined, problem: undefined };
    expect(findingsOf({ ...facts, addon: unbuilt })).toEqual([{ level: 'error', subject: 'platform', ...problem }]);
  });

  it('a missing compiler is an error before the addon is built, and a warning once it loads', () => {
    const tools: Facts['tools'] = [{ tool: 'compiler', program: undefined, problem: 'no C++20 compiler' }];
    const unbuilt = { ...healthy.addon, build: undefined, problem: 'it is not built' };
    const levels = (facts: Machine): string[] => findingsOf(facts).map(({ level, subject }) => `${level} ${subject}`);
    expect(levels({ ...healthy, tools })).toEqual(['warning compiler']);
    expect(levels({ ...healthy, tools, addon: unbuilt })).toEqual(['error compiler', 'error addon']);
    expect(levels({ ...healthy, platform: { ...healthy.platform, proved: false }, addon: unbuilt })).toEqual([
      'error addon',
      'warning platform',
    ]);
  });
});

it('prints a row a subject, and each finding with its mend', () => {
  const facts = { ...healthy, addon: notBuilt };
  const text = render({ ...facts, cuda: judgeCuda(facts), findings: findingsOf(facts), ok: false });
  expect(text).toContain('Compiler   12.2.0 (c++)\n');
  expect(text).toContain('JPEG       /libturbojpeg.so.0\n');
  const without = render({ ...facts, turboJpeg: undefined, cuda: judgeCuda(facts), findings: [], ok: true });
  expect(without).toContain('JPEG       no TurboJPEG of version 3: files are decoded by sharp, which takes longer\n');
  const row = (value: string) => {
    const scaling = jpegScaling({ LAYERWISE_JPEG_SCALING: value });
    return render({ ...facts, jpegScaling: scaling, cuda: judgeCuda(facts), findings: [], ok: true });
  };
  expect(row('on')).toContain('JPEG       /libturbojpeg.so.0\n');
  expect(row('off')).toContain('libturbojpeg.so.0; every image at its own size: LAYERWISE_JPEG_SCALING is off\n');
  expect(row('no')).toContain('libturbojpeg.so.0; LAYERWISE_JPEG_SCALING: expected on or off, got no\n');
  expect(text).toContain('Gloo       usable: several processes on CPUs\n');
  expect(text).toContain('NCCL       not usable: this LibTorch is a CPU build\n');
  expect(text).toContain('Processors 2 usable (16 in the machine; affinity to 8; cgroup quota 2.5)\n');
  expect(text).toContain('Memory     3.0 GiB available (64.0 GiB in the machine; cgroup limit 4.0 GiB)\n');
  expect(text).toContain('GPUs       none visible\n');
  expect(text).toContain('CUDA       not usable: no NVIDIA driver was found\n');
  expect(text).toContain('error: addon: it is not built\n  mend: npm run setup\n');
  expect(text).toMatch(/Training cannot work until the errors are mended\.$/);
});

describe('its flags', () => {
  const doctor = (...args: string[]) =>
    spawnSync(process.execPath, [join(root, 'scripts', 'doctor.mjs'), ...args], { encoding: 'utf8' });

  it('--help says what it does, and does nothing else', () => {
    const { status, stdout, stderr } = doctor('--help');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Usage: npm run doctor -- \[--json\]\n/);
    expect(stdout).not.toContain('LibTorch ');
  });

  it.each(['--jsn', 'here'])('%s is refused with exit code 2', (arg) => {
    const { status, stdout, stderr } = doctor(arg);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toContain(arg);
  });

  it('--json works, and set-up can begin, where no dependency is installed', () => {
    const clone = temporaryFolder();
    for (const name of ['scripts', 'package.json']) cpSync(join(root, name), join(clone, name), { recursive: true });
    const bare = (...args: string[]) =>
      spawnSync(process.execPath, args, { cwd: clone, encoding: 'utf8', env: { PATH: process.env.PATH } });
    const { status, stdout, stderr } = bare(join(clone, 'scripts', 'doctor.mjs'), '--json');
    expect([status, stderr]).toEqual([1, '']);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, addon: { problem: 'it is not built' } });
    const { stderr: failure } = bare('--input-type=module', '-e', "await import('./scripts/setup/steps.mjs')");
    expect(failure).toBe('');
  });

  it('--json is one object, of this build', () => {
    const { status, stdout } = doctor('--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: true,
      node: { version: process.versions.node },
      processors: { usable: expect.any(Number) },
      memory: { available: expect.any(Number) },
    });
  });
});
