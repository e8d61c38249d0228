import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pinned } from '../libtorch/pins.mjs';
import { readResolved } from '../libtorch/resolved.mjs';
import { addonInputs, addonOutputs, buildAddon } from '../setup/addon.mjs';
import { prebuiltPackage } from '../setup/prebuilt.mjs';
import { generateOperators } from '../setup/sources.mjs';
import { compiledAddon } from '../support/addon.mjs';
import { SetupError } from '../support/errors.mjs';
import { writeJson } from '../support/files.mjs';
import { packageVersion, root } from '../support/paths.mjs';
import { Stamps } from '../support/stamps.mjs';
import { developedTurboJpeg, turboJpegName } from '../support/turbojpeg.mjs';
import { npmPack } from './npm-pack.mjs';

/** @import { LibTorch } from '../libtorch/resolved.mjs' */
/** @import { Tarball } from './npm-pack.mjs' */

/**
 * Compiles the addon for the pinned LibTorch that the clone has resolved, such that it finds LibTorch through the link `libtorch`
 * beside itself, and packs it. The CPU and the CUDA build of LibTorch take an addon each: the one calls CUDA's own functions.
 * @param {string} folder where the tarball goes, and beside it what is in it
 * @returns {Promise<Tarball>}
 */
export async function packPrebuilt(folder) {
  const libtorch = readResolved();
  if (libtorch?.version !== pinned.version || libtorch.cuda !== null) {
    const got = libtorch === undefined ? 'none' : `${libtorch.version}, CUDA ${libtorch.cuda ?? 'none'}`;
    throw new SetupError(
      'NOT_PINNED',
      `expected the CPU build of LibTorch ${pinned.version} to be resolved, got ${got}`,
    );
  }
  const out = join(folder, 'state');
  await build(out, libtorch);
  const stage = join(folder, prebuiltPackage);
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(join(stage, 'cpu'), { recursive: true });
  cpSync(compiledAddon(out), join(stage, 'cpu', 'layerwise.node'));
  cpSync(join(root, 'LICENSE'), join(stage, 'LICENSE'));
  addTurboJpeg(stage);
  writeJson(join(stage, 'package.json'), manifest(libtorch));
  writeFileSync(join(stage, 'README.md'), readme(libtorch));
  return npmPack(stage, folder);
}

/**
 * The library that decodes JPEG files, beside its licence, for whichever addon.
 * @param {string} stage
 */
function addTurboJpeg(stage) {
  const library = developedTurboJpeg();
  if (library === undefined || !existsSync(library)) {
    throw new SetupError(
      'NO_TURBOJPEG',
      'expected @julusian/jpeg-turbo to be installed, whose library the package brings',
    );
  }
  cpSync(library, join(stage, turboJpegName));
  cpSync(join(import.meta.dirname, 'libjpeg-turbo-licence.md'), join(stage, 'LICENSE-libjpeg-turbo.md'));
}

/**
 * @param {string} out
 * @param {LibTorch} libtorch
 */
async function build(out, libtorch) {
  writeJson(join(out, 'libtorch.json'), libtorch);
  writeFileSync(join(out, 'rpath.txt'), '-rpath "$ORIGIN/libtorch"\n');
  const context = {
    ...{ env: { ...process.env, LAYERWISE_OUT: out }, out },
    note: (/** @type {string} */ line) => void process.stderr.write(`${line}\n`),
    signal: new AbortController().signal,
  };
  await generateOperators(context);
  const stamps = new Stamps(out);
  if (stamps.isFresh('addon', addonInputs(context), addonOutputs(out))) return;
  context.note('compiling the addon for the package, which takes a minute or two');
  await buildAddon(context);
  stamps.record('addon', addonInputs(context), addonOutputs(out));
}

/** @param {LibTorch} libtorch */
function manifest({ version }) {
  return {
    name: prebuiltPackage,
    version: packageVersion,
    description: `The compiled addon of layerwise for ${process.platform}-${process.arch} and LibTorch ${version}`,
    license: 'MIT',
    os: [process.platform],
    cpu: [process.arch],
    ...(process.platform === 'linux' ? { libc: ['glibc'] } : {}),
    libtorch: version,
  };
}

/** @param {LibTorch} libtorch */
function readme({ version }) {
  return [
    `# ${prebuiltPackage}`,
    '',
    `The compiled addon of layerwise ${packageVersion} for the CPU build of LibTorch`,
    `${version}. \`npx layerwise setup\` takes it from here; without it the addon is compiled.`,
    '',
  ].join('\n');
}
