import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pinned } from '../libtorch/pins.mjs';
import { readRecord, writeResolved } from '../libtorch/resolved.mjs';
import { resolveLibTorch } from '../libtorch.mjs';
import { codeOf, reasonOf, SetupError } from '../support/errors.mjs';
import { digestFiles, filesUnder, identityOf } from '../support/files.mjs';
import { describeHolder, withLock } from '../support/lock.mjs';
import { cacheDir, outDir, root } from '../support/paths.mjs';
import { isProved, nvidiaDriverSign, platformKey } from '../support/platform.mjs';
import { which } from '../support/process.mjs';
import { bytes } from '../support/progress.mjs';
import { Stamps } from '../support/stamps.mjs';
import { addonInputs, addonOutputs, buildAddon } from './addon.mjs';
import { areInstalled, dependencyInputs, installDependencies } from './dependencies.mjs';
import { refusePlatform } from './platform.mjs';
import { checkPrerequisites, prerequisiteInputs, refuseMissing } from './prerequisites.mjs';
import {
  compileTypeScript,
  generateOperators,
  operatorInputs,
  operatorOutputs,
  typeScriptInputs,
  typeScriptOutputs,
} from './sources.mjs';
import { isWritable } from './working-tree.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/**
 * What the steps are given: `out` is the state directory, `note(line)` tells the user what takes time.
 * @typedef {{ env: Environment, out: string, note: (line: string) => void, signal: AbortSignal }} StepContext
 */

/**
 * `inputs` and `outputs` are compared with what the last run left; `run` does the work and resolves with what its line says.
 * `doing` is shown for the steps during which a person would wonder.
 * @typedef {object} Step
 * @property {string} name
 * @property {string} [doing]
 * @property {(context: StepContext) => unknown[]} inputs
 * @property {(context: StepContext) => unknown[]} outputs
 * @property {(context: StepContext) => Promise<string>} run
 */

/**
 * The steps, in order.
 * @type {readonly Step[]}
 */
const steps = [
  {
    name: 'prerequisites',
    inputs: ({ env }) => prerequisiteInputs(env),
    outputs: () => [],
    async run({ env }) {
      const checks = await checkPrerequisites(env);
      refuseMissing(checks, env);
      const [compiler, cmake] = checks;
      return `Node ${process.versions.node}, ${compiler.version}, CMake ${cmake.version}`;
    },
  },
  {
    name: 'npm dependencies',
    doing: 'installing',
    inputs: dependencyInputs,
    outputs: () => [areInstalled()],
    async run(context) {
      if (areInstalled()) return 'already installed';
      await installDependencies(context);
      return 'installed as locked';
    },
  },
  {
    name: 'LibTorch',
    doing: 'looking for one',
    inputs: libtorchInputs,
    outputs: libtorchOutputs,
    async run({ env, note, signal }) {
      const record = await resolveLibTorch({ env, note, signal });
      writeResolved(record, env);
      return `${record.version}, ${record.cuda ? `CUDA ${record.cuda}` : 'CPU'} build, ${record.source}`;
    },
  },
  {
    name: 'operators',
    inputs: operatorInputs,
    outputs: ({ out }) => operatorOutputs(out),
    async run(context) {
      await generateOperators(context);
      return 'generated';
    },
  },
  {
    name: 'addon',
    doing: 'compiling, which takes a minute or two',
    inputs: addonInputs,
    outputs: ({ out }) => addonOutputs(out),
    async run(context) {
      return `compiled, ${bytes(await buildAddon(context))}`;
    },
  },
  {
    name: 'TypeScript',
    inputs: typeScriptInputs,
    outputs: typeScriptOutputs,
    async run(context) {
      return `compiled, ${await compileTypeScript(context)} files`;
    },
  },
];

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Runs the steps that are due; the exit code is 0, 1, or 130 when a signal interrupted them.
 * @param {{ env?: Environment, announceFresh?: boolean }} [options]
 */
