import { cpus } from 'node:os';
import { type Dataset, DeviceImages, loadDataset } from '../data/index.js';
import { type RunConfig, type RunResult, writeReport } from '../evaluation/report/index.js';
import { disposeNetwork } from '../models/index.js';
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
import { buildNetwork, buildStages, buildTransforms } from './build.js';
import { type CheckpointState, CheckpointStore } from './checkpoint.js';
import { resolveDevice } from './device.js';
import { RunDirectoryError } from './errors.js';
import type { EpochRecord, TrainingEvent } from './events.js';
import { type Precision, resolvePrecision } from './precision.js';
import { parseRecipe, type Recipe } from './recipe.js';
import { RunDirectory } from './run-directory.js';
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
  const directory = await RunDirectory.create(options.out);
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
  const config = describeRun(resolved, dataset, device, precision);
  await directory.writeConfig(config);
  return runToEnd({ config, recipe: resolved, dataset, device, precision, directory, from: null, options });
}

/** Goes on with an interrupted run. A run that is finished already only gives its result. */
export async function resume(runDirectory: string, options: RunOptions = {}): Promise<TrainingOutcome> {
  const directory = RunDirectory.open(runDirectory);
  const result = await directory.readResult();
  if (result !== null) return { runDirectory, report: await writeReport(runDirectory), result };

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
        `${runDirectory}: the run was started with ${recorded} ${part} images, but the data set now has ${dataset[part].count}`,
      );
    }
  }
  useThreads({ ...recipe, threads: config.threads ?? null });
  const checkpoints = new CheckpointStore(directory.checkpoint);
  const state = checkpoints.exists ? await checkpoints.read() : null;
  const stageLayer = recipe.training.schedule === 'layerwise' ? (state?.position.stage ?? 0) : recipe.model.layers - 1;
  const records = await directory.rewindMetrics({ layer: stageLayer, epoch: state?.position.epoch ?? 0 });
  return runToEnd({
    config,
    recipe,
    dataset,
    device,
    precision,
    directory,
    from: state === null ? null : { state, records },
    options,
  });
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
  readonly directory: RunDirectory;
  readonly from: { state: CheckpointState; records: readonly EpochRecord[] } | null;
  readonly options: RunOptions;
}

async function runToEnd(run: PreparedRun): Promise<TrainingOutcome> {
  const { config, recipe, dataset, device, precision, directory, from, options } = run;
  const onEvent = options.onEvent ?? (() => {});
  if (isCuda(device)) setCudnnBenchmark(true);
  manualSeed(recipe.seed); // Dropout draws from the default generator.

  const network = buildNetwork(recipe, dataset.classes.length, device);
  const trainImages = new DeviceImages(dataset.train, device);
  const testImages = new DeviceImages(dataset.test, device);
  try {
    onEvent({
      type: 'start',
      runDirectory: directory.path,
      config,
      notes: network.notes,
      resumedFrom: from === null ? null : { ...from.state.position, layer: from.state.position.stage },
    });
    const checkpoints = new CheckpointStore(directory.checkpoint);
    if (from !== null) await checkpoints.read();
    const trainer = new Trainer({
      recipe,
      device,
      precision,
      network,
      stages: buildStages(recipe, network),
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
    const result: RunResult = { layers, seconds, notes: [...network.notes] };

    await writeSafetensors(directory.model, network.stateDict(), { format: 'pt' });
    const auxiliary = network.auxiliaryStateDict();
    if (auxiliary.size > 0 && recipe.training.schedule === 'layerwise') {
      await writeSafetensors(directory.auxiliaryHeads, auxiliary, { format: 'pt' });
    }
    await directory.writeResult(result);
    // The network has its own files now.
    await checkpoints.remove();
    const report = await writeReport(directory.path);
    onEvent({ type: 'done', runDirectory: directory.path, report, result });
    return { runDirectory: directory.path, report, result };
  } finally {
    trainImages.dispose();
    testImages.dispose();
    disposeNetwork(network);
  }
}
