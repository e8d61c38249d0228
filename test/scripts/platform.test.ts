// Which platforms set-up refuses before it installs or fetches anything.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  describePlatform,
  libcOf,
  type Platform,
  platformProblem,
  refusePlatform,
} from '../../scripts/setup/platform.mjs';
import { root, temporaryFolder } from './scripts.js';

const linux = { platform: 'linux', arch: 'x64', libc: { name: 'glibc', version: '2.36' } };

it.each([
  linux,
  { ...linux, arch: 'arm64' },
  { ...linux, libc: { name: 'glibc', version: '2.28' } },
  { platform: 'darwin', arch: 'arm64', libc: undefined },
])('takes %j', (facts) => {
  expect(platformProblem(facts, {})).toBeUndefined();
});

describe('refuses, with a way out', () => {
  it.each<[facts: Platform, reason: string, mend: string]>([
    [
      { ...linux, libc: { name: 'musl' } },
      'LibTorch is made for glibc, and this Node runs on musl, as on Alpine',
      'Debian',
    ],
    [{ ...linux, libc: { name: 'unknown' } }, 'another C library', 'Debian'],
    [
      { ...linux, libc: { name: 'glibc', version: '2.17' } },
      'expected 2.28 or later, which LibTorch is linked against, got 2.17',
      'a container',
    ],
    [{ platform: 'win32', arch: 'x64' }, 'Windows is not supported', 'WSL 2'],
    [{ ...linux, arch: 'ia32' }, '32-bit program (ia32)', '64-bit Node'],
    [{ ...linux, arch: 'arm' }, '32-bit program (arm)', '64-bit Node'],
    [{ ...linux, arch: 'riscv64' }, 'there is no LibTorch for linux-riscv64', 'LIBTORCH=DIR'],
    [{ platform: 'freebsd', arch: 'x64' }, 'there is no LibTorch for freebsd-x64', 'LIBTORCH=DIR'],
    [{ platform: 'darwin', arch: 'x64' }, 'Intel Macs', '2.2.2'],
  ])('%j', (facts, reason, mend) => {
    const problem = platformProblem(facts, {});
    expect(problem?.reason).toContain(reason);
    expect(problem?.mend).toContain(mend);
    expect(() => refusePlatform(facts, {})).toThrow(expect.objectContaining({ code: 'PLATFORM', mend: problem?.mend }));
  });
});

it('a LibTorch that is named may be one for the platform; for Windows and 32 bits there is none', () => {
  const env = { LIBTORCH: '/mine' };
  expect(platformProblem({ ...linux, libc: { name: 'musl' } }, env)).toBeUndefined();
  expect(platformProblem({ ...linux, arch: 'riscv64' }, env)).toBeUndefined();
  expect(platformProblem({ ...linux, arch: 'ia32' }, env)).toBeDefined();
  expect(platformProblem({ platform: 'win32', arch: 'x64' }, env)).toBeDefined();
});

// As Node's diagnostic report tells it, on Debian 12 and in node:22-alpine.
it.each([
  [{ header: { glibcVersionRuntime: '2.36' }, sharedObjects: ['/lib/x86_64-linux-gnu/libc.so.6'] }, 'glibc', '2.36'],
  [{ header: {}, sharedObjects: ['/lib/ld-musl-x86_64.so.1', '/usr/lib/libstdc++.so.6'] }, 'musl', undefined],
  [{ header: {}, sharedObjects: [] }, 'unknown', undefined],
])('the C library of %j', (report, name, version) => {
  expect(libcOf(report)).toEqual({ name, version });
});

it.runIf(process.platform === 'linux')("this machine's glibc is what ldd says", () => {
  const told = /(\d+\.\d+)\s*$/m.exec(
    spawnSync('ldd', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0]!,
  )?.[1];
  expect(describePlatform().libc).toEqual({ name: 'glibc', version: told });
});

it('set-up on musl ends in two lines, before anything is made', () => {
  const out = join(temporaryFolder(), 'out');
  // A Node whose report is that of Alpine's.
  const asMusl = join(temporaryFolder(), 'musl.mjs');
  writeFileSync(
    asMusl,
    "process.report.getReport = () => ({ header: {}, sharedObjects: ['/lib/ld-musl-x86_64.so.1'] });\n",
  );
  const { LIBTORCH, LIBTORCH_USE_PYTORCH, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', pathToFileURL(asMusl).href, join(root, 'scripts', 'setup.mjs')],
    { encoding: 'utf8', env: { ...env, LAYERWISE_OUT: out, LAYERWISE_CACHE: out } },
  );
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr.split('\n')).toEqual([
    'set-up failed: LibTorch is made for glibc, and this Node runs on musl, as on Alpine',
    expect.stringMatching(/^To mend it: a distribution with glibc/),
    '',
  ]);
  expect(existsSync(out)).toBe(false);
});
