// Why the addon does not load: libraries made here that fail in each way, through the loader of this machine, and the
// loader's messages where a failure cannot be made without a special machine.
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeAddon } from '../../scripts/doctor/addon.mjs';
import { explainLoadFailure } from '../../scripts/doctor/load-failure.mjs';
import { collect } from '../../scripts/doctor.mjs';
import { missingNvidiaLibraries, nvidiaPackages } from '../../scripts/libtorch/nvidia.mjs';
import { temporaryFolder } from './scripts.js';

/** Compiles C to a shared library that needs `libraries`. */
function compile(path: string, code: string, libraries: readonly string[] = [], flags: readonly string[] = []): string {
  mkdirSync(dirname(path), { recursive: true });
  const source = `${path}.c`;
  writeFileSync(source, code);
  const linking = ['-Wl,--disable-new-dtags', `-Wl,-rpath,${dirname(path)}`, `-Wl,-soname,${basename(path)}`];
  execFileSync('cc', [
    '-shared',
    '-fPIC',
    '-o',
    path,
    source,
    '-Wl,--no-as-needed',
    ...libraries,
    ...linking,
    ...flags,
  ]);
  return path;
}

interface Build {
  readonly out: string;
  readonly addon: string;
  readonly lib: string;
}

/** A state directory with an addon that needs a LibTorch of CUDA 12.8, which needs `needed`. */
function build({ addonCode = '', torchCode = '', needed = [] as string[] } = {}): Build {
  const out = temporaryFolder();
  const lib = join(out, 'torch', 'lib');
  const libraries = needed.map((name) => compile(join(lib, name), ''));
  const torch = compile(join(lib, 'libtorch_cpu.so'), torchCode, libraries);
  const addon = compile(join(out, 'cmake', 'Release', 'layerwise.node'), addonCode, [torch], [`-Wl,-rpath,${lib}`]);
  for (const library of libraries) rmSync(library);
  const record = {
    source: 'LIBTORCH',
    root: join(out, 'torch'),
    version: '2.13.0',
    cuda: '12.8',
    cudaIncludeDir: null,
    ncclIncludeDir: null,
  };
  const files = { libDir: lib, libraries: [torch], includeDirs: [], runtimeDirs: [], cxx11Abi: true };
  writeFileSync(join(out, 'libtorch.json'), JSON.stringify({ ...record, ...files }));
  return { out, addon, lib };
}

async function failure({ out }: Build, env: Record<string, string> = {}) {
  const { problem, mend } = await describeAddon({ PATH: process.env.PATH, LAYERWISE_OUT: out, ...env });
  return { reason: problem ?? '', mend: mend ?? '' };
}

function overwrite(path: string, position: number, ...bytes: number[]): void {
  const file = openSync(path, 'r+');
  writeSync(file, Uint8Array.from(bytes), 0, bytes.length, position);
  closeSync(file);
}

