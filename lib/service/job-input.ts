// What a job is asked for, as its worker gets it: checked here, where the caller is, and with whole paths.
import { resolve } from 'node:path';
import { requireOptions } from '../options.js';
import type { Recipe } from '../recipe/index.js';
import { shown } from '../schema.js';
import type { StartFrom } from '../training/index.js';
import { TrainingJobError } from './errors.js';
import type { JobInput, JobOptions, ResumeJobOptions } from './messages.js';

/** What `TrainingJob.train` takes. */
export type TrainJobOptions = { recipe: Recipe; out?: string; startFrom?: StartFrom } & JobOptions;

const OF_BOTH: readonly (keyof JobOptions)[] = ['cache', 'checkpointSeconds', 'cudaGraph', 'onBadImage'];
const OF_TRAIN: readonly (keyof TrainJobOptions)[] = [...OF_BOTH, 'recipe', 'out', 'startFrom'];
const OF_RESUME: readonly ('runDirectory' | keyof ResumeJobOptions)[] = [
  ...OF_BOTH,
  ...(['runDirectory', 'dataDir', 'device', 'acceptChangedData'] as const),
];

/** The working directory may be another one when the worker comes to the paths. */
export function trainInput(given: TrainJobOptions): JobInput {
  const user = 'TrainingJob.train';
  requireObject(user, 'options', given, OF_TRAIN);
  const { recipe, out, startFrom, ...options } = given;
  requireObject(user, 'recipe', recipe);
  if (startFrom !== undefined) requireObject(user, 'startFrom', startFrom);
  const dataDir = recipe.dataset?.dataDir;
  return {
    kind: 'train',
    recipe:
      typeof dataDir === 'string' && dataDir !== ''
        ? { ...recipe, dataset: { ...recipe.dataset, dataDir: resolve(dataDir) } }
        : recipe,
    ...(out === undefined ? {} : { out: pathOf(user, 'out', out) }),
    ...(startFrom === undefined
      ? {}
      : { startFrom: { ...startFrom, runDirectory: pathOf(user, 'startFrom.runDirectory', startFrom.runDirectory) } }),
    options,
  };
}

/** As `trainInput`. */
export function resumeInput(given: { runDirectory: string } & ResumeJobOptions): JobInput {
  const user = 'TrainingJob.resume';
  requireObject(user, 'options', given, OF_RESUME);
  const { runDirectory, dataDir, ...options } = given;
  return {
    kind: 'resume',
    runDirectory: pathOf(user, 'runDirectory', runDirectory),
    options: { ...options, ...(dataDir === undefined ? {} : { dataDir: pathOf(user, 'dataDir', dataDir) }) },
  };
}

const refusal = (user: string, problem: string): TrainingJobError =>
  new TrainingJobError('INVALID_ARGUMENT', `${user}: ${problem}`);

/** With `known`, also for another option: one of `train` that a worker cannot be given, such as `onEvent`, would be without effect. */
function requireObject(user: string, name: string, value: unknown, known?: readonly string[]): void {
  requireOptions(value, name, (problem) => refusal(user, problem), known);
}

function pathOf(user: string, name: string, path: unknown): string {
  if (typeof path === 'string' && path !== '') return resolve(path);
  throw refusal(user, `${name}: expected a path, got ${shown(path)}`);
}
