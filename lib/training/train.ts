import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { packageVersion } from '#scripts/support/paths.mjs';
import { type Dataset, datasetOf, identifyDataset, wholeLocation } from '../data/index.js';
import { completeRun } from '../finished/index.js';
import {
  buildNetwork,
  checkRecipe,
  forProcesses,
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
  type RunResult,
  recordedNetwork,
  recordedRecipe,
} from '../run/index.js';
import { type Device, getThreads } from '../tensor/index.js';
import { TrainingInterrupted } from './errors.js';
import { type Interruption, unlessInterrupted } from './interruption.js';
import { holdTogether, type RunConditions, withDirectory, withPeers } from './joined-run.js';
import type { Peers } from './peers.js';
import { type PreparedRun, prepareRun } from './prepare-run.js';
import { RunCheckpoints } from './run-checkpoints.js';
import { type ResumeOptions, requireRunOptions, type TrainingOutcome, type TrainOptions } from './run-options.js';
import { runToEnd } from './run-to-end.js';
import { Turn } from './turn.js';

/**
 * Trains a recipe to its end and leaves a run directory: recipe, metrics, network, report. The event loop is served
 * between steps. Throws RecipeError, ModelError, ModuleFileError or FeatureCacheError for a run that cannot be trained, DataError,
 * RunDirectoryError, NonFiniteLossError, OutOfMemoryError, TrainingInterrupted, WriteError where the disk is full,
 * LockLostError where another process has taken over the run, and DistributedError where a process of its `group` is lost.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  requireRunOptions('train', options);
  const asked = checkRecipe(options, options.group?.localRank);
  const interruption: Interruption = { signal: options.signal, error: () => new TrainingInterrupted(null) };
  requireOrdinarySteps(options);
  return withPeers({ ...options, device: asked.device }, interruption, async (peers) => {
    requireOwnDevices(asked.recipe.device, peers);
    const { out, orResume = false } = options;
    if (orResume && out !== undefined && (await peers.byFirst(async () => RunDirectory.exists(out)))) {
      const { recipe: _, startFrom: __, out: ___, orResume: ____, ...others } = options;
      return resumeRun(out, { ...others, device: asked.recipe.device }, { peers, recipe: asked.recipe });
    }
    return withDirectory(
      peers,
      () => newDirectory(asked.recipe, out),
      (directory) =>
        // Whatever cannot be trained leaves no run directory behind.
        directory.beginWith(() =>
          holdTogether(directory, { interruption, peers }, () =>
            trainNew(directory, asked, options, { interruption, peers }),
          ),
        ),
    );
  });
}

const newDirectory = (recipe: Recipe, out: string | undefined): Promise<RunDirectory> =>
  out === undefined ? RunDirectory.createNumbered(defaultName(recipe)) : RunDirectory.create(out);

/** A step that is made together is no CUDA graph. */
function requireOrdinarySteps({ group, cudaGraph = false }: Pick<TrainOptions, 'group' | 'cudaGraph'>): void {
  if (!cudaGraph || group === undefined || group.worldSize === 1) return;
  throw new RecipeError('cudaGraph (--cuda-graph): cannot be used with several processes');
}

/** Processes of one machine have a GPU each. */
function requireOwnDevices(device: Recipe['device'], { localSize }: Peers): void {
  if (localSize === 1 || !/^cuda:/.test(device)) return;
  throw new RecipeError(
    `device: expected cuda, of which each of ${localSize} processes on a machine takes its own, got ${device}`,
  );
}

