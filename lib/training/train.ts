import { cpus } from 'node:os';
import { type Dataset, DeviceImages, loadDataset } from '../data/index.js';
import { type RunConfig, type RunResult, writeReport } from '../evaluation/report/index.js';
import { disposeNetwork, type Network } from '../models/index.js';
import { writeSafetensors } from '../nn/index.js';
import {
  buildInfo,
  type Device,
  getThreads,
  isCuda,
  manualSeed,
  setCudnnBenchmark,
  setThreads,
} from '../tensor/index.js';
import { packageVersion } from '../version.js';
import { buildNetwork, buildStages, buildTransforms, notesOf } from './build.js';
import { type CheckpointState, CheckpointStore } from './checkpoint.js';
import { resolveDevice } from './device.js';
import { RunDirectoryError } from './errors.js';
import type { EpochRecord, TrainingEvent } from './events.js';
import { type Precision, resolvePrecision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';
import { RunDirectory } from './run-directory.js';
import type { Stage } from './stage.js';
import { Trainer } from './trainer.js';

export interface RunOptions {
  /** Stops the run after the step in progress, with a checkpoint: `train` then throws TrainingInterrupted. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainingEvent) => void;
  /** Seconds between checkpoints within an epoch; there is one after each epoch in any case. 300 unless told. */
  readonly checkpointSeconds?: number;
}

export interface TrainOptions extends RunOptions {
  readonly recipe: Recipe;
  /** The run directory to make: new or empty. */
  readonly out: string;
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
  // Before the run directory is made: a network that cannot be built leaves none behind.
  const network = buildNetwork(resolved, dataset.classes.length, device);
  try {
    const directory = await RunDirectory.create(options.out);
    return await directory.hold(async () => {
      const config = describeRun(resolved, dataset, device, precision);
      await directory.writeConfig(config);
      const checkpoints = new CheckpointStore(directory.checkpoint);
      const place = { device, precision, network, directory, checkpoints };
      return runToEnd({ config, recipe: resolved, dataset, ...place, from: null, options });
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
    const stages = buildStages(recipe, network);
    const limits = { stages: stages.length, epochs: recipe.training.epochs };
    const state = checkpoints.exists ? await checkpoints.read(limits) : null;
    const layer = stages[state?.position.stage ?? 0]?.layer ?? network.blocks.length;
    const records = await directory.rewindMetrics({ layer, epoch: state?.position.epoch ?? 0 });
    const from = state === null ? null : { state, records };
    const place = { device, precision, network, directory, checkpoints };
    return await runToEnd({ config, recipe, dataset, ...place, from, options });
  } finally {
    disposeNetwork(network);
  }
}

function loadRecipeDataset({ dataset }: Recipe): Promise<Dataset> {
  const { name, dataDir, trainLimit, testLimit, imageSize } = dataset;
  return loadDataset({
    name,
    imageSize,
    ...(dataDir === null ? {} : { dataDir }),
    ...(trainLimit === null ? {} : { trainLimit }),
    ...(testLimit === null ? {} : { testLimit }),
  });
}

function useThreads({ threads }: Pick<Recipe, 'threads'>): void {
  if (threads !== null) setThreads(threads);
}

function describeRun(recipe: Recipe, dataset: Dataset, device: Device, precision: Precision): RunConfig {
  return {
    package: 'layerwise',
    formatVersion: 1,
    preset: recipe.preset,
    recipe,
    classes: [...dataset.classes],
    normalization: dataset.normalization,
    seed: recipe.seed,
    device,
    deviceName: isCuda(device) ? device : (cpus()[0]?.model ?? null),
    precision,
    threads: getThreads(),
    versions: {
      layerwise: packageVersion,
      libtorch: buildInfo().libtorchLoaded || buildInfo().libtorchBuilt,
      node: process.version,
    },
    startedAt: new Date().toISOString(),
  };
}

interface PreparedRun {
  readonly config: RunConfig;
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  readonly device: Device;
  readonly precision: Precision;
  readonly network: Network;
  readonly directory: RunDirectory;
  readonly checkpoints: CheckpointStore;
  readonly from: { state: CheckpointState; records: readonly EpochRecord[] } | null;
  readonly options: RunOptions;
}

async function runToEnd(run: PreparedRun): Promise<TrainingOutcome> {
  const { config, recipe, dataset, device, precision, network, directory, checkpoints, from, options } = run;
  const onEvent = options.onEvent ?? (() => {});
  if (isCuda(device)) setCudnnBenchmark(true);
  manualSeed(recipe.seed); // Dropout draws from the default generator.

  const stages = buildStages(recipe, network);
  const notes = notesOf(recipe, network);
  const trainImages = new DeviceImages(dataset.train, device);
  const testImages = new DeviceImages(dataset.test, device);
  try {
    onEvent({
      type: 'start',
      runDirectory: directory.path,
      config,
      notes,
      resumedFrom: from === null ? null : resumedFrom(from.state, stages),
    });
    const trainer = new Trainer({
      recipe,
      device,
      precision,
      network,
      stages,
      ...buildTransforms(recipe, dataset.normalization),
      trainImages,
      testImages,
      directory,
      checkpoints,
      checkpointSeconds: options.checkpointSeconds ?? 300,
      signal: options.signal,
      onEvent,
    });
    const { layers, seconds } = await trainer.run(from);
    const result: RunResult = { layers, seconds, notes };

    await writeSafetensors(directory.model, network.stateDict(), { format: 'pt' });
    const auxiliary = network.auxiliaryStateDict();
    if (auxiliary.size > 0 && recipe.training.schedule === 'layerwise') {
      await writeSafetensors(directory.auxiliaryHeads, auxiliary, { format: 'pt' });
    }
    await directory.writeResult(result);
    // The network has its own files now.
    await checkpoints.remove();
    return await finish(directory, result, options);
  } finally {
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
