// Set-up and both builds in a small clone, under a path that hardly any build tool takes, and in a clone that cannot be
// written. Its addon is one file and its LibTorch one function; the scripts, CMakeLists.txt and binding.gyp are the real
// ones.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { writeResolved } from '../../scripts/libtorch/resolved.mjs';
import { isPlain } from '../../scripts/setup/plain-paths.mjs';
import { run } from '../../scripts/support/process.mjs';
import { root, temporaryFolder } from './scripts.js';

/** Several compilers run in each of these tests. */
const MINUTES = { timeout: 300_000 };

/** Every character that one of cmake, ninja, make, gyp, the compiler, the linker, the shell or Vite does not take. */
const STRANGE = `-ü 日本 #1 %20 it's "q" & (x) [y] <z> $HOME \`t\` a,b;c=d|e?!`;

const ADDON = `
#include <ATen/ATen.h>
#include <napi.h>
Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("answer", Napi::Number::New(env, answer()));
  return exports;
}
NODE_API_MODULE(layerwise, init)
`;

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** A LibTorch that has the function `answer` and nothing else. */
function makeLibTorch(folder: string): string {
  write(join(folder, 'include/ATen/ATen.h'), 'extern "C" int answer();\n');
  const version = ['MAJOR 2', 'MINOR 13', 'PATCH 0'].map((part) => `#define TORCH_VERSION_${part}\n`).join('');
  write(join(folder, 'include/torch/csrc/api/include/torch/version.h'), version);
  const codes = { torch_cpu: 'int answer(void) { return 42; }', torch: '', c10: '' };
  for (const [name, code] of Object.entries(codes)) {
    const library = join(folder, 'lib', `lib${name}.so`);
    write(`${library}.c`, code);
    execFileSync('cc', ['-shared', '-fPIC', `-Wl,-soname,lib${name}.so`, '-o', library, `${library}.c`]);
  }
  return folder;
}

function makeClone(folder: string): string {
  for (const name of ['scripts', 'CMakeLists.txt', 'binding.gyp', 'package.json', 'package-lock.json']) {
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  write(join(folder, 'native/addon.cpp'), ADDON);
  cpSync(join(root, 'native/operators.json'), join(folder, 'native/operators.json'));
  write(join(folder, 'lib/index.ts'), 'export const one: number = 1;\n');
  const config = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'));
  write(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ ...config, include: ['lib/index.ts'], references: [{ path: './scripts' }] }),
  );
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

const answerOf = (addon: string) => createRequire(import.meta.url)(addon).answer;

function environment(extra: Record<string, string>): NodeJS.ProcessEnv {
  const { LAYERWISE_OUT, LAYERWISE_ADDON, LIBTORCH_USE_PYTORCH, ...env } = process.env;
  return { ...env, ...extra };
}

describe.runIf(process.platform === 'linux')('a path of characters that build tools refuse', () => {
  it('is set up, built by both tools, and found again', MINUTES, async () => {
    const clone = makeClone(join(temporaryFolder(), `${STRANGE}:f`, '-clone'));
    const links = temporaryFolder();
    const env = environment({ LIBTORCH: makeLibTorch(join(temporaryFolder(), STRANGE)), TMPDIR: links });
    const start = (name: string) => run(process.execPath, [join(clone, 'scripts', name)], { env, cwd: clone });
    const first = await start('setup.mjs');
    expect(first.stderr).toContain('set-up: addon: compiled');
    expect(first.code).toBe(0);
    expect(answerOf(join(clone, 'out', 'cmake', 'Release', 'layerwise.node'))).toBe(42);
    expect((await start('setup.mjs')).stderr).toBe('set-up: everything is up to date\n');
    const gyp = await start('node-gyp.mjs');
    expect(gyp.code, gyp.stderr).toBe(0);
    expect(answerOf(join(clone, 'build', 'Release', 'layerwise.node'))).toBe(42);
    expect(readdirSync(links)).toEqual([]);
  });
});