describe.runIf(process.platform === 'linux')("this machine's loader", () => {
  it("NVIDIA's libraries are missing: all are named, with three ways that work, none of them set-up alone", async () => {
    const made = build({ needed: ['libcusparse.so.12', 'libcublasLt.so.12', 'libcudnn.so.9'] });
    const { findings } = await collect({ PATH: process.env.PATH, LAYERWISE_OUT: made.out });
    const { reason, mend } = findings.find(({ subject }) => subject === 'addon')!;
    for (const name of ['libcusparse.so.12', 'libcublasLt.so.12', 'libcudnn.so.9']) expect(reason).toContain(name);
    expect(reason).toContain(`the CUDA build of LibTorch in ${join(made.out, 'torch')} needs`);
    expect(mend).toMatch(/^LD_LIBRARY_PATH=/);
    expect(mend).toContain('pip install nvidia-cublas-cu12 nvidia-cudnn-cu12 nvidia-cusparse-cu12');
    expect(mend).toMatch(/LAYERWISE_LIBTORCH_VARIANT=cpu npm run setup$/);
  });

  it('the way by LD_LIBRARY_PATH does work', async () => {
    const made = build({ needed: ['libcusparse.so.12'] });
    const elsewhere = compile(join(temporaryFolder(), 'libcusparse.so.12'), '');
    const { reason } = await failure(made, { LD_LIBRARY_PATH: dirname(elsewhere) });
    // It loads, and is then found to be no addon.
    expect(reason).toContain('no addon for this Node');
  });

  it('a LibTorch that is named goes before the variant, so it is to be unset', async () => {
    const made = build({ needed: ['libcusparse.so.12'] });
    expect((await failure(made, { LIBTORCH: join(made.out, 'torch') })).mend).toContain('unset LIBTORCH and take');
  });

  // Where the distribution's LibTorch is installed, the loader finds that one.
  const hasSystemLibTorch = (spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? '').includes(
    'libtorch_cpu.so',
  );

  it.skipIf(hasSystemLibTorch)('a LibTorch that is gone is resolved again', async () => {
    const made = build();
    rmSync(join(made.lib, 'libtorch_cpu.so'));
    const { reason, mend } = await failure(made);
    expect(reason).toContain('libtorch_cpu.so is missing');
    expect(mend).toBe('npm run setup');
  });

  it('a LibTorch that is there, but without a library that the addon was built with, has it built again', async () => {
    const { reason, mend } = await failure(build({ needed: ['libtorch_cuda.so'] }));
    expect(reason).toContain('libtorch_cuda.so is missing');
    expect(mend).toMatch(/^rm .* npm run setup$/);
  });

  it('a library of the system', async () => {
    const made = build({ needed: ['libsample.so.1'] });
    const { reason, mend } = await failure(made);
    expect(reason).toContain('libsample.so.1 is missing');
    expect(mend).toContain('LD_LIBRARY_PATH');
  });

  it('a symbol that LibTorch does not have: another release, compiled again', async () => {
    const made = build({ addonCode: 'extern int of_another_release; int *use(void) { return &of_another_release; }' });
    const { reason, mend } = await failure(made);
    expect(reason).toContain('the addon was built against another release');
    expect(reason).toContain('of_another_release');
    expect(mend).toBe(`rm ${JSON.stringify(made.addon)} && npm run setup`);
    const { mend: preloaded } = await failure(made, { LD_LIBRARY_PATH: '/nowhere' });
    expect(preloaded).toMatch(/^unset LD_LIBRARY_PATH; if that is not it, rm /);
  });

  it('a symbol that LibTorch itself misses: its libraries are of two releases', async () => {
    const made = build({ torchCode: 'extern int of_another_release; int *use(void) { return &of_another_release; }' });
    const { reason, mend } = await failure(made);
    expect(reason).toContain(`${join(made.lib, 'libtorch_cpu.so')} was built against another release`);
    expect(mend).toContain('all of one release');
  });

  it('a version of a library that is too old', async () => {
    const folder = temporaryFolder();
    const map = join(folder, 'map');
    writeFileSync(map, 'SAMPLE_2 { global: newer; };\n');
    const sample = join(folder, 'libsample.so.1');
    compile(sample, 'int newer(void) { return 1; }', [], [`-Wl,--version-script=${map}`]);
    const made = build();
    const code = 'extern int newer(void); int use(void) { return newer(); }';
    compile(made.addon, code, [sample], [`-Wl,-rpath,${folder}`]);
    writeFileSync(map, 'SAMPLE_1 { global: newer; };\n');
    compile(sample, 'int newer(void) { return 1; }', [], [`-Wl,--version-script=${map}`]);
    const { reason, mend } = await failure(made);
    expect(reason).toContain('libsample.so.1 is too old or another one');
    expect(reason).toContain('SAMPLE_2');
    expect(mend).toContain(`ldd ${made.addon}`);
  });

  it.each([
    ['another processor', 18, [243, 0], 'is for riscv64'],
    ['32 bits', 4, [1], 'another architecture'],
  ])('an addon for %s', async (_, position, bytes, expected) => {
    const made = build();
    overwrite(made.addon, position, ...bytes);
    const { reason, mend } = await failure(made);
    expect(reason).toContain(expected);
    expect(mend).toMatch(/^rm .* && npm run setup$/);
  });

  it.each([
    ['cut short', (path: string) => truncateSync(path, 100)],
    ['no library', (path: string) => writeFileSync(path, 'version https://git-lfs.github.com/spec/v1\n'.repeat(9))],
  ])('an addon that is %s', async (_, damage) => {
    const made = build();
    damage(made.addon);
    const { reason, mend } = await failure(made);
    expect(reason).toContain(`${made.addon} is damaged or no library`);
    expect(mend).toMatch(/^rm .* && npm run setup$/);
  });

  it('a library that is no addon', async () => {
    expect((await failure(build())).reason).toContain('no addon for this Node');
  });

  it('an instruction that the processor lacks, as the signal tells', async () => {
    const torchCode = '#include <signal.h>\n__attribute__((constructor)) void load(void) { raise(SIGILL); }';
    const { reason, mend } = await failure(build({ torchCode }));
    expect(reason).toContain('instructions that this processor lacks');
    expect(mend).toContain('LIBTORCH=DIR');
  });

  it('an addon that LAYERWISE_ADDON names is not removed', async () => {
    const made = build();
    expect((await failure(made, { LAYERWISE_ADDON: made.addon })).mend).toContain('unset LAYERWISE_ADDON');
  });
});

