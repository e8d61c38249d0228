import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeCopy, readCopy } from '../../scripts/libtorch/cache.mjs';
import { inspectLibTorch } from '../../scripts/libtorch/inspect.mjs';
import { keptPath, provisionFromArchive, provisionFromWheel } from '../../scripts/libtorch/provision.mjs';
import type { LibTorch } from '../../scripts/libtorch/resolved.mjs';
import { chooseVariant } from '../../scripts/libtorch/variant.mjs';
import { resolveLibTorch } from '../../scripts/libtorch.mjs';
import { isOn } from '../../scripts/support/flags.mjs';
import { compareVersions, isDebianLike, platformKey } from '../../scripts/support/platform.mjs';
import { fixture, serve, temporaryFolder } from './scripts.js';

const suffix = process.platform === 'darwin' ? 'dylib' : 'so';

type Environment = Record<string, string>;

const source = { source: 'a test' };

/** What a source finds: a CPU build by the name of the source. */
const found = (source: string): LibTorch => ({
  source,
  root: '/torch',
  includeDirs: [],
  libDir: '/torch/lib',
  libraries: [],
  runtimeDirs: [],
  version: '2.13.0',
  cuda: null,
  cudaIncludeDir: null,
  ncclIncludeDir: null,
  cxx11Abi: true,
});

/** Something that looks like an unpacked LibTorch of a version. */
function sampleLibTorch(version: string, { headers = true, lib = 'lib', oldAbi = false } = {}): string {
  const root = temporaryFolder();
  const include = join(root, 'include/torch/csrc/api/include/torch');
  mkdirSync(join(root, lib), { recursive: true });
  mkdirSync(include, { recursive: true });
  mkdirSync(join(root, 'include/ATen'));
  for (const name of ['torch', 'torch_cpu', 'c10']) writeFileSync(join(root, lib, `lib${name}.${suffix}`), '');
  if (oldAbi) writeFileSync(join(root, lib, `libc10.${suffix}`), '\0_ZN3c105ErrorC1ENS_14SourceLocationESs\0');
  const [major, minor, patch] = version.split('.');
  const parts = [`MAJOR ${major}`, `MINOR ${minor}`, `PATCH ${patch}`];
  writeFileSync(join(include, 'version.h'), parts.map((part) => `#define TORCH_VERSION_${part}\n`).join(''));
  if (headers) writeFileSync(join(root, 'include/ATen/ATen.h'), '');
  return root;
}

/** An environment in which nothing that this machine has is found. */
function bareEnvironment(extra: Environment = {}): Environment {
  return { PATH: temporaryFolder(), LAYERWISE_CACHE: temporaryFolder(), LAYERWISE_OUT: temporaryFolder(), ...extra };
}

test.each([
  [undefined, false],
  ['', false],
  ['0', false],
  ['false', false],
  ['FALSE', false],
  [' 0 ', false],
  ['1', true],
  ['yes', true],
  ['/usr', true],
])('a variable that is %j is on: %j', (value, expected) => {
  expect(isOn(value)).toBe(expected);
});

test('LIBTORCH names the directory, before every other source', async () => {
  const root = sampleLibTorch('2.5.1');
  const env = bareEnvironment({ LIBTORCH: root, LIBTORCH_USE_PYTORCH: '1' });
  const record = await resolveLibTorch({ env, sources: [] });
  expect(record).toMatchObject({ source: 'LIBTORCH', root, version: '2.5.1', cuda: null, libDir: join(root, 'lib') });
  expect(record.libraries).toEqual(
    ['torch', 'torch_cpu', 'c10'].map((name) => join(root, 'lib', `lib${name}.${suffix}`)),
  );
  expect(record.includeDirs).toEqual([join(root, 'include'), join(root, 'include/torch/csrc/api/include')]);
});

