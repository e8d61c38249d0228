import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { copyDir, describeCopy, readCopy } from './libtorch/cache.mjs';
import { inspectLibTorch } from './libtorch/inspect.mjs';
import { archiveHost, pinned } from './libtorch/pins.mjs';
import { pythonProgram } from './libtorch/pip.mjs';
import { writeResolved } from './libtorch/resolved.mjs';
import { chooseVariant } from './libtorch/variant.mjs';
import { codeOf, reasonOf, SetupError } from './support/errors.mjs';
import { isOn, settingOf } from './support/flags.mjs';
import { isMain } from './support/main.mjs';
import { outDir } from './support/paths.mjs';
import { isDebianLike, platformKey } from './support/platform.mjs';
import { run, tail, which } from './support/process.mjs';

/** @import { Choice } from './libtorch/variant.mjs' */
/** @import { LibTorch } from './libtorch/resolved.mjs' */
/** @import { Environment } from './support/paths.mjs' */

/**
 * `note(line)` tells the user what takes time.
 * @typedef {object} LibTorchRequest
 * @property {Environment} env
 * @property {(line: string) => void} note
 * @property {AbortSignal | undefined} [signal]
 */

/** @typedef {{ source: string, error: unknown }} Failure */

/**
 * A source of LibTorch; `find` rejects where it has none.
 * @typedef {object} Source
 * @property {string} name
 * @property {(context: LibTorchRequest & { failures: readonly Failure[] }) => Promise<LibTorch>} find
 */

/**
 * Finds or provisions LibTorch and resolves with what `out/libtorch.json` holds.
 *
 * A source that the environment names (LIBTORCH, LIBTORCH_USE_PYTORCH) is the only one tried. Without one, each source
 * is tried in turn and its failure kept; when all have failed, the SetupError lists them. Tests replace `sources`.
 * @param {Partial<LibTorchRequest> & { sources?: readonly Source[] }} [options]
 * @returns {Promise<LibTorch>}
 */
export async function resolveLibTorch({ env = process.env, note = () => {}, signal, sources } = {}) {
  const named = namedSource(env);
  if (named !== undefined) return named();
  const choice = await chooseVariant(env);
  /** @type {Failure[]} */
  const failures = [];
  for (const source of sources ?? defaultSources(choice)) {
    signal?.throwIfAborted();
    try {
      return announceCompromise(await source.find({ env, note, signal, failures }), choice, failures, note);
    } catch (error) {
      signal?.throwIfAborted();
      failures.push({ source: source.name, error });
      note(`${source.name}: ${reasonOf(error)}`);
    }
  }
  throw exhausted(failures);
}

/** @param {Environment} env */
function namedSource(env) {
  const directory = settingOf(env.LIBTORCH);
  if (directory !== undefined) return async () => inspectLibTorch(directory, { source: 'LIBTORCH', env });
  if (isOn(env.LIBTORCH_USE_PYTORCH)) return () => inspectPyTorch(env);
  return undefined;
}

/**
 * The torch of the active Python, found without importing it: an import takes seconds and may fail for other reasons.
 * @param {Environment} env
 */
async function inspectPyTorch(env) {
  const program = pythonProgram(env);
  const script = 'import importlib.util as u; s = u.find_spec("torch"); print(s.origin if s and s.origin else "")';
  const { code, stdout, stderr } = await run(program, ['-c', script], { env });
  const origin = stdout.trim();
  if (code === 0 && origin !== '') {
    return inspectLibTorch(dirname(origin), { source: `LIBTORCH_USE_PYTORCH (${program})`, env });
  }
  const reason = code === 0 ? 'it has no package torch' : tail(stderr, 1);
  throw new SetupError('LIBTORCH_NOT_FOUND', `LIBTORCH_USE_PYTORCH is set, but ${program} cannot be used: ${reason}`, {
    mend: `${program} -m pip install torch==${pinned.version}`,
  });
}

/**
 * The order of the sources, the CUDA ones before the CPU ones where a driver was found.
 * @param {Choice} choice
 * @returns {Source[]}
 */
function defaultSources({ variant, forced }) {
  const fallback = variant === 'cpu' || forced ? [] : ['cpu'];
  const provisioned = [variant, ...fallback].flatMap((name) => [
    copySource(name),
    archiveSource(name),
    ...wheelSources(name),
  ]);
  return forced && variant !== 'cpu' ? provisioned : [...provisioned, distributionSource, aptSource];
}

// What provisions is imported where it is used: it unpacks with a dependency, which is not needed for a LibTorch that is
// already there, and not installed when set-up begins.

/**
 * @param {string} variant
 * @returns {Source}
 */
function copySource(variant) {
  return {
    name: `the copy provisioned earlier (${variant})`,
    async find({ env }) {
      const facts = readCopy(variant, env);
      if (facts === undefined) throw new SetupError('NO_COPY', `none in ${copyDir(variant, env)}`);
      return describeCopy(variant, facts, env);
    },
  };
}

/**
 * @param {string} variant
 * @returns {Source}
 */
function archiveSource(variant) {
  return {
    name: `the official archive (${variant})`,
    async find(context) {
      const { provisionFromArchive } = await import('./libtorch/provision.mjs');
      return describeCopy(variant, await provisionFromArchive(variant, context), context.env);
    },
  };
}