export async function runSteps({ env = process.env, announceFresh = false } = {}) {
  const out = outDir(env);
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Error('interrupted'));
  for (const name of signals) process.on(name, interrupt);
  const context = { env, out, note, signal: interruption.signal };
  try {
    refusePlatform(undefined, env);
    if (!isWritable(root)) return requireComplete(context);
    mkdirSync(out, { recursive: true });
    const done = await withLock(join(out, 'setup.lock'), () => runDueSteps(context), {
      signal: interruption.signal,
      onWait: (holder) =>
        note(
          `another set-up is at work in this clone (${describeHolder(holder)}); waiting for it ` +
            `(remove ${join(out, 'setup.lock')} if you are sure that it has ended)`,
        ),
    });
    if (done === 0 && announceFresh) say('everything is up to date');
    return 0;
  } catch (error) {
    return reportFailure(error, interruption.signal.aborted);
  } finally {
    for (const name of signals) process.removeListener(name, interrupt);
  }
}

/**
 * For a tree that cannot be written, as one that its owner has set up for others.
 * @param {StepContext} context
 */
function requireComplete(context) {
  const stamps = new Stamps(context.out);
  const due = steps.find((step) => !stamps.isFresh(step.name, step.inputs(context), step.outputs(context)));
  if (due === undefined) return 0;
  throw new SetupError('NOT_WRITABLE', `${root} cannot be written, and the step ${due.name} is due`, {
    mend: 'LAYERWISE_OUT=DIR names a folder for the build, and LAYERWISE_CACHE=DIR one for LibTorch',
  });
}

/** @param {StepContext} context */
async function runDueSteps(context) {
  const stamps = new Stamps(context.out);
  let done = 0;
  for (const step of steps) {
    context.signal.throwIfAborted();
    if (stamps.isFresh(step.name, step.inputs(context), step.outputs(context))) continue;
    if (done === 0 && !isProved())
      note(`${platformKey()} is untested: set-up goes the same way, but nobody has tried it`);
    stamps.forget(step.name);
    await runStep(step, context);
    stamps.record(step.name, step.inputs(context), step.outputs(context));
    done++;
  }
  return done;
}

/**
 * @param {Step} step
 * @param {StepContext} context
 */
async function runStep(step, context) {
  const started = performance.now();
  if (step.doing !== undefined && process.stderr.isTTY) process.stderr.write(`set-up: ${step.name}: ${step.doing} ...`);
  try {
    const result = await step.run(context);
    clearLine();
    say(`${step.name}: ${result} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    clearLine();
    throw error;
  }
}

/**
 * What the environment asks for, what the machine has, and what this code would choose.
 * @param {StepContext} context
 */
function libtorchInputs({ env }) {
  const code = [join(root, 'scripts', 'libtorch.mjs'), ...filesUnder(join(root, 'scripts', 'libtorch'))];
  const names = ['LIBTORCH', 'LIBTORCH_USE_PYTORCH', 'LIBTORCH_BYPASS_VERSION_CHECK', 'LAYERWISE_LIBTORCH_VARIANT'];
  const python = env.LIBTORCH_USE_PYTORCH ? which('python3', env) : '';
  const asked = names.map((name) => `${name}=${env[name] ?? ''}`);
  return [
    ...asked,
    python,
    env.VIRTUAL_ENV ?? '',
    cacheDir(env),
    nvidiaDriverSign(env) ?? '',
    pinned.version,
    digestFiles(code),
  ];
}

/** @param {StepContext} context */
function libtorchOutputs({ out }) {
  const files = [join(out, 'libtorch.json'), join(out, 'rpath.txt'), ...(readRecord(out)?.libraries ?? [])];
  return files.map(identityOf);
}

/**
 * @param {unknown} error
 * @param {boolean} interrupted
 */
function reportFailure(error, interrupted) {
  if (interrupted) {
    say('interrupted; the same command goes on from here');
    return 130;
  }
  process.stderr.write(`set-up failed: ${reasonOf(error)}\n`);
  if (error instanceof SetupError && error.mend !== undefined) process.stderr.write(`To mend it: ${error.mend}\n`);
  if (error instanceof Error && codeOf(error) === undefined) process.stderr.write(`${error.stack}\n`);
  return 1;
}

/** @param {string} line */
function say(line) {
  process.stderr.write(`set-up: ${line}\n`);
}

/** @param {string} line */
function note(line) {
  clearLine();
  process.stderr.write(`  ${line}\n`);
}

function clearLine() {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
}