test('a LIBTORCH that holds none is an error, and nothing else is tried in its place', async () => {
  const env = bareEnvironment({ LIBTORCH: temporaryFolder() });
  const sources = [{ name: 'never', find: () => Promise.reject(new Error('was tried')) }];
  const failure = resolveLibTorch({ env, sources });
  await expect(failure).rejects.toMatchObject({ code: 'LIBTORCH_NOT_FOUND' });
  await expect(failure).rejects.toThrow(`${env.LIBTORCH} holds no LibTorch`);
});

test('a LIBTORCH one level too high says where it is', () => {
  const parent = temporaryFolder();
  mkdirSync(join(parent, 'libtorch/lib'), { recursive: true });
  expect(() => inspectLibTorch(parent, source)).toThrow(`but ${join(parent, 'libtorch')} does`);
});

test('libraries without headers are told apart from no LibTorch', () => {
  expect(() => inspectLibTorch(sampleLibTorch('2.0.0', { headers: false }), source)).toThrow('without its headers');
});

test.runIf(platformKey() === 'linux-x64')('a distribution keeps its libraries in a folder for the architecture', () => {
  const root = sampleLibTorch('1.13.0', { lib: 'lib/x86_64-linux-gnu' });
  expect(inspectLibTorch(root, source).libDir).toBe(join(root, 'lib/x86_64-linux-gnu'));
});

test.each([
  ['1.12.1', false],
  ['1.13.0', true],
  ['2.0.0', true],
  ['2.99.0', true],
  ['3.0.0', false],
])('LibTorch %s is supported: %j, and the check can be turned off', (version, supported) => {
  const root = sampleLibTorch(version);
  const inspect = (env: Environment) => () => inspectLibTorch(root, { ...source, env });
  if (supported) expect(inspect({})().version).toBe(version);
  else
    expect(inspect({})).toThrow(`LibTorch ${version} in ${root} is not supported: expected 1.13 or later, before 3.0`);
  expect(inspect({ LIBTORCH_BYPASS_VERSION_CHECK: '1' })().version).toBe(version);
  if (!supported) expect(inspect({ LIBTORCH_BYPASS_VERSION_CHECK: '0' })).toThrow('not supported');
});

test('which std::string a library was compiled with is read from its symbols', () => {
  expect(inspectLibTorch(sampleLibTorch('2.1.0', { oldAbi: true }), source).cxx11Abi).toBe(false);
  expect(inspectLibTorch(sampleLibTorch('2.13.0'), source).cxx11Abi).toBe(true);
});

test.each(['0', 'false', ''])('LIBTORCH and LIBTORCH_USE_PYTORCH of %j are off', async (off) => {
  const env = bareEnvironment({ LIBTORCH: off, LIBTORCH_USE_PYTORCH: off });
  const sources = [{ name: 'first', find: () => Promise.resolve(found('first')) }];
  expect(await resolveLibTorch({ env, sources })).toMatchObject({ source: 'first' });
});

test('LIBTORCH_USE_PYTORCH takes the torch of the first python3 on PATH', async () => {
  const root = sampleLibTorch('2.4.0');
  const env = bareEnvironment({ LIBTORCH_USE_PYTORCH: '1' });
  writeFileSync(join(env.PATH ?? '', 'python3'), `#!/bin/sh\necho ${root}/__init__.py\n`, { mode: 0o755 });
  expect(await resolveLibTorch({ env })).toMatchObject({ root, version: '2.4.0' });
});

test('LIBTORCH_USE_PYTORCH without a torch says how to get one', async () => {
  const env = bareEnvironment({ LIBTORCH_USE_PYTORCH: '1' });
  writeFileSync(join(env.PATH ?? '', 'python3'), '#!/bin/sh\necho\n', { mode: 0o755 });
  const failure = resolveLibTorch({ env });
  await expect(failure).rejects.toThrow('has no package torch');
  await expect(failure).rejects.toMatchObject({ mend: expect.stringContaining('-m pip install torch==2.13.0') });
});

