import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Dataset, datasetOf, identifyDataset } from '../data/index.js';
import { completeRun } from '../finished/index.js';
import {
  buildNetwork,
  checkRecipe,
  type Recipe,
  RecipeError,
  recordedThreads,
  requireGraphs,
  resolveDevice,
  resolvePrecision,
  resolveRecipe,
  withCounts,
  withPolicy,
} from '../recipe/index.js';
import {
  BadImageLog,
  CheckpointStore,
  checkData,
  describeDevice,
  describeRun,
  loadRecipeDataset,
  type RunConfig,
  RunDirectory,
  RunDirectoryError,
  recordedNetwork,
  recordedRecipe,
} from '../run/index.js';
import { TrainingInterrupted } from './errors.js';
import { holdUnlessAborted, type Interruption, unlessAborted } from './interruption.js';
import { prepareRun } from './prepare-run.js';
import { type ResumeOptions, requireRunOptions, type TrainingOutcome, type TrainOptions } from './run-options.js';
import { runToEnd } from './run-to-end.js';
import { Turn } from './turn.js';

/**
 * Trains a recipe to its end and leaves a run directory: recipe, metrics, network, report. The event loop is served
 * between steps. Throws RecipeError, ModelError or FeatureCacheError for a run that cannot be trained, DataError,
 * RunDirectoryError, NonFiniteLossError, OutOfMemoryError, TrainingInterrupted, WriteError where the disk is full, and
 * LockLostError where another process has taken over the run.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  requireRunOptions('train', options);
  const { recipe: given, device, precision } = checkRecipe(options);
  const { signal, cache, startFrom, out } = options;
  const interruption: Interruption = { signal, error: () => new TrainingInterrupted(null) };
  const badImages = new BadImageLog();
  const { dataset, data } = await unlessAborted(interruption, async () => {
    const loaded = await loadRecipeDataset(given, { signal, badImages, data: options.data });
    return { dataset: loaded, data: await identifyDataset(loaded, options) };
  });
  const recipe = resolveRecipe(given, dataset, precision);
  return Turn.during(recipe.threads, async (turn) => {
    const { classes, normalization } = dataset;
    // Whatever cannot be trained leaves no run directory behind.
    using run = await prepareRun(
      { recipe, dataset, device, precision },
      {
        network: options.network,
        build: () => buildNetwork(recipe, classes.length, device, options.network),
        ...{ cache, startFrom, interruption },
      },
    );
    const directory =
      out === undefined ? await RunDirectory.createNumbered(defaultName(recipe)) : await RunDirectory.create(out);
    return await holdUnlessAborted(directory, interruption, async () => {
      const startedFrom = run.taken?.from;
      const config = describeRun({ recipe, classes, normalization, data, device, precision, startedFrom });
      await directory.writeConfig(config);
      badImages.open(directory.badImages);
      const checkpoints = new CheckpointStore(directory.checkpoint, directory.requireHeld);
      return runToEnd(run, { config, directory, checkpoints, badImages, turn }, options);
    });
  });
}

/**
 * Goes on with an interrupted run. A run that is finished already only gives its result. Throws RunDirectoryError where the
 * data is no longer what the run was started with, or a file of the run is damaged, and what `train` throws.
 */
export async function resume(runDirectory: string, options: ResumeOptions = {}): Promise<TrainingOutcome> {
  requireRunOptions('resume', options);
  const directory = RunDirectory.open(runDirectory);
  const checkpoints = new CheckpointStore(directory.checkpoint, directory.requireHeld);
  const interruption: Interruption = {
    signal: options.signal,
    error: () => new TrainingInterrupted(runDirectory, { hasCheckpoint: checkpoints.exists }),
  };
  return holdUnlessAborted(directory, interruption, async () => {
    const { config, result } = await directory.readRecord();
    if (result === undefined) return goOn({ directory, checkpoints, recorded: config }, options, interruption);
    if (!existsSync(directory.model)) {
      throw new RunDirectoryError(`${directory.model}: not found, but the run has finished`);
    }
    if (options.dataDir !== undefined) {
      await reopenData(directory, config, { ...options, badImages: new BadImageLog() });
    }
    const outcome = await completeRun(directory, result);
    options.onEvent?.({ type: 'done', ...outcome });
    return outcome;
  });
}

async function goOn(
  { directory, checkpoints, recorded }: { directory: RunDirectory; checkpoints: CheckpointStore; recorded: RunConfig },
  options: ResumeOptions,
  interruption: Interruption,
): Promise<TrainingOutcome> {
  const device = resolveDevice(options.device ?? recorded.device);
  const precision = resolvePrecision(recorded.precision, device);
  const badImages = new BadImageLog();
  badImages.open(directory.badImages);
  const { config, recipe, dataset } = await unlessAborted(interruption, () =>
    reopenData(directory, { ...recorded, ...describeDevice(device) }, { ...options, badImages }),
  );
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  return Turn.during(recordedThreads(config), async (turn) => {
    using run = await prepareRun(
      { recipe, dataset, device, precision },
      {
        network: options.network,
        build: () => recordedNetwork(directory, recipe, dataset.classes.length, device, options.network),
        ...{ cache: options.cache, startFrom: config.startedFrom, checkpoints, interruption },
      },
    );
    return await runToEnd(run, { config, directory, checkpoints, badImages, turn }, options);
  });
}

/** Loads the data of a run and checks that it is the same. What is no longer as the record has it is recorded anew. */
async function reopenData(
  directory: RunDirectory,
  recorded: RunConfig,
  options: ResumeOptions & { badImages: BadImageLog },
): Promise<{ config: RunConfig; recipe: Recipe; dataset: Dataset }> {
  const asked = withPolicy(movedTo(options.dataDir, recordedRecipe(directory, recorded)), options);
  const dataset = await loadRecipeDataset(asked, { ...options, runDirectory: directory.path });
  const recipe = withCounts(asked, dataset);
  const { data, notes } = await checkData(directory.path, recorded, dataset, options);
  const { normalization } = recorded;
  if (normalization !== undefined && !isDeepStrictEqual(normalization, dataset.normalization)) {
    const [expected, got] = [dataset.normalization, normalization].map((one) => JSON.stringify(one));
    throw new RunDirectoryError(`${directory.path}/config.json: normalization: expected ${expected}, got ${got}`);
  }
  const config: RunConfig = {
    ...recorded,
    recipe: { ...recorded.recipe, dataset: recipe.dataset },
    classes: [...dataset.classes],
    data,
    ...(notes.length === 0 ? {} : { notes: [...(recorded.notes ?? []), ...notes] }),
  };
  await directory.writeConfig(config);
  return { config, recipe, dataset };
}

function movedTo(dataDir: string | undefined, recipe: Recipe): Recipe {
  if (dataDir === undefined) return recipe;
  if (datasetOf(recipe.dataset.name).source !== 'directory') {
    throw new RecipeError(
      `dataset.dataDir: expected none for ${recipe.dataset.name}, which lies in no directory, got ${dataDir}`,
    );
  }
  return { ...recipe, dataset: { ...recipe.dataset, dataDir: resolve(dataDir) } };
}

function defaultName({ preset, dataset }: Recipe): string {
  const stamp = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return `runs/${preset}-${dataset.name}-${stamp}`;
}
