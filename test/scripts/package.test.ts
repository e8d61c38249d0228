// The package that users install: what its tarball holds, and how it sets itself up.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { packMain } from '../../scripts/pack/main-package.mjs';
import { run } from '../../scripts/support/process.mjs';
import { root, temporaryFolder } from './scripts.js';

const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

const folder = mkdtempSync(join(tmpdir(), 'layerwise-package-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { files, size } = await packMain(folder, { prebuilt: 'layerwise-linux-x64' });

describe('the tarball', () => {
  const manifest = readJson(join(folder, 'layerwise', 'package.json'));

  it('has code, types, what the addon is compiled from, and documents', () => {
    for (const file of ['dist/index.js', 'dist/index.d.ts', 'commonjs/index.cjs', 'native/addon.cpp', 'README.md']) {
      expect(files).toContain(file);
    }
    expect(files).toContain('scripts/setup/build-tools/package-lock.json');
    expect(size).toBeGreaterThan(100e3);
    expect(size).toBeLessThan(3e6);
  });

  it('has no tests, no TypeScript sources, no source maps and nothing of another folder', () => {
    const folders = new Set(files.map((file) => file.split('/')[0]));
    const named = ['CHANGELOG.md', 'CMakeLists.txt', 'LICENSE', 'README.md', 'package.json'];
    expect([...folders].sort()).toEqual([...named, 'commonjs', 'dist', 'docs', 'native', 'scripts'].sort());
    const sources = files.filter((file) => /\.(test|spec)\.|\.map$|\.tsbuildinfo$|\.png$/.test(file));
    expect(sources).toEqual([]);
    expect(files.filter((file) => /\.ts$/.test(file) && !file.endsWith('.d.ts'))).toEqual([]);
    expect(files.filter((file) => file.startsWith('scripts/pack'))).toEqual([]);
  });

  it('leads to no source map, and to types by their paths', () => {
    const codes = files.filter((file) => file.endsWith('.js'));
    const maps = codes.filter((file) =>
      readFileSync(join(folder, 'layerwise', file), 'utf8').includes('sourceMappingURL'),
    );
    expect(maps).toEqual([]);
    const types = files.filter((file) => file.endsWith('.d.ts'));
    const aliased = types.filter((file) => readFileSync(join(folder, 'layerwise', file), 'utf8').includes('#scripts'));
    expect(aliased).toEqual([]);
  });

  it('depends on what running needs, and offers the compiled addon', () => {
    expect(manifest.devDependencies).toBeUndefined();
    for (const name of ['cmake-js', 'node-addon-api', 'node-api-headers']) {
      expect(Object.keys(manifest.dependencies)).not.toContain(name);
    }
    expect(manifest.optionalDependencies).toEqual({ 'layerwise-linux-x64': manifest.version });
    expect(manifest.scripts).toBeUndefined();
    expect(manifest.private).toBeUndefined();
  });

  it('depends on every package that its code imports', () => {
    const codes = files.filter((file) => /^(dist|scripts)\/.*\.m?js$/.test(file));
    const imported = codes.flatMap((file) => {
      const text = readFileSync(join(folder, 'layerwise', file), 'utf8');
      return [...text.matchAll(/\bfrom '([^.#'][^']*)'|\bimport\('([^.#'][^']*)'\)/g)].map(([, a, b]) => a ?? b!);
    });
    const packages = new Set(imported.filter((name) => !name.startsWith('node:')));
    // A peer of fastify-type-provider-zod, of types alone.
    expect([...packages, 'openapi-types'].sort()).toEqual(Object.keys(manifest.dependencies).sort());
  });
});

it('builds with the versions that a clone has locked', () => {
  const { dependencies } = readJson(join(root, 'scripts/setup/build-tools/package.json'));
  const { packages } = readJson(join(root, 'package-lock.json'));
  const own = readJson(join(root, 'scripts/setup/build-tools/package-lock.json')).packages;
  for (const [name, version] of Object.entries(dependencies)) {
    expect(packages[`node_modules/${name}`].version).toBe(version);
    expect(own[`node_modules/${name}`].version).toBe(version);
  }
  expect(JSON.stringify(own)).not.toContain('"resolved"');
});

describe.runIf(process.platform === 'linux')('set-up of an installed package', () => {
  /** The package in a project, with a LibTorch that has nothing but names, and a PATH without compilers. */
  function installed() {
    const project = temporaryFolder();
    const at = join(project, 'node_modules', 'layerwise');
    cpSync(join(folder, 'layerwise'), at, { recursive: true });
    for (const name of Object.keys(readJson(join(at, 'package.json')).dependencies)) {
      const link = join(project, 'node_modules', name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(root, 'node_modules', name), link);
    }
    const libtorch = makeLibTorch(temporaryFolder());
    const [cache, bin] = [temporaryFolder(), temporaryFolder()];
    symlinkSync(process.execPath, join(bin, 'node'));
    const env = { PATH: bin, HOME: cache, LAYERWISE_CACHE: cache, LIBTORCH: libtorch };
    const layerwise = (...args: string[]) =>
      run(process.execPath, [join(at, 'dist', 'cli', 'main.js'), ...args], { env, cwd: project });
    return { project, cache, layerwise };
  }

  function makeLibTorch(folder: string): string {
    for (const path of ['include/ATen', 'include/torch/csrc/api/include/torch', 'lib']) {
      mkdirSync(join(folder, path), { recursive: true });
    }
    writeFileSync(join(folder, 'include/ATen/ATen.h'), '');
    const version = ['MAJOR 2', 'MINOR 13', 'PATCH 0'].map((part) => `#define TORCH_VERSION_${part}\n`).join('');
    writeFileSync(join(folder, 'include/torch/csrc/api/include/torch/version.h'), version);
    for (const name of ['torch_cpu', 'torch', 'c10']) {
      const library = join(folder, 'lib', `lib${name}.so`);
      execFileSync('cc', ['-shared', '-fPIC', `-Wl,-soname,lib${name}.so`, '-o', library, '-x', 'c', '/dev/null']);
    }
    return folder;
  }

  function addPrebuilt(
    project: string,
    { version = readJson(join(root, 'package.json')).version, libtorch = '2.13.0' } = {},
  ) {
    const at = join(project, 'node_modules', 'layerwise-linux-x64');
    mkdirSync(join(at, 'cpu'), { recursive: true });
    writeFileSync(join(at, 'package.json'), JSON.stringify({ name: 'layerwise-linux-x64', version, libtorch }));
    writeFileSync(join(at, 'cpu', 'layerwise.node'), 'no library');
  }

  it('without a compiled addon asks for the compiler before anything is fetched', async () => {
    const { layerwise } = installed();
    const { code, stderr } = await layerwise('setup');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^set-up failed: What building needs is missing:\n {2}- a C\+\+20 compiler\n/);
  });

  it('tries the compiled addon in a process of its own, and says why it is compiled instead', async () => {
    const { project, layerwise } = installed();
    addPrebuilt(project);
    const { code, stderr } = await layerwise('setup');
    expect(code).toBe(1);
    expect(stderr).toContain('set-up: LibTorch: 2.13.0');
    expect(stderr).toMatch(
      /layerwise-linux-x64: \S*trial\.node is damaged or no library; the addon is compiled instead\n/,
    );
    expect(stderr).toContain('What building needs is missing');
  });

  it.each([
    ['for another LibTorch', { libtorch: '2.4.0' }, 'layerwise-linux-x64: it has no addon for LibTorch 2.13.0 (cpu)'],
    ['of another version', { version: '0.0.9' }, 'What building needs is missing'],
  ])('does not take a compiled addon %s', async (_, other, message) => {
    const { project, layerwise } = installed();
    addPrebuilt(project, other);
    const { code, stderr } = await layerwise('setup');
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });

  it('is what the first error names, and the state directory is in the cache folder', async () => {
    const { project, cache } = installed();
    const program =
      "import('layerwise').then(({ ones }) => ones([1])).catch(({ code, message }) => console.log(code, message))";
    const options = { env: { PATH: process.env.PATH, LAYERWISE_CACHE: cache, HOME: cache }, cwd: project };
    const { stdout } = await run(process.execPath, ['-e', program], options);
    expect(stdout).toMatch(/^ADDON_UNAVAILABLE .*the native addon is not there; looked for\n/);
    expect(stdout).toContain(join(cache, 'layerwise-0.1.0-napi8-linux-x64', 'prebuilt', 'layerwise.node'));
    expect(stdout).toContain('Get it with: npx layerwise setup. See what is wrong with: npx layerwise doctor');
  });
});