/**
 * The release's wheel: first under the local version that names the variant (pip's find-links and mirrors often hold
 * it), then under the plain one, which stands for CUDA 13.0 on Linux x86-64 and for the CPU elsewhere. `===` keeps pip
 * from taking the plain version to mean any local one.
 * @param {string} variant
 * @returns {Source[]}
 */
function wheelSources(variant) {
  const plain = `torch===${pinned.version}`;
  const isPlain = variant === (platformKey() === 'linux-x64' ? 'cu130' : 'cpu');
  const requirements = [`torch==${pinned.version}+${variant}`, ...(isPlain ? [plain] : [])];
  return requirements.map((requirement) => ({
    name: `the wheel ${requirement} by pip`,
    async find(context) {
      const extraIndex = wheelIndex(variant, requirement, context);
      const { provisionFromWheel } = await import('./libtorch/provision.mjs');
      const facts = await provisionFromWheel(variant, requirement, { ...context, extraIndex });
      return describeCopy(variant, facts, context.env);
    },
  }));
}

/**
 * The official index of one variant's wheels, unless its host has just proved out of reach: pip would retry for long.
 * @param {string} variant
 * @param {string} requirement
 * @param {{ env: Environment, failures: readonly Failure[] }} context
 */
function wheelIndex(variant, requirement, { env, failures }) {
  const outOfReach = failures.some(({ error }) => codeOf(error) === 'UNREACHABLE');
  return outOfReach || !requirement.includes('+') ? undefined : `${archiveHost(env)}/whl/${variant}`;
}

/** @type {Source} */
const distributionSource = {
  name: "the distribution's libtorch-dev",
  async find({ env }) {
    return inspectLibTorch('/usr', { source: "the distribution's libtorch-dev", env });
  },
};

/** @type {Source} */
const aptSource = {
  name: 'apt-get install libtorch-dev',
  async find({ env, note, signal }) {
    refuseApt(env);
    const log = join(outDir(env), 'apt.log');
    mkdirSync(outDir(env), { recursive: true });
    rmSync(log, { force: true });
    note(`installing the distribution's LibTorch as the last resort: apt-get install libtorch-dev (output in ${log})`);
    const options = { env: { ...env, DEBIAN_FRONTEND: 'noninteractive' }, log, signal };
    const install = () => run('apt-get', ['install', '--yes', '--no-install-recommends', 'libtorch-dev'], options);
    let result = await install();
    if (result.code !== 0) {
      await run('apt-get', ['update'], options);
      result = await install();
    }
    if (result.code !== 0) throw new SetupError('APT_FAILED', `${tail(result.stderr, 1)} (see ${log})`);
    return inspectLibTorch('/usr', { source: "the distribution's libtorch-dev (installed by set-up)", env });
  },
};

/** @param {Environment} env */
function refuseApt(env) {
  const reason =
    (isOn(env.LAYERWISE_NO_APT) && 'LAYERWISE_NO_APT turns it off') ||
    (!isDebianLike() && 'this is neither Debian nor Ubuntu') ||
    (which('apt-get', env) === undefined && 'there is no apt-get') ||
    (process.getuid?.() !== 0 && 'only root may install packages');
  if (reason) throw new SetupError('NO_APT', reason);
}

/**
 * A CPU build where a CUDA one was wanted is said aloud: its absence is otherwise found only when training is slow.
 * @param {LibTorch} record
 * @param {Choice} choice
 * @param {readonly Failure[]} failures
 * @param {(line: string) => void} note
 * @returns {LibTorch}
 */
function announceCompromise(record, { variant, reason }, failures, note) {
  if (variant === 'cpu' || record.cuda !== null) return record;
  note(`${reason}, but no CUDA build of LibTorch could be had: a CPU build is used, and --device cuda will be refused`);
  return { ...record, compromise: failures.map(({ source, error }) => `${source}: ${reasonOf(error)}`) };
}

/** @param {readonly Failure[]} failures */
function exhausted(failures) {
  const tried = failures.map(({ source, error }) => `  - ${source}: ${reasonOf(error)}`);
  const ways = [
    `  - LIBTORCH=DIR: an unpacked archive of ${pinned.host}/libtorch (release ${pinned.version})`,
    `  - LIBTORCH_USE_PYTORCH=1: after python3 -m pip install torch==${pinned.version}`,
    '  - LAYERWISE_LIBTORCH_MIRROR=URL or HTTPS_PROXY=URL: where the official host is reached another way',
    '  - Debian and Ubuntu: apt-get install libtorch-dev',
  ];
  const message = [
    'LibTorch was not found and could not be provisioned. Tried:',
    ...tried,
    'Ways to get one:',
    ...ways,
  ];
  return new SetupError('LIBTORCH_NOT_FOUND', message.join('\n'));
}

if (isMain(import.meta.url)) {
  try {
    const record = await resolveLibTorch({ note: (line) => process.stderr.write(`${line}\n`) });
    writeResolved(record);
    process.stdout.write(`${JSON.stringify(record, null, 2)}\n`);
  } catch (error) {
    process.stderr.write(`${reasonOf(error)}\n`);
    process.exitCode = 1;
  }
}
