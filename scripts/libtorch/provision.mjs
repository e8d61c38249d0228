import { createHash } from 'node:crypto';
import { createReadStream, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { download } from '../download.mjs';
import { SetupError } from '../support/errors.mjs';
import { platformKey } from '../support/platform.mjs';
import { transferProgress } from '../support/progress.mjs';
import { extractZip, listZip, readZipEntry } from '../support/zip.mjs';
import { downloadsDir, makeCopy } from './cache.mjs';
import { siblingNvidiaDirs } from './inspect.mjs';
import { missingNvidiaLibraries } from './nvidia.mjs';
import { archiveHost, cudaOf, pinned } from './pins.mjs';
import { withPipDownload } from './pip.mjs';

/** @import { LibTorchRequest } from '../libtorch.mjs' */
/** @import { Pins } from './pins.mjs' */

/**
 * Tests give other pins and another platform.
 * @typedef {LibTorchRequest & { pins?: Pins, platform?: string }} Context
 */

/**
 * What of an archive is kept, under `torch/`: the libraries without Python's, the tests' and the static ones; the
 * headers; the notes that tell the version. An official archive calls its root libtorch, a wheel torch.
 * @param {string} name
 */
export function keptPath(name) {
  const inside = /^(?:libtorch|torch)\/(.+)$/.exec(name)?.[1];
  if (inside === undefined) return undefined;
  const isLibrary =
    /^lib\/[^/]+\.(?:so(?:\.[\w.]+)?|dylib)$/.test(inside) &&
    !/python|test|libshm|backend_with_compiler|aoti_custom_ops/.test(inside);
  const isHeader = inside.startsWith('include/');
  const isNote = inside === 'build-version' || inside === 'build-hash' || inside === 'version.py';
  return isLibrary || isHeader || isNote ? join('torch', inside) : undefined;
}

/**
 * The official archive, its SHA-256 pinned.
 * @param {string} variant
 * @param {Context} context
 */
export async function provisionFromArchive(variant, context) {
  const { env, note, signal, pins = pinned, platform = platformKey() } = context;
  const archive = pins.archives[platform]?.[variant];
  if (archive === undefined)
    throw new SetupError('NO_ARCHIVE', `there is no official ${variant} archive for ${platform}`);
  const url = `${archiveHost(env)}${archive.path}`;
  const name = decodeURIComponent(basename(archive.path));
  return makeCopy(
    variant,
    async (folder) => {
      const zip = join(downloadsDir(env), name);
      note(`fetching ${url}`);
      const progress = transferProgress(name);
      try {
        await download({ url, to: zip, ...archive, env, signal, onProgress: progress.update });
      } finally {
        progress.done();
      }
      await extractZip(zip, folder, { select: keptPath, signal });
      await completeCuda(variant, folder, pins.nvidiaRequirements[variant], context);
      rmSync(zip, { force: true });
      return { source: 'the official archive', origin: url, sha256: archive.sha256, checkedBy: 'the pinned SHA-256' };
    },
    { env, signal, onWait: () => note('another process is provisioning the same LibTorch; waiting for it') },
  );
}

/**
 * The same release's wheel, by pip. `requirement` is what pip is asked for; the wheel must turn out to be of the wanted
 * variant, since an index of one's own may answer with another.
 * @param {string} variant
 * @param {string} requirement
 * @param {Context & { extraIndex?: string | undefined }} context
 */
export async function provisionFromWheel(variant, requirement, context) {
  const { env, note, signal, extraIndex, pins = pinned } = context;
  return makeCopy(
    variant,
    async (folder) => {
      note(`fetching ${requirement} with pip`);
      const options = { folder: downloadsDir(env), extraIndex, env, signal };
      return withPipDownload([requirement], options, async ([wheel]) => {
        await refuseOtherVariant(wheel, variant, requirement);
        const facts = await checkWheel(wheel, pins);
        await extractZip(wheel, folder, { select: keptPath, signal });
        await completeCuda(variant, folder, await nvidiaRequirementsOf(wheel), context);
        return facts;
      });
    },
    { env, signal, onWait: () => note('another process is provisioning the same LibTorch; waiting for it') },
  );
}

/**
 * @param {string} wheel
 * @param {string} variant
 * @param {string} requirement
 */
async function refuseOtherVariant(wheel, variant, requirement) {
  const text = (await readZipEntry(wheel, 'torch/version.py'))?.toString('utf8') ?? '';
  const got = /^cuda\b.*=\s*'([\d.]+)'/m.exec(text)?.[1] ?? null;
  if (got === cudaOf(variant)) return;
  /** @param {string | null} cuda */
  const words = (cuda) => (cuda === null ? 'a CPU build' : `a build for CUDA ${cuda}`);
  throw new SetupError(
    'WRONG_WHEEL',
    `pip answered ${requirement} with ${basename(wheel)}: expected ${words(cudaOf(variant))}, got ${words(got)}`,
  );
}

/**
 * @param {string} wheel
 * @param {Pins} pins
 */
async function checkWheel(wheel, pins) {
  const name = basename(wheel);
  const sha256 = await digestOf(wheel);
  const expected = pins.wheels[name];
  if (expected !== undefined && expected !== sha256) {
    throw new SetupError('CHECKSUM', `${name} is not the expected file: expected SHA-256 ${expected}, got ${sha256}`);
  }
  const checkedBy = expected === undefined ? 'pip alone, against its index' : 'the pinned SHA-256';
  return { source: "pip's wheel", origin: name, sha256, checkedBy };
}

/** @param {string} path */
async function digestOf(path) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash.digest('hex');
}

/**
 * What the wheel's metadata asks for of NVIDIA's libraries, without the environment markers.
 * @param {string} wheel
 */
async function nvidiaRequirementsOf(wheel) {
  const names = await listZip(wheel);
  const name = names.find((name) => /^[^/]+\.dist-info\/METADATA$/.test(name));
  const metadata = name === undefined ? undefined : await readZipEntry(wheel, name);
  const required = (metadata?.toString('utf8') ?? '').matchAll(/^Requires-Dist: ([^;\n]+)/gm);
  return [...required]
    .map(([, requirement]) => requirement.trim())
    .filter((requirement) => /^(nvidia-|cuda-toolkit\b)/.test(requirement));
}

/**
 * Fetches NVIDIA's libraries when LibTorch's own folder does not hold all that its libraries name.
 * @param {string} variant
 * @param {string} copy
 * @param {readonly string[] | undefined} requirements
 * @param {LibTorchRequest} context
 */
async function completeCuda(variant, copy, requirements = [], { env, note, signal }) {
  const cuda = cudaOf(variant);
  const stillMissing = () => {
    const torch = join(copy, 'torch');
    return missingNvidiaLibraries(join(torch, 'lib'), siblingNvidiaDirs(torch));
  };
  if (cuda === null || stillMissing().length === 0) return;
  note(`fetching NVIDIA's libraries for CUDA ${cuda} with pip (about 2 GB)`);
  const options = { folder: downloadsDir(env), withDependencies: true, env, signal };
  await withPipDownload(requirements, options, async (wheels) => {
    for (const wheel of wheels) await extractZip(wheel, copy, { select: keptNvidiaPath, signal });
  });
  const missing = stillMissing();
  if (missing.length === 0) return;
  throw new SetupError('NVIDIA_LIBRARIES', `NVIDIA's packages do not hold ${missing.join(', ')}, which LibTorch needs`);
}

/** @param {string} name */
function keptNvidiaPath(name) {
  return /^nvidia\/[^/]+\/(lib\/[^/]+\.so(\.[\w.]+)?|include\/.+)$/.test(name) ? name : undefined;
}
