import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import {
  type Dataset,
  identifyDataset,
  loadDataset,
  type OnBadImage,
  openImages,
  requireImageFiles,
} from '../data/index.js';
import { type RunConfig, type RunResult, writeReport } from '../evaluation/report/index.js';
import { disposeNetwork, drawNetworkFrom, type Network } from '../models/index.js';
import { buildInfo, type Device, Generator, isCuda, setCudnnBenchmark, setThreads } from '../tensor/index.js';
import { BadImageLog } from './bad-image-log.js';
import { buildNetwork, buildStages, buildTransforms, notesOf } from './build.js';
import { type CacheBudget, type CachePlan, planCache, resolveCacheBudget } from './cache-plan.js';
import { type CheckpointState, CheckpointStore, saveNetwork } from './checkpoint.js';
import { checkData, loadRunData } from './data-check.js';
import { resolveDevice } from './device.js';
import { RecipeError, RunDirectoryError, TrainingInterrupted } from './errors.js';
import type { EpochRecord, TrainingEvent } from './events.js';
import { CachedFeatures } from './feature-cache.js';
import { RecomputedFeatures } from './features.js';
import { requireGraphs } from './graphed-steps.js';
import { planStart, type RunPlan } from './plan.js';
import { type Precision, resolvePrecision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';
import { describeDevice, describeRun, recordedNetwork, recordedRecipe } from './run-config.js';
import { RunDirectory } from './run-directory.js';
import type { Stage } from './stage.js';
import { recordTakenLayers, type StartFrom, type TakenLayers, takeLayers } from './start-from.js';
import { TestFeatures } from './test-features.js';
import { Trainer } from './trainer.js';

export interface RunOptions {
  /**
   * Stops the run after the step in progress, with a checkpoint; before the first step, as soon as it can be, with nothing
   * written. Throws TrainingInterrupted, whose message says what there is to go on from.
   */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainingEvent) => void;
  /**
   * Bytes that features of frozen layers may take: those of the test images, and with `augmentation.views` those of every
   * view. 4 GiB of a GPU, a quarter of the host's free memory and nothing on disk unless told; 'none' computes them anew
   * in every epoch.
   */
  readonly cache?: Partial<CacheBudget> | 'none';
  /**
   * Captures each layer's training step as a CUDA graph and launches it as a whole: of use where the host cannot give
   * kernels as fast as the GPU runs them, as with narrow networks and small batches. No unless told; RecipeError on the
   * CPU, with fp16 and with micro-batches.
   */
  readonly cudaGraph?: boolean;
  /**
   * In place of the recipe's `dataset.onBadImage`, and kept in `config.json`. A run that failed with a bad image may go on
   * with 'skip': it ends as one that had 'skip' from the start.
   */
  readonly onBadImage?: OnBadImage;
  /** Seconds between checkpoints within an epoch; there is one after each epoch in any case. 300 unless told. */
  readonly checkpointSeconds?: number;
}

export interface TrainOptions extends RunOptions {
  readonly recipe: Recipe;
  /** The run directory to make: new or empty. Default: a new one under runs/, named after the recipe and the time. */
  readonly out?: string;
  /** Layers to take from a finished run instead of training them. */
  readonly startFrom?: StartFrom;
}

export interface ResumeOptions extends RunOptions {
  /** Where the data of the run lies now, if it has moved; it is recorded. */
  readonly dataDir?: string;
  /** Another device than the run's own; it is recorded. */
  readonly device?: Recipe['device'];
  /** Goes on, with a note, where images were replaced in place, as a damaged file is; default: false. */
  readonly acceptChangedData?: boolean;
}

export interface TrainingOutcome {
  readonly runDirectory: string;
  /** Path of report.html. */
  readonly report: string;
  readonly result: RunResult;
}