describe('messages of other machines', () => {
  const context = { endedBy: null, libtorch: undefined };

  it.each<[message: string, reason: string, mend: string]>([
    [
      "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.28' not found (required by /lt/libtorch_cpu.so)",
      'libc.so.6 is too old or another one: /lt/libtorch_cpu.so needs its version GLIBC_2.28',
      'a newer distribution or a container',
    ],
    [
      "/conda/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /a/layerwise.node)",
      '/a/layerwise.node needs its version GLIBCXX_3.4.30',
      'newer libstdc++',
    ],
    [
      '/a/layerwise.node: failed to map segment from shared object: Operation not permitted',
      'file system of /a is mounted with noexec',
      'LAYERWISE_OUT (the addon) and LAYERWISE_CACHE (LibTorch) name folders on another file system',
    ],
    [
      '/a/layerwise.node: cannot open shared object file: Permission denied',
      'may not be read',
      'chmod a+r /a/layerwise.node',
    ],
    [
      'libtorch_cpu.so: failed to map segment from shared object: Cannot allocate memory',
      'no memory or address space',
      'ulimit -v',
    ],
    ['/lt/libgomp.so.1: cannot allocate memory in static TLS block', 'static TLS block', 'LD_PRELOAD=/lt/libgomp.so.1'],
    [
      '/lt/libtorch_cpu.so: cannot enable executable stack as shared object requires: Invalid argument',
      'executable stack',
      'patchelf --clear-execstack /lt/libtorch_cpu.so',
    ],
    [
      'libcuda.so.1: cannot open shared object file: No such file or directory',
      'comes with the NVIDIA driver',
      'LAYERWISE_LIBTORCH_VARIANT=cpu',
    ],
    [
      'libgomp.so.1: cannot open shared object file: No such file or directory',
      'libgomp.so.1 is missing',
      'install libgomp1',
    ],
  ])('%s', (message, reason, mend) => {
    const bin = temporaryFolder();
    writeFileSync(join(bin, 'apt-get'), '', { mode: 0o755 });
    const told = explainLoadFailure({ ...context, message, path: '/a/layerwise.node', env: { PATH: bin } });
    expect(told.reason).toContain(reason);
    expect(told.mend).toContain(mend);
  });

  it('what nobody knows is passed on, with the addon compiled again', () => {
    const told = explainLoadFailure({ ...context, message: 'strange', path: '/a/b.node', env: {} });
    expect(told).toEqual({ reason: 'strange', mend: 'rm "/a/b.node" && npm run setup' });
  });
});

it.runIf(process.platform === 'linux')("NVIDIA's libraries count wherever they lie; the driver's is not meant", () => {
  const lib = join(temporaryFolder(), 'lib');
  const needed = ['libcudart.so.12', 'libnccl.so.2', 'libcuda.so.1'].map((name) => compile(join(lib, name), ''));
  compile(join(lib, 'libtorch_cuda.so'), '', needed);
  for (const library of needed) rmSync(library);
  const runtime = temporaryFolder();
  writeFileSync(join(runtime, 'libnccl.so.2'), '');
  expect(missingNvidiaLibraries(lib, [runtime, '/is/not/there'])).toEqual(['libcudart.so.12']);
});

// The names of PyTorch's own requirements: torch 2.7 asks for nvidia-cusparse-cu12, torch 2.13 for nvidia-cudnn-cu13.
it('packages carry the CUDA release in their names, but for the toolkit of CUDA 13', () => {
  expect(nvidiaPackages(['libcusparse.so.12', 'libcublas.so.12', 'libcublasLt.so.12'], '12.8')).toEqual([
    'nvidia-cublas-cu12',
    'nvidia-cusparse-cu12',
  ]);
  expect(nvidiaPackages(['libcusparse.so.12', 'libcudnn.so.9'], '13.0')).toEqual([
    'nvidia-cudnn-cu13',
    'nvidia-cusparse',
  ]);
});