test('sources are tried in order until one has it', async () => {
  const tried: string[] = [];
  const source = (name: string, hasIt: boolean) => ({
    name,
    find: () => {
      tried.push(name);
      return hasIt ? Promise.resolve(found(name)) : Promise.reject(new Error('no'));
    },
  });
  const sources = [source('one', false), source('two', true), source('three', true)];
  expect(await resolveLibTorch({ env: bareEnvironment(), sources })).toMatchObject({ source: 'two' });
  expect(tried).toEqual(['one', 'two']);
});

test('where every source fails, the message lists each with its reason, and the ways to get one', async () => {
  const failing = (name: string, reason: string) => ({ name, find: () => Promise.reject(new Error(reason)) });
  const sources = [failing('the archive', 'no network'), failing('the wheel', 'no python3')];
  const notes: string[] = [];
  const failure = resolveLibTorch({ env: bareEnvironment(), sources, note: (line: string) => notes.push(line) });
  await expect(failure).rejects.toMatchObject({ code: 'LIBTORCH_NOT_FOUND' });
  for (const part of ['the archive: no network', 'the wheel: no python3', 'LIBTORCH=DIR', 'LIBTORCH_USE_PYTORCH=1']) {
    await expect(failure).rejects.toThrow(part);
  }
  expect(notes).toEqual(['the archive: no network', 'the wheel: no python3']);
});

test('with an unsupported CPU/CUDA choice the message names what was expected', async () => {
  await expect(chooseVariant({ LAYERWISE_LIBTORCH_VARIANT: 'cu999' })).rejects.toThrow(
    'expected cpu or cu130, got cu999',
  );
  expect(await chooseVariant({ LAYERWISE_LIBTORCH_VARIANT: 'cu130' })).toMatchObject({
    variant: 'cu130',
    forced: true,
  });
});

function unreachable() {
  const mirror = 'http://127.0.0.1:9';
  return bareEnvironment({
    LAYERWISE_LIBTORCH_MIRROR: mirror,
    LAYERWISE_NO_APT: '1',
    LAYERWISE_LIBTORCH_VARIANT: 'cpu',
  });
}

// Nothing is reachable here: a closed port as the mirror, no python3 and no apt-get on PATH. It ends without the distribution's CPU one, on every machine.
test.runIf(platformKey() === 'linux-x64')(
  'a CUDA build that was asked for is never replaced by a CPU build',
  async () => {
    const env = { ...unreachable(), LAYERWISE_LIBTORCH_VARIANT: 'cu130' };
    const failure = resolveLibTorch({ env });
    await expect(failure).rejects.toMatchObject({ code: 'LIBTORCH_NOT_FOUND' });
    await expect(failure).rejects.toThrow(/official archive \(cu130\): .*cannot be reached/);
    await expect(failure).rejects.toThrow('wheel torch===2.13.0 by pip: python3 is not installed');
    await expect(failure).rejects.toThrow('Ways to get one:');
    await expect(failure).rejects.not.toThrow('(cpu)');
  },
);

test('of an archive the libraries, headers and notes are kept, without the tests and Python', () => {
  const kept = [
    'libtorch/lib/libtorch_cpu.so',
    'torch/lib/libgomp.so.1',
    'torch/include/ATen/ATen.h',
    'libtorch/build-version',
  ];
  const left = [
    'torch/lib/libtorch_python.so',
    'torch/lib/libtorchbind_test.so',
    'torch/nn/__init__.py',
    'libtorch/lib/libkineto.a',
    'other/lib/libc10.so',
  ];
  expect(kept.map(keptPath)).toEqual([
    'torch/lib/libtorch_cpu.so',
    'torch/lib/libgomp.so.1',
    'torch/include/ATen/ATen.h',
    'torch/build-version',
  ]);
  expect(left.map(keptPath)).toEqual(left.map(() => undefined));
});

/** Pins whose archive is the small zip file beside this test. */
function pinsOf(sha256: string) {
  const content = readFileSync(fixture('python.zip'));
  const archive = { path: '/libtorch/cpu/sample.zip', sha256, size: content.length };
  return { archives: { sample: { cpu: archive } }, wheels: {}, nvidiaRequirements: {} };
}