/**
 * Trains a recipe to its end and leaves a run directory: recipe, metrics, network, report. The event loop is served
 * between steps. Throws RecipeError, DataError, RunDirectoryError, NonFiniteLossError, TrainingInterrupted, WriteError where
 * the disk is full, or LockLostError where another process has taken over the run.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  const recipe = withPolicy(parseRecipe(options.recipe), options);
  const device = resolveDevice(recipe.device);
  const precision = resolvePrecision(recipe.precision, device);
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  const badImages = new BadImageLog();
  const interrupted = (): Error => new TrainingInterrupted(null);
  const { dataset, data } = await unlessAborted(options.signal, interrupted, async () => {
    const loaded = await loadRecipeDataset(recipe, { ...options, badImages, runDirectory: null });
    return { dataset: loaded, data: await identifyDataset(loaded, options) };
  });
  const { dataDir } = recipe.dataset;
  // Whoever opens the run does so from another working directory.
  const absolute = dataDir === null ? null : resolve(dataDir);
  const resolved = withCounts({ ...recipe, precision, dataset: { ...recipe.dataset, dataDir: absolute } }, dataset);
  useThreads(recipe);
  const budget = resolveCacheBudget(options.cache, device);
  const planned = { recipe: resolved, dataset, device, precision, budget };
  // Before the memory of a network is taken, and before the run directory is made. Where layers are taken from another run,
  // they must be known first.
  const early = options.startFrom === undefined ? planPrepared(planned, { firstStage: 0 }) : null;
  // A network that cannot be built leaves no run directory behind either.
  const network = buildNetwork(resolved, dataset.classes.length, device);
  try {
    const taken = await unlessAborted(options.signal, interrupted, () =>
      takeFrom(options.startFrom, resolved, network, dataset),
    );
    const stages = buildStages(resolved, network, taken?.from.layers);
    const cachePlan = planRunCache({ recipe: resolved, network, stages, device, precision, budget });
    const plan =
      taken === null
        ? early
        : planPrepared(planned, { takenLayers: taken.from.layers, firstStage: taken.stageSeconds.length });
    const directory =
      options.out === undefined
        ? await RunDirectory.createNumbered(defaultName(resolved))
        : await RunDirectory.create(options.out);
    return await holdUnlessAborted(directory, options.signal, interrupted, async () => {
      const config = describeRun({
        recipe: resolved,
        classes: dataset.classes,
        normalization: dataset.normalization,
        data,
        device,
        precision,
        startedFrom: taken?.from,
      });
      await directory.writeConfig(config);
      badImages.open(directory.badImages);
      const checkpoints = new CheckpointStore(directory.checkpoint, directory.requireHeld);
      if (taken !== null) await recordTakenLayers(taken, stages, { directory, checkpoints });
      const place = { device, precision, network, stages, cachePlan, plan, directory, checkpoints, badImages };
      return goOn({ config, recipe: resolved, dataset, ...place, options });
    });
  } finally {
    disposeNetwork(network);
  }
}

/**
 * Goes on with an interrupted run. A run that is finished already only gives its result. Throws RunDirectoryError where the
 * data is no longer what the run was started with, or a file of the run is damaged, and what `train` throws.
 */
export async function resume(runDirectory: string, options: ResumeOptions = {}): Promise<TrainingOutcome> {
  const directory = RunDirectory.open(runDirectory);
  const interrupted = (): Error => new TrainingInterrupted(runDirectory, { hasCheckpoint: hasCheckpoint(directory) });
  return holdUnlessAborted(directory, options.signal, interrupted, () => resumeHeld(directory, options, interrupted));
}

const hasCheckpoint = (directory: RunDirectory): boolean => new CheckpointStore(directory.checkpoint).exists;

