import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, reasonOf, SetupError } from '../support/errors.mjs';
import { describeHolder, withLock } from '../support/lock.mjs';
import { isPackage, outDir, root } from '../support/paths.mjs';
import { isProved, platformKey } from '../support/platform.mjs';
import { Stamps } from '../support/stamps.mjs';
import { cloneSteps } from './clone-steps.mjs';
import { packageSteps } from './package-steps.mjs';
import { refusePlatform } from './platform.mjs';
import { couldBeMade, isWritable } from './working-tree.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/**
 * What the steps are given: `out` is the state directory, `note(line)` tells the user what takes time.
 * @typedef {{ env: Environment, out: string, note: (line: string) => void, signal: AbortSignal }} StepContext
 */

/**
 * `inputs` and `outputs` are compared with what the last run left; `run` does the work and resolves with what its line says.
 * `doing` is shown for the steps during which a person would wonder. Training works without what an optional step brings.
 * @typedef {object} Step
 * @property {string} name
 * @property {string} [doing]
 * @property {true} [isOptional]
 * @property {(context: StepContext) => unknown[]} inputs
 * @property {(context: StepContext) => unknown[]} outputs
 * @property {(context: StepContext) => Promise<string>} run
 */

/** @type {readonly Step[]} */
const steps = isPackage ? packageSteps : cloneSteps;

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Runs the steps that are due; the exit code is 0, 1, or 130 when a signal interrupted them.
 * @param {{ env?: Environment, announceFresh?: boolean, signal?: AbortSignal }} [options] `signal` interrupts, too
 */
export async function runSteps({ env = process.env, announceFresh = false, signal: given } = {}) {
  const out = outDir(env);
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Error('interrupted'));
  for (const name of signals) process.on(name, interrupt);
  const signal = given === undefined ? interruption.signal : AbortSignal.any([interruption.signal, given]);
  const context = { env, out, note, signal };
  try {
    refusePlatform(undefined, env);
    if (!(isPackage ? couldBeMade(out) : isWritable(root))) return requireComplete(context);
    mkdirSync(out, { recursive: true });
    const done = await withLock(join(out, 'setup.lock'), () => runDueSteps(context), {
      signal,
      onWait: (holder) =>
        note(
          `another set-up is at work here (${describeHolder(holder)}); waiting for it ` +
            `(remove ${join(out, 'setup.lock')} if you are sure that it has ended)`,
        ),
    });
    if (done === 0 && announceFresh) say('everything is up to date');
    return 0;
  } catch (error) {
    return reportFailure(error, signal.aborted);
  } finally {
    for (const name of signals) process.removeListener(name, interrupt);
  }
}

/**
 * For a clone, or a package's state directory, that cannot be written, as one that its owner has set up for others.
 * @param {StepContext} context
 */
function requireComplete(context) {
  const stamps = new Stamps(context.out);
  const due = steps.find(
    (step) => !step.isOptional && !stamps.isFresh(step.name, step.inputs(context), step.outputs(context)),
  );
  if (due === undefined) return 0;
  throw new SetupError(
    'NOT_WRITABLE',
    `${isPackage ? context.out : root} cannot be written, and the step ${due.name} is due`,
    {
      mend: 'LAYERWISE_OUT=DIR names a folder for the build, and LAYERWISE_CACHE=DIR one for LibTorch',
    },
  );
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