async function trainNew(
  directory: RunDirectory,
  { recipe: given, device, precision }: ReturnType<typeof checkRecipe>,
  options: TrainOptions,
  { interruption, peers }: RunConditions,
): Promise<TrainingOutcome> {
  const { signal, cache, startFrom } = options;
  const badImages = new BadImageLog();
  try {
    const { code, dataset, data } = await peers.together(() =>
      unlessInterrupted(interruption, async () => {
        const code = await loadCode(options);
        const own = code.data === undefined ? undefined : { data: code.data, device, folder: directory.images };
        const dataset = await loadRecipeDataset(given, { signal, badImages, own });
        return { code, dataset, data: await identifyDataset(dataset, { signal }) };
      }),
    );
    const recipe = forProcesses(resolveRecipe(given, dataset, precision), peers.sharing);
    return await Turn.during(
      threadsOf(recipe.threads, peers),
      async (turn) => {
        const { classes, normalization } = dataset;
        const { network, modules } = code;
        const prepared = await peers.together(() =>
          prepareRun(
            { recipe, dataset, device, precision },
            {
              network,
              build: () => buildNetwork(recipe, classes.length, device, network),
              ...{ cache, startFrom, interruption, peers },
            },
          ),
        );
        using run = prepared;
        await requireSameRun(peers, run, data);
        const startedFrom = run.taken?.from;
        const decoder = await decoderOfRun(dataset);
        const config = describeRun({
          ...{ recipe, classes, normalization, modules, data, device, precision, decoder, startedFrom },
          processes: peers.size,
        });
        await directory.writeConfig(config);
        if (peers.isFirst) badImages.open(directory.badImages);
        const store = new CheckpointStore(directory.checkpoint, directory.requireHeld);
        const checkpoints = await RunCheckpoints.open(store, peers);
        return await runToEnd(run, { config, directory, checkpoints, badImages, turn, peers }, options);
      },
      { waitsForOthers: peers.size > 1 },
    );
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
  const interruption: Interruption = { signal: options.signal, error: () => new TrainingInterrupted(runDirectory) };
  requireOrdinarySteps(options);
  const { group } = options;
  const device = group === undefined ? 'cpu' : resolveDevice(options.device ?? 'auto', { localRank: group.localRank });
  return withPeers({ ...options, device }, interruption, (peers) => {
    requireOwnDevices(options.device ?? 'auto', peers);
    return resumeRun(runDirectory, options, { peers });
  });
}

/** With a `recipe`, goes on with a run of this recipe alone. */
async function resumeRun(
  runDirectory: string,
  options: ResumeOptions,
  { peers, recipe }: { peers: Peers; recipe?: Recipe },
): Promise<TrainingOutcome> {
  return withDirectory(
    peers,
    async () => RunDirectory.open(runDirectory),
    async (directory) => {
      const store = new CheckpointStore(directory.checkpoint, directory.requireHeld);
      const interruption: Interruption = {
        signal: options.signal,
        error: () => new TrainingInterrupted(runDirectory, { hasCheckpoint: peers.isFirst && store.exists }),
      };
      return holdTogether(directory, { interruption, peers }, async () => {
        const { config, result } = await peers.byFirst(() => directory.readRecord());
        if (recipe !== undefined) requireRecipe(directory, config, recipe);
        if (result === undefined) {
          const checkpoints = await RunCheckpoints.open(store, peers);
          return goOn({ directory, checkpoints, recorded: config }, options, { interruption, peers });
        }
        const outcome = await peers.byFirst(() => giveAgain(directory, { config, result }, options));
        options.onEvent?.({ type: 'done', ...outcome });
        return outcome;
      });
    },
  );
}

/** The outcome of a finished run. Nothing is left to compute: a network and data of one's own are not asked for. */
async function giveAgain(
  directory: RunDirectory,
  { config, result }: { config: RunConfig; result: RunResult },
  options: ResumeOptions,
): Promise<TrainingOutcome> {
  if (!existsSync(directory.model)) {
    throw new RunDirectoryError(`${directory.model}: not found, but the run has finished`);
  }
  if (options.dataDir !== undefined) {
    await reopenData(directory, config, { ...options, badImages: new BadImageLog(), own: undefined });
  }
  return completeRun(directory, result);
}

/** Throws RunDirectoryError where a run that is to be gone on with was begun with another recipe. */
function requireRecipe(
  directory: RunDirectory,
  config: RunConfig,
  { model, augmentation, training, seed }: Recipe,
): void {
  const begun = recordedRecipe(directory.config, config);
  const comparable = (all: Pick<Recipe, 'model' | 'augmentation' | 'training' | 'seed'>) => ({
    ...{ model: all.model, augmentation: all.augmentation, seed: all.seed },
    training: { ...all.training, syncBatchNorm: null },
  });
  const [theirs, ours] = [comparable(begun), comparable({ model, augmentation, training, seed })];
  const name = Object.keys(ours).find((key) => !isDeepStrictEqual(Reflect.get(ours, key), Reflect.get(theirs, key)));
  if (name === undefined) return;
  throw new RunDirectoryError(
    `${directory.path}: holds a run with another recipe, which differs in ${name}: go on with it by --resume ${directory.path}, or give another --out`,
  );
}

async function goOn(
  { directory, checkpoints, recorded }: { directory: RunDirectory; checkpoints: RunCheckpoints; recorded: RunConfig },
  options: ResumeOptions,
  { interruption, peers }: RunConditions,
): Promise<TrainingOutcome> {
  const device =
    peers.size === 1 ? resolveDevice(options.device ?? recorded.device) : ofSameKind(peers.device, recorded);
  const precision = resolvePrecision(recorded.precision, device);
  const badImages = new BadImageLog();
  if (peers.isFirst) badImages.open(directory.badImages);
  const { code, config, recipe, dataset } = await peers.together(() =>
    unlessInterrupted(interruption, async () => {
      const code = await loadCodeOfRun(directory.path, recorded, options, ['network', 'data']);
      const own =
        code.data === undefined
          ? undefined
          : { data: code.data, device, folder: directory.images, normalization: recorded.normalization };
      const { versions, change } = await checkDecoder(recorded);
      const anew = withNotes({ ...recorded, versions, ...describeDevice(device), ...withModules(recorded, code) }, [
        ...code.changes,
        ...processesChanged(recorded, peers.size),
        ...(change === null
          ? []
          : [`While the run was interrupted, the decoder has changed: ${change}. Pixels may differ.`]),
      ]);
      const counted = { ...anew, ...processesOf(recorded, peers.size) };
      return {
        code,
        ...(await reopenData(directory, counted, { ...options, badImages, own, decoderChange: change }, peers.sharing)),
      };
    }),
  );
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  // What was right for another number of processes need not be so for this one.
  const before = recorded.processes ?? 1;
  const threads = before === peers.size ? recordedThreads(config) : threadsOf(recipe.threads, peers);
  return Turn.during(
    threads,
    async (turn) => {
      // As many as the run is from now on made of, which it goes on with the next time.
      const current = before === peers.size ? config : { ...config, threads: getThreads() };
      if (current !== config) await peers.byFirst(() => directory.writeConfig(current));
      const prepared = await peers.together(() =>
        prepareRun(
          { recipe, dataset, device, precision },
          {
            network: code.network,
            build: () => recordedNetwork(directory.config, recipe, dataset.classes.length, device, code.network),
            ...{ cache: options.cache, startFrom: config.startedFrom, checkpoints, interruption, peers },
          },
        ),
      );
      using run = prepared;
      await requireSameRun(peers, run, config.data);
      return await runToEnd(run, { config: current, directory, checkpoints, badImages, turn, peers }, options);
    },
    { waitsForOthers: peers.size > 1 },
  );
}

/** Threads to compute on; null: LibTorch's default, as many as this process may use, or as the environment says. */
function threadsOf(asked: number | null, { processors }: Peers): number | null {
  return asked ?? (process.env.OMP_NUM_THREADS ? null : processors);
}

/** Each of several processes has a device of its own, found before they met. Throws RunDirectoryError for one of another kind. */
function ofSameKind(device: Device, { device: recorded }: RunConfig): Device {
  const [kind, before] = [device, recorded].map((one) => one.replace(/:\d+$/, ''));
  if (kind === before) return device;
  throw new RunDirectoryError(
    `the run was trained on ${before}, and its processes are to go on on ${kind}; take --device ${before}, or go on in one process`,
  );
}

/** Batch norm's statistics are those of a process's images, unless they are synchronised: another number is another run. */
function processesChanged({ processes = 1 }: RunConfig, now: number): string[] {
  if (processes === now) return [];
  return [`While the run was interrupted, the number of its processes has changed, from ${processes} to ${now}.`];
}

/** Left out where it always was one. */
const processesOf = ({ processes = 1 }: RunConfig, now: number): Pick<RunConfig, 'processes'> =>
  processes === 1 && now === 1 ? {} : { processes: now };

/** The processes of a run train the same: what each found by itself. */
function requireSameRun(peers: Peers, { recipe, dataset, precision }: PreparedRun, data: unknown): Promise<void> {
  // Each machine has its own paths, and rank 0 may take fewer threads.
  const { dataset: described, device: _, threads: __, ...parts } = recipe;
  return peers.requireSame({
    version: packageVersion,
    ...Object.fromEntries(Object.entries(parts).map(([name, value]) => [`the recipe's ${name}`, value])),
    "the recipe's dataset": { ...described, dataDir: null },
    precision,
    classes: dataset.classes,
    'the data': data,
    normalization: dataset.normalization,
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
  processes = 1,
): Promise<{ config: RunConfig; recipe: Recipe; dataset: Dataset }> {
  const asked = withPolicy(movedTo(options.dataDir, recordedRecipe(directory.config, recorded)), options);
  const { normalization } = recorded;
  const dataset = await loadRecipeDataset(asked, { ...options, runDirectory: directory.path, normalization });
  const recipe = forProcesses(withCounts(asked, dataset), processes);
  const { data, notes } = await checkData(directory.path, recorded, dataset, options);
  if (normalization !== undefined && !isDeepStrictEqual(normalization, dataset.normalization)) {
    const [expected, got] = [dataset.normalization, normalization].map((one) => JSON.stringify(one));
    throw new RunDirectoryError(`${directory.path}/config.json: normalization: expected ${expected}, got ${got}`);
  }
  const config: RunConfig = {
    ...recorded,
    recipe: { ...recorded.recipe, dataset: recipe.dataset, ...syncBatchNormOf(recipe, recorded) },
    classes: [...dataset.classes],
    data,
  };
  const noted = withNotes(config, notes);
  await directory.writeConfig(noted);
  return { config: noted, recipe, dataset };
}

/** What `auto` has become with several processes stays so. */
function syncBatchNormOf({ training }: Recipe, recorded: RunConfig): Pick<RunConfig['recipe'], 'training'> {
  const { syncBatchNorm } = training;
  return syncBatchNorm === 'auto' ? {} : { training: { ...(recorded.recipe.training as object), syncBatchNorm } };
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