async function archiveContext(sha256: string) {
  const content = readFileSync(fixture('python.zip'));
  const requests: string[] = [];
  const mirror = await serve((request, response) => {
    requests.push(request.url ?? '');
    response.writeHead(200, { 'content-length': content.length }).end(content);
  });
  const env = bareEnvironment({ LAYERWISE_LIBTORCH_MIRROR: `${mirror}/mirrored/` });
  return { context: { env, note: () => {}, pins: pinsOf(sha256), platform: 'sample' }, requests, env };
}

test('the archive comes from the mirror and its copy says where from; a second call fetches nothing', async () => {
  const sha256 = createHash('sha256')
    .update(readFileSync(fixture('python.zip')))
    .digest('hex');
  const { context, requests, env } = await archiveContext(sha256);
  const facts = await provisionFromArchive('cpu', context);
  expect(facts).toMatchObject({ version: '2.13.0', variant: 'cpu', sha256 });
  expect(await provisionFromArchive('cpu', context)).toMatchObject({ sha256 });
  expect(requests).toEqual(['/mirrored/libtorch/cpu/sample.zip']);
  expect(readCopy('cpu', env)).toMatchObject({ sha256 });
});

test('an archive with another checksum leaves no copy', async () => {
  const { context, env } = await archiveContext('00'.repeat(32));
  await expect(provisionFromArchive('cpu', context)).rejects.toMatchObject({ code: 'CHECKSUM' });
  expect(readCopy('cpu', env)).toBeUndefined();
  expect(readdirSync(env.LAYERWISE_CACHE ?? '')).toEqual(['downloads']);
});

test('of the wheel that pip answers with, the build is read from the wheel itself', async () => {
  const env = bareEnvironment();
  // A pip that has one wheel, of a CPU build, whatever it is asked for.
  const script = `#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\n/bin/cp ${fixture('python.zip')} "$2/sample.whl"\n`;
  writeFileSync(join(env.PATH ?? '', 'python3'), script, { mode: 0o755 });
  const context = { env, note: () => {} };
  const wrong = provisionFromWheel('cu130', 'torch===2.13.0', context);
  await expect(wrong).rejects.toMatchObject({ code: 'WRONG_WHEEL' });
  await expect(wrong).rejects.toThrow('with sample.whl: expected a build for CUDA 13.0, got a CPU build');
  expect(readCopy('cu130', env)).toBeUndefined();
  const facts = await provisionFromWheel('cpu', 'torch==2.13.0+cpu', context);
  expect(facts).toMatchObject({ variant: 'cpu', origin: 'sample.whl', checkedBy: 'pip alone, against its index' });
  expect(readCopy('cpu', env)).toEqual(facts);
});

test('a copy that was broken off in the middle is never taken for a whole one', async () => {
  const env = bareEnvironment();
  const broken = makeCopy(
    'cpu',
    (folder: string) => {
      writeFileSync(join(folder, 'half'), '');
      throw new Error('power cut');
    },
    { env },
  );
  await expect(broken).rejects.toThrow('power cut');
  expect(readCopy('cpu', env)).toBeUndefined();
  await makeCopy('cpu', async () => ({ source: 'a test', origin: 'nowhere' }), { env });
  expect(readCopy('cpu', env)).toMatchObject({ source: 'a test', variant: 'cpu' });
});

test('versions compare by number, and Debian and its kin are recognised', () => {
  expect(['2.10.0', '2.9.1', '1.13.0', '580.65.06'].sort(compareVersions)).toEqual([
    '1.13.0',
    '2.9.1',
    '2.10.0',
    '580.65.06',
  ]);
  expect(isDebianLike('ID=debian\n')).toBe(true);
  expect(isDebianLike('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n')).toBe(true);
  expect(isDebianLike('ID="rhel"\nID_LIKE="fedora"\n')).toBe(false);
});
