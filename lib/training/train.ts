import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Dataset, datasetOf, identifyDataset, wholeLocation } from '../data/index.js';
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
  type CodeOfRun,
  checkData,
  checkDecoder,
  decoderOfRun,
  describeDevice,
  describeRun,
  loadCode,
  loadCodeOfRun,
  loadRecipeDataset,
  type OwnDataOptions,
  type RunConfig,
  RunDirectory,
  RunDirectoryError,
  recordedNetwork,
  recordedRecipe,
} from '../run/index.js';
import { TrainingInterrupted } from './errors.js';
import { holdUnlessAborted, type Interruption, unlessInterrupted } from './interruption.js';
import { prepareRun } from './prepare-run.js';
import { type ResumeOptions, requireRunOptions, type TrainingOutcome, type TrainOptions } from './run-options.js';
import { runToEnd } from './run-to-end.js';
import { Turn } from './turn.js';

/**
 * Trains a recipe to its end and leaves a run directory: recipe, metrics, network, report. The event loop is served
 * between steps. Throws RecipeError, ModelError, ModuleFileError or FeatureCacheError for a run that cannot be trained, DataError,
 * RunDirectoryError, NonFiniteLossError, OutOfMemoryError, TrainingInterrupted, WriteError where the disk is full, and
 * LockLostError where another process has taken over the run.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  requireRunOptions('train', options);
  const asked = checkRecipe(options);
  const interruption: Interruption = { signal: options.signal, error: () => new TrainingInterrupted(null) };
  const { out } = options;
  const directory =
    out === undefined ? await RunDirectory.createNumbered(defaultName(asked.recipe)) : await RunDirectory.create(out);
  // Whatever cannot be trained leaves no run directory behind.
  return directory.beginWith(() =>
    holdUnlessAborted(directory, interruption, () => trainNew(directory, asked, options, interruption)),
  );
}

async function trainNew(
  directory: RunDirectory,
  { recipe: given, device, precision }: ReturnType<typeof checkRecipe>,
  options: TrainOptions,
  interruption: Interruption,
): Promise<TrainingOutcome> {
  const { signal, cache, startFrom } = options;
  const badImages = new BadImageLog();
  try {
    const { code, dataset, data } = await unlessInterrupted(interruption, async () => {
      const code = await loadCode(options);
      const own = code.data === undefined ? undefined : { data: code.data, device, folder: directory.images };
      const dataset = await loadRecipeDataset(given, { signal, badImages, own });
      return { code, dataset, data: await identifyDataset(dataset, { signal }) };
    });
    const recipe = resolveRecipe(given, dataset, precision);
    return await Turn.during(recipe.threads, async (turn) => {
      const { classes, normalization } = dataset;
      const { network, modules } = code;
      using run = await prepareRun(
        { recipe, dataset, device, precision },
        {
          network,
          build: () => buildNetwork(recipe, classes.length, device, network),
          ...{ cache, startFrom, interruption },
        },
      );
      const startedFrom = run.taken?.from;
      const decoder = await decoderOfRun(dataset);
      const config = describeRun({
        ...{ recipe, classes, normalization, modules, data, device, precision, decoder, startedFrom },
      });
      await directory.writeConfig(config);
      badImages.open(directory.badImages);
      const checkpoints = new CheckpointStore(directory.checkpoint, directory.requireHeld);
      return await runToEnd(run, { config, directory, checkpoints, badImages, turn }, options);
    });
  } catch (error) {
    if (!directory.hasConfig) await rm(directory.images, { recursive: true, force: true });
    throw error;
  }
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
    // Nothing is left to compute: a network and data of one's own are not asked for.
    if (options.dataDir !== undefined) {
      await reopenData(directory, config, { ...options, badImages: new BadImageLog(), own: undefined });
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
  const { code, config, recipe, dataset } = await unlessInterrupted(interruption, async () => {
    const code = await loadCodeOfRun(directory.path, recorded, options, ['network', 'data']);
    const own =
      code.data === undefined
        ? undefined
        : { data: code.data, device, folder: directory.images, normalization: recorded.normalization };
    const { versions, change } = await checkDecoder(recorded);
    const anew = withNotes({ ...recorded, versions, ...describeDevice(device), ...withModules(recorded, code) }, [
      ...code.changes,
      ...(change === null
        ? []
        : [`While the run was interrupted, the decoder has changed: ${change}. Pixels may differ.`]),
    ]);
    return { code, ...(await reopenData(directory, anew, { ...options, badImages, own, decoderChange: change })) };
  });
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  return Turn.during(recordedThreads(config), async (turn) => {
    using run = await prepareRun(
      { recipe, dataset, device, precision },
      {
        network: code.network,
        build: () => recordedNetwork(directory.config, recipe, dataset.classes.length, device, code.network),
        ...{ cache: options.cache, startFrom: config.startedFrom, checkpoints, interruption },
      },
    );
    return await runToEnd(run, { config, directory, checkpoints, badImages, turn }, options);
  });
}

/** The modules that the run goes on with. */
function withModules({ modules }: RunConfig, code: CodeOfRun): Pick<RunConfig, 'modules'> {
  if (modules === undefined && code.modules === undefined) return {};
  return { modules: code.modules ?? {} };
}

const withNotes = (config: RunConfig, added: readonly string[]): RunConfig =>
  added.length === 0 ? config : { ...config, notes: [...(config.notes ?? []), ...added] };

/** Loads the data of a run and checks that it is the same. What is no longer as the record has it is recorded anew. */
async function reopenData(
  directory: RunDirectory,
  recorded: RunConfig,
  options: ResumeOptions & { badImages: BadImageLog; own: OwnDataOptions | undefined; decoderChange?: string | null },
): Promise<{ config: RunConfig; recipe: Recipe; dataset: Dataset }> {
  const asked = withPolicy(movedTo(options.dataDir, recordedRecipe(directory.config, recorded)), options);
  const { normalization } = recorded;
  const dataset = await loadRecipeDataset(asked, { ...options, runDirectory: directory.path, normalization });
  const recipe = withCounts(asked, dataset);
  const { data, notes } = await checkData(directory.path, recorded, dataset, options);
  if (normalization !== undefined && !isDeepStrictEqual(normalization, dataset.normalization)) {
    const [expected, got] = [dataset.normalization, normalization].map((one) => JSON.stringify(one));
    throw new RunDirectoryError(`${directory.path}/config.json: normalization: expected ${expected}, got ${got}`);
  }
  const config: RunConfig = {
    ...recorded,
    recipe: { ...recorded.recipe, dataset: recipe.dataset },
    classes: [...dataset.classes],
    data,
  };
  const noted = withNotes(config, notes);
  await directory.writeConfig(noted);
  return { config: noted, recipe, dataset };
}

function movedTo(dataDir: string | undefined, recipe: Recipe): Recipe {
  if (dataDir === undefined) return recipe;
  if (datasetOf(recipe.dataset.name).source !== 'directory') {
    throw new RecipeError(
      `dataset.dataDir: expected none for ${recipe.dataset.name}, which lies in no directory, got ${dataDir}`,
    );
  }
  return { ...recipe, dataset: { ...recipe.dataset, dataDir: wholeLocation(dataDir) } };
}

/** In runs/ of the working directory now. A recipe may come from outsiders: its preset is a name there, and no path. */
function defaultName({ preset, dataset }: Recipe): string {
  const stamp = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const name = preset.replace(/[^\p{L}\p{N}._-]/gu, '-').slice(0, 100);
  return resolve('runs', `${name}-${dataset.name}-${stamp}`);
}