async function resumeHeld(
  directory: RunDirectory,
  options: ResumeOptions,
  interrupted: () => Error,
): Promise<TrainingOutcome> {
  const result = await directory.readResult();
  const checkpoints = new CheckpointStore(directory.checkpoint, directory.requireHeld);
  if (result !== null) {
    if (!existsSync(directory.model))
      throw new RunDirectoryError(`${directory.model}: not found, but the run has finished`);
    if (options.dataDir !== undefined) {
      await reopenData(directory, await directory.readConfig(), { ...options, badImages: new BadImageLog() });
    }
    await checkpoints.remove();
    return finish(directory, result, options);
  }

  const recorded = await directory.readConfig();
  const device = resolveDevice(options.device ?? recorded.device);
  const precision = resolvePrecision(recorded.precision, device);
  const badImages = new BadImageLog();
  badImages.open(directory.badImages);
  const { config, recipe, dataset } = await unlessAborted(options.signal, interrupted, () =>
    reopenData(directory, { ...recorded, ...describeDevice(device) }, { ...options, badImages }),
  );
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  // Another machine may have fewer processors than the one that began.
  if (typeof config.threads === 'number') setThreads(Math.min(config.threads, buildInfo().mostThreads));
  const network = recordedNetwork(directory, recipe, dataset.classes.length, device);
  try {
    const stages = buildStages(recipe, network, config.startedFrom?.layers);
    if (!checkpoints.exists) {
      // Stopped before its first checkpoint.
      const taken = await takeFrom(config.startedFrom, recipe, network, dataset);
      if (taken !== null) await recordTakenLayers(taken, stages, { directory, checkpoints });
    }
    const budget = resolveCacheBudget(options.cache, device);
    const cachePlan = planRunCache({ recipe, network, stages, device, precision, budget });
    const limits = limitsOf({ recipe, stages, dataset, precision });
    const firstStage = checkpoints.exists ? (await checkpoints.read(limits)).position.stage : 0;
    const takenLayers = config.startedFrom?.layers;
    const plan = planPrepared({ recipe, dataset, device, precision, budget }, { takenLayers, firstStage });
    const place = { device, precision, network, stages, cachePlan, plan, directory, checkpoints, badImages };
    return await goOn({ config, recipe, dataset, ...place, options });
  } finally {
    disposeNetwork(network);
  }
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

/** The recipe with what is known once its data are loaded; the record of an older version may lack it. */
export function withCounts(recipe: Recipe, { title, train, test }: Dataset): Recipe {
  return { ...recipe, dataset: { ...recipe.dataset, title, trainCount: train.count, testCount: test.count } };
}

function movedTo(dataDir: string | undefined, recipe: Recipe): Recipe {
  if (dataDir === undefined) return recipe;
  if (recipe.dataset.name === 'shapes') {
    throw new RecipeError(`dataset.dataDir: expected none for shapes, which is drawn by the program, got ${dataDir}`);
  }
  return { ...recipe, dataset: { ...recipe.dataset, dataDir: resolve(dataDir) } };
}

function defaultName({ preset, dataset }: Recipe): string {
  const stamp = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return `runs/${preset}-${dataset.name}-${stamp}`;
}

/** Does work that comes before the first step. On an abort what it is at is left alone, and its outcome is not waited for. */
async function unlessAborted<T>(
  signal: AbortSignal | undefined,
  interrupted: () => Error,
  work: () => Promise<T>,
): Promise<T> {
  if (signal === undefined) return work();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(interrupted());
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
  });
  try {
    const done = await Promise.race([aborted, work()]);
    // Work that never left this thread to the event loop has kept the abort from being heard.
    await Promise.race([aborted, setImmediate()]);
    return done;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Waiting for another process's lock is given up on an abort; once held, the work itself looks after the signal. */
async function holdUnlessAborted<T>(
  directory: RunDirectory,
  signal: AbortSignal | undefined,
  interrupted: () => Error,
  work: () => Promise<T>,
): Promise<T> {
  return directory.hold(work, { signal }).catch((error: unknown) => {
    throw signal?.aborted === true && error === signal.reason ? interrupted() : error;
  });
}

export async function takeFrom(
  start: StartFrom | undefined,
  recipe: Recipe,
  network: Network,
  dataset: Dataset,
): Promise<TakenLayers | null> {
  if (start === undefined) return null;
  if (recipe.training.schedule !== 'layerwise') {
    throw new RecipeError('training.schedule: expected layerwise for a run that starts from trained layers');
  }
  return takeLayers(network, dataset.classes, start);
}

/** Goes on from the checkpoint, where there is one, else from the first step. */
async function goOn(run: Omit<PreparedRun, 'from'>): Promise<TrainingOutcome> {
  const { checkpoints, stages, network, directory } = run;
  const state = checkpoints.exists ? await checkpoints.read(limitsOf(run)) : null;
  const layer = stages[state?.position.stage ?? 0]?.layer ?? network.blocks.length;
  const records = await directory.rewindMetrics({ layer, epoch: state?.position.epoch ?? 0 });
  if (state !== null) requireRecords(run, state, records);
  return runToEnd({ ...run, from: state === null ? null : { state, records } });
}

function withPolicy(recipe: Recipe, { onBadImage = recipe.dataset.onBadImage }: RunOptions): Recipe {
  return { ...recipe, dataset: { ...recipe.dataset, onBadImage } };
}

const limitsOf = ({
  recipe,
  stages,
  dataset,
  precision,
}: Pick<PreparedRun, 'recipe' | 'stages' | 'dataset' | 'precision'>): Parameters<CheckpointStore['read']>[0] => {
  const { epochs, batchSize } = recipe.training;
  return { stages, epochs, batchSize, trainCount: dataset.train.count, precision };
};

/** Before anything is trained: refuses a run that would fail in its middle. */
function planPrepared(
  run: Pick<PreparedRun, 'recipe' | 'dataset' | 'device' | 'precision'> & { budget: CacheBudget },
  stages: { takenLayers?: number | undefined; firstStage: number },
): RunPlan | null {
  const { dataset, ...shared } = run;
  const imagesInMemory = 'images' in dataset.train;
  return planStart({ ...shared, ...stages, classes: dataset.classes.length, imagesInMemory });
}

/** The metrics of all epochs before a checkpoint are there: the result is made of them. */
function requireRecords(
  { stages, recipe, config, directory }: Omit<PreparedRun, 'from'>,
  { position }: CheckpointState,
  records: readonly EpochRecord[],
): void {
  const taken = config.startedFrom?.layers ?? 0;
  for (const [i, { layer }] of stages.slice(0, position.stage + 1).entries()) {
    // Of layers that were taken there are those of another run, if any.
    if (i < taken) continue;
    const expected = i < position.stage ? recipe.training.epochs : position.epoch;
    const got = records.filter((record) => record.layer === layer).length;
    if (got === expected) continue;
    throw new RunDirectoryError(
      `${directory.path}/metrics.jsonl: expected ${expected} epochs of layer ${layer} before the checkpoint, got ${got}`,
    );
  }
}

/** Of a run that goes on, `runDirectory` is where it is. */
export async function loadRecipeDataset(
  { dataset, augmentation }: Recipe,
  { signal, badImages, runDirectory }: RunOptions & { badImages: BadImageLog; runDirectory: string | null },
): Promise<Dataset> {
  const { name, dataDir, trainLimit, testLimit, imageSize, testResize, maxPixels, onBadImage } = dataset;
  const options = {
    name,
    imageSize,
    ...(dataDir === null ? {} : { dataDir }),
    ...(trainLimit === null ? {} : { trainLimit }),
    ...(testLimit === null ? {} : { testLimit }),
    ...(testResize === null ? {} : { testResize }),
    ...(maxPixels === null ? {} : { maxPixels }),
    onBadImage,
    reportBadImage: badImages.add,
    ...(signal === undefined ? {} : { signal }),
  };
  const loaded = await (runDirectory === null ? loadDataset(options) : loadRunData(runDirectory, dataDir, options));
  // Before the run directory is made, too.
  if (augmentation.randomResizedCrop) requireImageFiles(loaded.train);
  return loaded;
}

function planRunCache(
  run: Pick<PreparedRun, 'recipe' | 'network' | 'stages' | 'device' | 'precision'> & { budget: CacheBudget },
): CachePlan {
  const { trainCount, testCount } = run.recipe.dataset;
  return planCache({ ...run, trainCount: trainCount!, testCount: testCount! });
}

function useThreads({ threads }: Recipe): void {
  if (threads === null) return;
  const { mostThreads } = buildInfo();
  if (threads > mostThreads) {
    throw new RecipeError(`threads: expected at most ${mostThreads} on this machine, got ${threads}`);
  }
  setThreads(threads);
}

interface PreparedRun {
  readonly config: RunConfig;
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  readonly device: Device;
  readonly precision: Precision;
  readonly network: Network;
  readonly stages: readonly Stage[];
  readonly cachePlan: CachePlan;
  readonly plan: RunPlan | null;
  readonly directory: RunDirectory;
  readonly checkpoints: CheckpointStore;
  readonly badImages: BadImageLog;
  readonly from: { state: CheckpointState; records: readonly EpochRecord[] } | null;
  readonly options: RunOptions;
}

async function runToEnd(run: PreparedRun): Promise<TrainingOutcome> {
  const {
    config,
    recipe,
    dataset,
    device,
    precision,
    network,
    stages,
    cachePlan,
    plan,
    directory,
    checkpoints,
    badImages,
    from,
    options,
  } = run;
  const onEvent = options.onEvent ?? (() => {});
  if (isCuda(device)) setCudnnBenchmark(true);
  using generator = Generator.create({ seed: recipe.seed, device });
  drawNetworkFrom(network, generator);

  const notes = [...notesOf(recipe, network), ...(config.notes ?? [])];
  const { randomResizedCrop } = recipe.augmentation;
  const trainImages = openImages(dataset.train, { device, randomResizedCrop });
  const testImages = openImages(dataset.test, { device });
  const { trainTransforms, testTransforms } = buildTransforms(recipe, dataset.normalization);
  const toTrain = { recipe, precision, images: trainImages, transforms: trainTransforms };
  const trainFeatures =
    cachePlan.views === null
      ? new RecomputedFeatures(toTrain)
      : new CachedFeatures({
          ...toTrain,
          device,
          views: cachePlan.views,
          directory: directory.features,
          onView: (view) => onEvent({ type: 'view', ...view, views: recipe.augmentation.views! }),
        });
  const toTest = { recipe, precision, images: testImages, transforms: testTransforms };
  const testFeatures = new TestFeatures(toTest, cachePlan.testBytes);
  try {
    onEvent({
      type: 'start',
      runDirectory: directory.path,
      config,
      notes: [...notes, ...badImages.notes, ...neverReached(recipe)],
      plan,
      resumedFrom: from === null ? null : resumedFrom(from.state, stages),
    });
    const trainer = new Trainer({
      recipe,
      device,
      precision,
      cudaGraph: options.cudaGraph ?? false,
      network,
      stages,
      trainImages,
      testImages,
      trainFeatures,
      testFeatures,
      directory,
      checkpoints,
      generator,
      checkpointSeconds: options.checkpointSeconds ?? 300,
      signal: options.signal,
      onEvent,
    });
    const result: RunResult = { ...(await trainer.run(from)), notes: [...notes, ...badImages.notes] };

    const auxiliaryHeads = recipe.training.schedule === 'layerwise' ? directory.auxiliaryHeads : null;
    directory.requireHeld();
    await saveNetwork(network, { model: directory.model, auxiliaryHeads });
    await directory.writeResult(result);
    // The network has its own files now.
    await checkpoints.remove();
    return await finish(directory, result, options);
  } finally {
    await trainFeatures.dispose();
    testFeatures.dispose();
    trainImages.dispose();
    testImages.dispose();
  }
}

/** Told when a run starts: a preset's drops of the rate are often beyond the epochs that a flag asks for. */
function neverReached({ training: { milestones, epochs } }: Recipe): string[] {
  const beyond = milestones.filter((milestone) => milestone >= epochs);
  if (beyond.length === 0) return [];
  return [`The learning rate does not drop at ${beyond.join(', ')}: a layer has ${epochs} epochs.`];
}

async function finish(directory: RunDirectory, result: RunResult, { onEvent }: RunOptions): Promise<TrainingOutcome> {
  const outcome = { runDirectory: directory.path, report: await writeReport(directory.path), result };
  onEvent?.({ type: 'done', ...outcome });
  return outcome;
}

/** The layer, epoch and step that a checkpoint goes on with; after the last stage, its end. */
function resumedFrom(
  { position }: CheckpointState,
  stages: readonly Stage[],
): { layer: number; epoch: number; step: number } {
  const stage = stages[position.stage] ?? stages.at(-1)!;
  return { layer: stage.layer, epoch: position.epoch, step: position.step };
}