describe.runIf(process.platform === 'linux')('a clone that cannot be written', () => {
  /** Runs a script where the clone is read-only: by its permissions, or by a mount where root would write all the same. */
  function readOnly(clone: string, name: string, env: NodeJS.ProcessEnv) {
    const command = [process.execPath, join(clone, 'scripts', name)];
    if (process.getuid?.() !== 0) {
      const folders = readdirSync(clone, { withFileTypes: true, recursive: true }).filter((entry) =>
        entry.isDirectory(),
      );
      const all = [clone, ...folders.map((entry) => join(entry.parentPath, entry.name))];
      for (const folder of all) chmodSync(folder, 0o555);
      onTestFinished(() => {
        for (const folder of all) chmodSync(folder, 0o755);
      });
      return run(command[0]!, command.slice(1), { env, cwd: clone });
    }
    const mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"';
    return run('unshare', ['--mount', 'sh', '-c', mount, clone, ...command], { env });
  }

  const canMount =
    process.getuid?.() !== 0 || spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'x', '/mnt']).status === 0;

  it.runIf(canMount)('is set up in the state directory, and follows the clone when that changes', MINUTES, async () => {
    const clone = makeClone(join(temporaryFolder(), 'clone'));
    const out = join(temporaryFolder(), 'out');
    const env = environment({ LIBTORCH: makeLibTorch(temporaryFolder()), LAYERWISE_OUT: out });
    const first = await readOnly(clone, 'setup.mjs', env);
    expect(first.stderr).toContain('set-up: TypeScript: compiled');
    expect(first.code).toBe(0);
    expect(answerOf(join(out, 'cmake', 'Release', 'layerwise.node'))).toBe(42);
    expect(existsSync(join(out, 'source', 'dist', 'index.js'))).toBe(true);
    expect(existsSync(join(clone, 'dist'))).toBe(false);
    expect((await readOnly(clone, 'setup.mjs', env)).stderr).toBe('set-up: everything is up to date\n');
    chmodSync(join(clone, 'lib'), 0o755);
    write(join(clone, 'lib/index.ts'), 'export const two: number = 2;\n');
    expect((await readOnly(clone, 'setup.mjs', env)).stderr).toMatch(
      /^set-up: TypeScript: compiled, \d+ files \(.*\)\n$/,
    );
    expect(readFileSync(join(out, 'source', 'dist', 'index.js'), 'utf8')).toContain('two = 2');
    const gyp = await readOnly(clone, 'node-gyp.mjs', env);
    expect(gyp.code, gyp.stderr).toBe(0);
    expect(answerOf(join(out, 'source', 'build', 'Release', 'layerwise.node'))).toBe(42);
  });

  it.runIf(canMount)(
    'and whose state directory cannot either is used as it is when complete, and named when not',
    MINUTES,
    async () => {
      const clone = makeClone(join(temporaryFolder(), 'clone'));
      const env = environment({ LIBTORCH: makeLibTorch(temporaryFolder()) });
      const refused = await readOnly(clone, 'setup.mjs', env);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toBe(
        `set-up failed: ${clone} cannot be written, and the step prerequisites is due\n` +
          'To mend it: LAYERWISE_OUT=DIR names a folder for the build, and LAYERWISE_CACHE=DIR one for LibTorch\n',
      );
      chmodSync(clone, 0o755);
      for (const name of ['lib', 'native']) chmodSync(join(clone, name), 0o755);
      expect((await run(process.execPath, [join(clone, 'scripts', 'setup.mjs')], { env })).code).toBe(0);
      const complete = await readOnly(clone, 'setup.mjs', env);
      expect([complete.code, complete.stderr]).toEqual([0, '']);
    },
  );
});

it.runIf(process.platform === 'linux')('a clone that is reached through a link is set up too', () => {
  const link = join(temporaryFolder(), 'link');
  symlinkSync(root, link);
  const { stdout } = spawnSync(process.execPath, [join(link, 'scripts', 'doctor.mjs'), '--help'], { encoding: 'utf8' });
  expect(stdout).toContain('Usage: npm run doctor');
});

it.each(['/lib/a:b', '/lib/$ORIGIN/x', '/lib/$LIB', '/lib/a\nb'])(
  'LibTorch in %j is refused: no loader finds it',
  (libDir) => {
    const out = temporaryFolder();
    const lists = { includeDirs: [], libraries: [], runtimeDirs: [] };
    const build = { version: '2.13.0', cuda: null, cudaIncludeDir: null, ncclIncludeDir: null, cxx11Abi: true };
    const record = { source: 'LIBTORCH', root: '/', libDir, ...lists, ...build };
    const write = () => writeResolved(record, { LAYERWISE_OUT: out });
    expect(write).toThrow(
      expect.objectContaining({ code: 'LIBTORCH_PATH', mend: expect.stringContaining('LAYERWISE_CACHE') }),
    );
    expect(readdirSync(out)).toEqual([]);
  },
);

it('letters of all alphabets are plain; what one tool refuses is not, nor is a very long path', () => {
  expect(['/home/jürgen/日本/a-b_c.d+e~f@g', '/a'].map(isPlain)).toEqual([true, true]);
  expect([...` #%'"&()[]<>$\`,;=|?!*:\\{}`].filter((character) => isPlain(`/a${character}b`))).toEqual([]);
  expect(isPlain(`/${'a'.repeat(500)}`)).toBe(false);
});
