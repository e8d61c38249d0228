import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { takeSanitizer } from '../../scripts/support/sanitize.mjs';
import { root, temporaryFolder } from './scripts.js';

/** A compiler that answers where a library is: as GCC does, with a path, or with the name alone where it has none. */
function compilerIn(folder: string): string {
  const compiler = join(folder, 'compiler');
  writeFileSync(compiler, `#!/bin/sh\ncase $1 in *ubsan*) echo libubsan.so ;; *) echo /gcc/libasan.so ;; esac\n`, {
    mode: 0o755,
  });
  return compiler;
}

test('without a sanitizer nothing changes', () => {
  const env = { LAYERWISE_ADDON: '/x' };
  expect(takeSanitizer(['test/tensor'], env)).toEqual({ args: ['test/tensor'] });
  expect(env).toEqual({ LAYERWISE_ADDON: '/x' });
});

test('a sanitizer has a state directory of its own, beside that of the ordinary build', () => {
  const env: Record<string, string> = { CXX: compilerIn(temporaryFolder()), LAYERWISE_ADDON: '/x' };
  const taken = takeSanitizer(['a', '--sanitize', 'address', 'b'], env);
  expect(taken).toEqual({ name: 'address', args: ['a', 'b'], preload: '/gcc/libasan.so' });
  expect(env).toEqual({
    CXX: env.CXX,
    LAYERWISE_SANITIZE: 'address',
    LAYERWISE_OUT: join(root, 'out', 'address'),
    ASAN_OPTIONS: expect.stringContaining('detect_leaks=0'),
  });
  const own: Record<string, string> = { CXX: env.CXX!, LAYERWISE_OUT: '/elsewhere', ASAN_OPTIONS: 'mine=1' };
  takeSanitizer(['--sanitize', 'address'], own);
  expect([own.LAYERWISE_OUT, own.ASAN_OPTIONS]).toEqual(['/elsewhere/address', 'mine=1']);
});

test.each([
  [['--sanitize', 'thread'], 'expected address or undefined, or both with a comma, for --sanitize, got thread'],
  [['--sanitize'], 'expected address or undefined, or both with a comma, for --sanitize, got nothing'],
  [['--sanitize', 'address,address'], /^expected address or undefined, .* got address,address$/],
  [['--sanitize', 'address,undefined'], /^\S+compiler has no libubsan\.so: sanitizers need GCC on Linux$/],
  [['--sanitize', 'undefined'], /^\S+compiler has no libubsan\.so: sanitizers need GCC on Linux$/],
])('%j is refused before anything is built', (args, message) => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [join(root, 'scripts', 'setup.mjs'), ...args], {
    encoding: 'utf8',
    env: { ...process.env, CXX: compilerIn(temporaryFolder()), LAYERWISE_OUT: temporaryFolder() },
  });
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr.trim()).toMatch(message);
});
