import { type Dataset, loadDataset, openImages, requireImageFiles } from '../data/index.js';
import { type RunConfig, type RunResult, writeReport } from '../evaluation/report/index.js';
import { disposeNetwork, drawNetworkFrom, type Network } from '../models/index.js';
import { type Device, Generator, isCuda, setCudnnBenchmark, setThreads } from '../tensor/index.js';
import { buildNetwork, buildStages, buildTransforms, notesOf } from './build.js';
import { type CacheBudget, type CachePlan, planCache, resolveCacheBudget } from './cache-plan.js';
import { type CheckpointState, CheckpointStore, saveNetwork } from './checkpoint.js';
import { resolveDevice } from './device.js';
import { RecipeError, RunDirectoryError } from './errors.js';
import type { EpochRecord, TrainingEvent } from './events.js';
import { CachedFeatures } from './feature-cache.js';
import { RecomputedFeatures } from './features.js';
import { requireGraphs } from './graphed-steps.js';
import { planStart, type RunPlan } from './plan.js';
import { type Precision, resolvePrecision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';
import { describeRun } from './run-config.js';
import { RunDirectory } from './run-directory.js';
import type { Stage } from './stage.js';
import { recordTakenLayers, type StartFrom, type TakenLayers, takeLayers } from './start-from.js';
import { TestFeatures } from './test-features.js';
import { Trainer } from './trainer.js';

export interface RunOptions {
  /** Stops the run after the step in progress, with a checkpoint: `train` then throws TrainingInterrupted. */
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
  /** Seconds between checkpoints within an epoch; there is one after each epoch in any case. 300 unless told. */
  readonly checkpointSeconds?: number;
}

export interface TrainOptions extends RunOptions {
  readonly recipe: Recipe;
  /** The run directory to make: new or empty. */
  readonly out: string;
  /** Layers to take from a finished run instead of training them. */
  readonly startFrom?: StartFrom;
}

export interface TrainingOutcome {
  readonly runDirectory: string;
  /** Path of report.html. */
  readonly report: string;
  readonly result: RunResult;
}

/**
 * Trains a recipe to its end and leaves a run directory: recipe, metrics, network, report. The event loop is served
 * between steps. Throws RecipeError, DataError, RunDirectoryError, NonFiniteLossError or TrainingInterrupted.
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  const recipe = parseRecipe(options.recipe);
  const device = resolveDevice(recipe.device);
  const precision = resolvePrecision(recipe.precision, device);
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  const dataset = await loadRecipeDataset(recipe);
  const resolved: Recipe = {
    ...recipe,
    dataset: {
      ...recipe.dataset,
      title: dataset.title,
      trainCount: dataset.train.count,
      testCount: dataset.test.count,
    },
  };
  useThreads(recipe);
  const budget = resolveCacheBudget(options.cache, device);
  const planned = { recipe: resolved, dataset, device, precision, budget };
  // Before the memory of a network is taken, and before the run directory is made. Where layers are taken from another run,
  // they must be known first.
  const early = options.startFrom === undefined ? planPrepared(planned, { firstStage: 0 }) : null;
  // A network that cannot be built leaves no run directory behind either.
  const network = buildNetwork(resolved, dataset.classes.length, device);
  try {
    const taken = await takeFrom(options.startFrom, resolved, network, dataset);
    const stages = buildStages(resolved, network, taken?.from.layers);
    const cachePlan = planRunCache({ recipe: resolved, network, stages, device, precision, budget });
    const plan =
      taken === null
        ? early
        : planPrepared(planned, { takenLayers: taken.from.layers, firstStage: taken.stageSeconds.length });
    const directory = await RunDirectory.create(options.out);
    return await directory.hold(async () => {
      const config = describeRun({
        recipe: resolved,
        classes: dataset.classes,
        normalization: dataset.normalization,
        device,
        precision,
        startedFrom: taken?.from,
      });
      await directory.writeConfig(config);
      const checkpoints = new CheckpointStore(directory.checkpoint);
      if (taken !== null) await recordTakenLayers(taken, stages, { directory, checkpoints });
      const place = { device, precision, network, stages, cachePlan, plan, directory, checkpoints };
      return goOn({ config, recipe: resolved, dataset, ...place, options });
    });
  } finally {
    disposeNetwork(network);
  }
}

/** Goes on with an interrupted run. A run that is finished already only gives its result. */
export async function resume(runDirectory: string, options: RunOptions = {}): Promise<TrainingOutcome> {
  const directory = RunDirectory.open(runDirectory);
  return directory.hold(() => resumeHeld(directory, options));
}

async function resumeHeld(directory: RunDirectory, options: RunOptions): Promise<TrainingOutcome> {
  const result = await directory.readResult();
  const checkpoints = new CheckpointStore(directory.checkpoint);
  if (result !== null) {
    await checkpoints.remove();
    return finish(directory, result, options);
  }

  const config = await directory.readConfig();
  const recipe = parseRecipe(config.recipe);
  const device = resolveDevice(config.device);
  const precision = resolvePrecision(config.precision as Precision, device);
  if (options.cudaGraph) requireGraphs(recipe, device, precision);
  const dataset = await loadRecipeDataset(recipe);
  for (const [part, recorded] of [
    ['train', recipe.dataset.trainCount],
    ['test', recipe.dataset.testCount],
  ] as const) {
    if (recorded !== dataset[part].count) {
      throw new RunDirectoryError(
        `${directory.path}: the run was started with ${recorded} ${part} images, but the data set now has ${dataset[part].count}`,
      );
    }
  }
  useThreads({ ...recipe, threads: config.threads ?? null });
  const network = buildNetwork(recipe, dataset.classes.length, device);
  try {
    const stages = buildStages(recipe, network, config.startedFrom?.layers);
    if (!checkpoints.exists) {
      // Stopped before its first checkpoint.
      const taken = await takeFrom(config.startedFrom, recipe, network, dataset);
      if (taken !== null) await recordTakenLayers(taken, stages, { directory, checkpoints });
    }
    const budget = resolveCacheBudget(options.cache, device);
    const cachePlan = planRunCache({ recipe, network, stages, device, precision, budget });
    const firstStage = checkpoints.exists ? (await checkpoints.read(limitsOf(recipe, stages))).position.stage : 0;
    const takenLayers = config.startedFrom?.layers;
    const plan = planPrepared({ recipe, dataset, device, precision, budget }, { takenLayers, firstStage });
    const place = { device, precision, network, stages, cachePlan, plan, directory, checkpoints };
    return await goOn({ config, recipe, dataset, ...place, options });
  } finally {
    disposeNetwork(network);
  }
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
  const { checkpoints, stages, recipe, network, directory } = run;
  const state = checkpoints.exists ? await checkpoints.read(limitsOf(recipe, stages)) : null;
  const layer = stages[state?.position.stage ?? 0]?.layer ?? network.blocks.length;
  const records = await directory.rewindMetrics({ layer, epoch: state?.position.epoch ?? 0 });
  return runToEnd({ ...run, from: state === null ? null : { state, records } });
}

const limitsOf = ({ training }: Recipe, { length }: readonly Stage[]): { stages: number; epochs: number } => ({
  stages: length,
  epochs: training.epochs,
});

/** Before anything is trained: refuses a run that would fail in its middle. */
function planPrepared(
  run: Pick<PreparedRun, 'recipe' | 'dataset' | 'device' | 'precision'> & { budget: CacheBudget },
  stages: { takenLayers?: number | undefined; firstStage: number },
): RunPlan | null {
  const { dataset, ...shared } = run;
  const imagesInMemory = 'images' in dataset.train;
  return planStart({ ...shared, ...stages, classes: dataset.classes.length, imagesInMemory });
}

export async function loadRecipeDataset({ dataset, augmentation }: Recipe): Promise<Dataset> {
  const { name, dataDir, trainLimit, testLimit, imageSize, testResize } = dataset;
  const loaded = await loadDataset({
    name,
    imageSize,
    ...(dataDir === null ? {} : { dataDir }),
    ...(trainLimit === null ? {} : { trainLimit }),
    ...(testLimit === null ? {} : { testLimit }),
    ...(testResize === null ? {} : { testResize }),
  });
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

function useThreads({ threads }: Pick<Recipe, 'threads'>): void {
  if (threads !== null) setThreads(threads);
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
    from,
    options,
  } = run;
  const onEvent = options.onEvent ?? (() => {});
  if (isCuda(device)) setCudnnBenchmark(true);
  using generator = Generator.create({ seed: recipe.seed, device });
  drawNetworkFrom(network, generator);

  const notes = notesOf(recipe, network);
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
      notes,
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
    const result: RunResult = { ...(await trainer.run(from)), notes };

    const auxiliaryHeads = recipe.training.schedule === 'layerwise' ? directory.auxiliaryHeads : null;
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
