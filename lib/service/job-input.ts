// The request of a job as its worker gets it: checked here, in the caller's thread, and with whole paths.
import { resolve } from 'node:path';
import { isUrl, wholeLocation } from '../data/index.js';
import { requireOptions } from '../options.js';
import type { Recipe } from '../recipe/index.js';
import { OWN_CODE, type OwnCode } from '../run/index.js';
import { shown } from '../schema.js';
import type { StartFrom } from '../training/index.js';
import { refusal } from './errors.js';
import type { JobInput, JobOptions, ResumeInput, ResumeJobOptions, TrainInput } from './messages.js';
import { addressesOf, type SentCode } from './sent-code.js';

/** What `TrainingJob.train` takes. */
export type TrainJobOptions = { recipe: Recipe; out?: string; startFrom?: StartFrom; orResume?: boolean } & JobOptions;

const OF_BOTH: readonly (keyof JobOptions)[] = [
  ...(['cache', 'checkpointSeconds', 'cudaGraph', 'group', 'onBadImage', 'signal', 'tensorboard', 'niceness'] as const),
  ...OWN_CODE,
];
const OF_TRAIN: readonly (keyof TrainJobOptions)[] = [...OF_BOTH, 'recipe', 'out', 'startFrom', 'orResume'];
const OF_RESUME: readonly ('runDirectory' | keyof ResumeJobOptions)[] = [
  ...OF_BOTH,
  ...(['runDirectory', 'dataDir', 'device', 'acceptChangedData'] as const),
];

/** What a job is asked for: what its worker is given, and what stays in the caller's thread. */
export interface JobRequest<Input extends JobInput = JobInput> {
  readonly input: Input;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The request of `user`, a function. Resolves relative paths now: the working directory may have changed when the worker uses
 * them.
 */
export function trainRequest(user: string, given: TrainJobOptions): JobRequest<TrainInput> {
  requireObject(user, 'options', given, OF_TRAIN);
  const { recipe, out, startFrom, orResume, signal, ...options } = given;
  requireObject(user, 'recipe', recipe);
  if (startFrom !== undefined) requireObject(user, 'startFrom', startFrom);
  const dataDir = recipe.dataset?.dataDir;
  return requestOf(user, signal, {
    kind: 'train',
    recipe:
      typeof dataDir === 'string' && dataDir !== ''
        ? { ...recipe, dataset: { ...recipe.dataset, dataDir: wholeLocation(dataDir) } }
        : recipe,
    ...(out === undefined ? {} : { out: pathOf(user, 'out', out) }),
    ...(startFrom === undefined
      ? {}
      : { startFrom: { ...startFrom, runDirectory: pathOf(user, 'startFrom.runDirectory', startFrom.runDirectory) } }),
    ...(orResume === undefined ? {} : { orResume }),
    options: withAddresses(user, options),
  });
}

/** As `trainRequest`. */
export function resumeRequest(
  user: string,
  given: { runDirectory: string } & ResumeJobOptions,
): JobRequest<ResumeInput> {
  requireObject(user, 'options', given, OF_RESUME);
  const { runDirectory, dataDir, signal, ...options } = given;
  return requestOf(user, signal, {
    kind: 'resume',
    runDirectory: pathOf(user, 'runDirectory', runDirectory),
    options: {
      ...withAddresses(user, options),
      ...(dataDir === undefined ? {} : { dataDir: locationOf(user, 'dataDir', dataDir) }),
    },
  });
}

/** Throws TrainingJobError for options of which something cannot be cloned. */
function requestOf<Input extends JobInput>(user: string, signal: unknown, input: Input): JobRequest<Input> {
  // Of another realm, as a test runner has, it is no instance of this one's class.
  if (signal !== undefined && !(typeof signal === 'object' && signal !== null && 'addEventListener' in signal)) {
    throw refusal(user, `signal: expected an AbortSignal, got ${shown(signal)}`);
  }
  try {
    return { input: structuredClone(input), signal: signal as AbortSignal | undefined };
  } catch (cause) {
    throw refusal(user, `expected options that can be cloned: ${(cause as Error).message}`);
  }
}

function withAddresses<Options extends Omit<JobOptions, 'signal'>>(
  user: string,
  options: Options,
): Omit<Options, keyof OwnCode> & { code: SentCode } {
  const { network, data, module, ...others } = options;
  requireNiceness(user, others.niceness);
  return { ...others, code: addressesOf({ network, data, module }, (problem) => refusal(user, problem)) };
}

function requireNiceness(user: string, niceness: unknown): void {
  if (niceness === undefined) return;
  if (!Number.isInteger(niceness) || (niceness as number) < 0 || (niceness as number) > 19) {
    throw refusal(user, `niceness: expected a whole number from 0 to 19, got ${shown(niceness)}`);
  }
  if (process.platform !== 'linux')
    throw refusal(user, 'niceness: expected none: threads have one of their own on Linux alone');
}

/**
 * Throws TrainingJobError for what is no object, and with `known` for any other option: one of `train` that a worker cannot be
 * given, such as `onEvent`, would have no effect.
 */
function requireObject(user: string, name: string, value: unknown, known?: readonly string[]): void {
  requireOptions(value, name, (problem) => refusal(user, problem), known);
}

/** Of data, which may lie on a web server. */
function locationOf(user: string, name: string, location: unknown): string {
  return typeof location === 'string' && isUrl(location) ? location : pathOf(user, name, location);
}

function pathOf(user: string, name: string, path: unknown): string {
  if (typeof path === 'string' && path !== '') return resolve(path);
  throw refusal(user, `${name}: expected a path, got ${shown(path)}`);
}
