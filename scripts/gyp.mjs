// Answers binding.gyp's questions from what set-up resolved, one value a line, quoted as a shell would:
// node scripts/gyp.mjs QUESTION

import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { readResolved } from './libtorch/resolved.mjs';
import { outDir, root } from './support/paths.mjs';

/** @import { LibTorch } from './libtorch/resolved.mjs' */

const require = createRequire(join(root, 'package.json'));

/** @type {Readonly<Record<string, ((libtorch: LibTorch) => string[]) | undefined>>} */
const answers = {
  sources: () =>
    readdirSync(join(root, 'native'))
      .filter((name) => name.endsWith('.cpp'))
      .sort()
      .map((name) => `native/${name}`),
  binding: () => [join(outDir(), 'generated', 'operators.inc')],
  generated: () => [join(outDir(), 'generated')],
  // Beside binding.gyp, where its folder stands for a clone whose own path gyp does not take.
  'node-api': () => [
    beside('node-api-headers/include') ?? require('node-api-headers').include_dir,
    beside('node-addon-api') ?? dirname(require.resolve('node-addon-api')),
  ],
  // As system headers: LibTorch's own warnings are not this project's.
  includes: (libtorch) => systemDirs(libtorch).map((folder) => `-isystem${folder}`),
  defines: (libtorch) => [
    `_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi ? 1 : 0}`,
    ...(libtorch.cuda === null ? [] : ['LAYERWISE_WITH_CUDA']),
    ...(libtorch.cudaIncludeDir === null ? [] : ['LAYERWISE_CUDA_HEADERS']),
    ...(libtorch.ncclIncludeDir === null ? [] : ['LAYERWISE_NCCL_HEADERS']),
  ],
  libraries: (libtorch) => libtorch.libraries,
  'rpath-file': () => [`-Wl,@${join(outDir(), 'rpath.txt')}`],
  rpaths: (libtorch) => [libtorch.libDir, ...libtorch.runtimeDirs].map((folder) => `-Wl,-rpath,${folder}`),
};

/** @param {string} name */
function beside(name) {
  const folder = `node_modules/${name}`;
  return existsSync(folder) ? folder : undefined;
}

/** @param {LibTorch} libtorch */
function systemDirs({ includeDirs, cudaIncludeDir, ncclIncludeDir }) {
  const others = [cudaIncludeDir, ncclIncludeDir].flatMap((folder) => folder ?? []);
  // The compiler's own folder may not be moved before the others.
  return [...includeDirs, ...others.filter((folder) => folder !== '/usr/include')];
}

const [question] = process.argv.slice(2);
const libtorch = readResolved();
if (libtorch === undefined) {
  process.stderr.write(
    `LibTorch is not resolved yet: expected ${join(outDir(), 'libtorch.json')}. Run: node scripts/libtorch.mjs\n`,
  );
  process.exit(1);
}
const answer = answers[question];
if (answer === undefined) {
  process.stderr.write(`gyp.mjs: expected one of ${Object.keys(answers).join(', ')}, got ${question}\n`);
  process.exit(2);
}
process.stdout.write(
  answer(libtorch)
    .map((value) => `${JSON.stringify(value)}\n`)
    .join(''),
);
