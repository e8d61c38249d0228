// The run itself: from where it stands to its result and its report.
import { type BadImage, openImages } from '../data/index.js';
import { DistributedError } from '../distributed/index.js';
import { CachedFeatures, RecomputedFeatures, TestFeatures } from '../features/index.js';
import { finishRun } from '../finished/index.js';
import { drawNetworkFrom, localProblems, type Network, type Stage, trainsAllHeads } from '../models/index.js';
import { buildTransforms, decoderMirrors, notesOf, type Recipe } from '../recipe/index.js';
import {
  type BadImageLog,
  type CheckpointState,
  type CheckpointStore,
  type EpochRecord,
  type RunConfig,
  type RunDirectory,
  RunDirectoryError,
  type RunResult,
  saveNetwork,
} from '../run/index.js';
import { Generator, isCuda, setCudnnBenchmark, type Tensor } from '../tensor/index.js';
import { TrainingInterrupted } from './errors.js';
import type { TrainingEvent } from './events.js';
import { fitNetwork } from './fit-network.js';
import type { Peers } from './peers.js';
import type { PreparedRun } from './prepare-run.js';
import type { RunCheckpoints } from './run-checkpoints.js';
import type { RunOptions, TrainingOutcome } from './run-options.js';
import { recordTakenLayers } from './start-from.js';
import { Trainer } from './trainer.js';
import { TrainingBoard } from './training-board.js';
import type { Turn } from './turn.js';

/** What a run writes to, and its right to compute. */
export interface RunFiles {
  /** As it has been written. */
  readonly config: RunConfig;
  readonly directory: RunDirectory;
  readonly checkpoints: RunCheckpoints;
  readonly badImages: BadImageLog;
  readonly turn: Turn;
  /** The processes that train it. */
  readonly peers: Peers;
}

/** What rank 0 reads and writes alone. */
interface WrittenFiles {
  readonly directory: RunDirectory;
  readonly checkpoints: CheckpointStore;
}

/** Trains from the checkpoint, where there is one, else from the first step. */
export async function runToEnd(run: PreparedRun, files: RunFiles, options: RunOptions): Promise<TrainingOutcome> {
  const { recipe, dataset, device, precision, network, stages, cachePlan, plan } = run;
  const { config, directory, checkpoints, badImages, turn, peers } = files;
  const from = await peers.byFirst(async () => {
    const written = { directory, checkpoints: checkpoints.store };
    await requireNoneLost(run, written);
    if (run.taken !== null) await recordTakenLayers(run.taken, stages, written);
    return readPosition(run, { ...written, config });
  });
  using board = options.tensorboard === true && peers.isFirst ? new TrainingBoard(run, directory) : null;
  const onEvent = (event: TrainingEvent): void => {
    board?.take(event);
    options.onEvent?.(event);
  };
  if (isCuda(device)) setCudnnBenchmark(true);
  using generator = Generator.create({ seed: recipe.seed, device });
  drawNetworkFrom(network, generator);

  const notes = [...notesOf(recipe, network, peers), ...(config.notes ?? [])];
  const { randomResizedCrop } = recipe.augmentation;
  const isMirrored = decoderMirrors(recipe, dataset.train);
  const trainImages = openImages(dataset.train, { device, randomResizedCrop, horizontalFlip: isMirrored });
  const testImages = openImages(dataset.test, { device });
  const { trainTransforms, testTransforms } = buildTransforms(recipe, dataset.normalization, { isMirrored });
  const toTrain = { recipe, precision, images: trainImages, transforms: trainTransforms, signal: options.signal };
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
    if (from === null) {
      const pause = async (): Promise<void> => {
        await turn.pause();
        if (options.signal?.aborted === true) throw new TrainingInterrupted(directory.path, { hasCheckpoint: false });
      };
      const toFit = { images: trainImages, transforms: testTransforms, signal: options.signal, pause };
      await peers.byFirst(() => fitNetwork(network, toFit));
    }
    // Kernels of other processors may draw other initial weights.
    await peers.takeFromFirst(weightsOf(network));
    onEvent({
      type: 'start',
      runDirectory: directory.path,
      config,
      notes: [...notes, ...badImages.notes, ...neverReached(recipe)],
      plan,
      resumedFrom: from === null ? null : resumedFrom(from.state, stages),
    });
    const trainer = new Trainer({
      ...{ recipe, device, precision, network, stages, generator, peers },
      ...{ trainImages, testImages, trainFeatures, testFeatures },
      ...{ directory, checkpoints, onEvent },
      costs: costsOf(run),
      cudaGraph: options.cudaGraph ?? false,
      checkpointSeconds: options.checkpointSeconds ?? 300,
      signal: options.signal,
      breathe: () => turn.pause(),
    });
    const trained = await trainer.run(from);
    await collectBadImages(files);
    const outcome = await peers.byFirst(async () => {
      const result: RunResult = { ...trained, notes: [...notes, ...badImages.notes] };
      const auxiliaryHeads = trainsAllHeads(recipe.training.schedule) ? directory.auxiliaryHeads : null;
      directory.requireHeld();
      await saveNetwork(network, { model: directory.model, auxiliaryHeads });
      return finishRun(directory, result);
    });
    onEvent({ type: 'done', ...outcome });
    await board?.written();
    return outcome;
  } catch (error) {
    throw explainLost(await peers.failureBehind(error), files, options);
  } finally {
    await trainFeatures.dispose();
    testFeatures.dispose();
    trainImages.dispose();
    testImages.dispose();
  }
}

/** Multiply-adds of an image in each layer and its head; without a plan all cost the same. */
function costsOf({ plan, stages }: PreparedRun): number[] {
  const { length } = localProblems(stages[0]!);
  return Array.from({ length }, (_, i) => {
    const layer = plan?.layers[i];
    return layer === undefined ? 1 : layer.multiplyAdds.block + layer.multiplyAdds.head;
  });
}

const weightsOf = ({ blocks, heads }: Network): Tensor[] =>
  [...blocks, ...heads].flatMap((module) => [...module.stateDict().values()]);

/** Rank 0 lists what the others could not read. */
async function collectBadImages({ badImages, peers }: RunFiles): Promise<void> {
  const [, ...others] = await peers.gather(JSON.stringify(badImages.unrecorded));
  if (!peers.isFirst) return;
  for (const bad of others.flatMap((text) => JSON.parse(text) as BadImage[])) badImages.add(bad);
}

/** After the loss of another process the run goes on from its checkpoint. Who was told to stop stops, whoever was the first to do so. */
function explainLost(error: unknown, { directory, checkpoints }: RunFiles, { signal }: RunOptions): unknown {
  if (!(error instanceof DistributedError)) return error;
  const hasCheckpoint = checkpoints.exists;
  if (signal?.aborted === true) return new TrainingInterrupted(directory.path, { hasCheckpoint });
  const { code, operation, rank, worldSize, missing } = error;
  const wayOut = hasCheckpoint
    ? `the run goes on from its last checkpoint with --resume ${directory.path}`
    : `there is no checkpoint yet; begin anew with --resume ${directory.path}`;
  return new DistributedError({
    ...{ code, operation, rank, worldSize, missing, cause: error },
    problem: `${error.problem}; ${wayOut}`,
  });
}

/**
 * A run without a checkpoint begins anew. Throws RunDirectoryError where it has trained more than comes before a first
 * checkpoint.
 */
async function requireNoneLost(
  { stages, taken }: PreparedRun,
  { checkpoints, directory }: WrittenFiles,
): Promise<void> {
  const { epochs } = await directory.readRecord();
  const takenStages = taken?.stageSeconds.length ?? 0;
  const stage = stages[takenStages]!;
  const trained = epochs.filter(({ layer }) => layer >= firstLayerOf(stage)).length;
  // An epoch is recorded before its checkpoint is written. Layers that were taken have one from the start.
  const mostEpochs = taken === null ? localProblems(stage).length : 0;
  await checkpoints.requireNoneLost(stages.slice(0, Math.max(1, takenStages)), { epochs: trained, mostEpochs });
}

const firstLayerOf = (stage: Stage): number => localProblems(stage)[0]!.layer;

/** The checkpoint to go on from, with the epochs recorded before it; null at the first step. */
async function readPosition(
  run: PreparedRun,
  files: WrittenFiles & Pick<RunFiles, 'config'>,
): Promise<{ state: CheckpointState; records: readonly EpochRecord[] } | null> {
  const { checkpoints, directory } = files;
  const state = checkpoints.exists ? await checkpoints.read(run.checkpointLimits) : null;
  if (state !== null) requireTaken(run, files, state);
  const stage = run.stages[state?.position.stage ?? 0];
  const end = run.network.blocks.length;
  const layers = stage === undefined ? { first: end, last: end } : { first: firstLayerOf(stage), last: stage.layer };
  const records = await directory.rewindMetrics({ layers, epoch: state?.position.epoch ?? 0 });
  if (state === null) return null;
  requireRecords(run, files, state, records);
  return { state, records };
}

/** Layers that were taken are in the checkpoint: others would be trained, or frozen, from their initial weights. */
function requireTaken(
  { network }: PreparedRun,
  { config, checkpoints }: Pick<RunFiles, 'config'> & WrittenFiles,
  { position, current }: CheckpointState,
): void {
  const { layers: taken, head } = config.startedFrom ?? { layers: 0, head: 'taken' as const };
  const whole = taken === network.blocks.length;
  const finished = whole ? taken - 1 : taken;
  const hasStart = !whole || position.stage > finished || current !== null;
  if (position.stage >= finished && hasStart) return;
  throw new RunDirectoryError(
    `${checkpoints.directory}: expected the ${taken} layers that were taken from another run, got ` +
      `${position.stage} of them${hasStart ? '' : ` and not layer ${taken}${head === 'taken' ? '' : ', whose head is new'}`}; begin anew in another directory`,
  );
}

/** The metrics of all epochs before a checkpoint are there: the result is made of them. */
function requireRecords(
  { recipe, stages }: PreparedRun,
  { config, directory }: Pick<RunFiles, 'config' | 'directory'>,
  { position }: CheckpointState,
  records: readonly EpochRecord[],
): void {
  const taken = config.startedFrom?.layers ?? 0;
  for (const [i, stage] of stages.slice(0, position.stage + 1).entries()) {
    // Layers that were taken have the epochs of another run, if any.
    if (i < taken) continue;
    const expected = i < position.stage ? recipe.training.epochs : position.epoch;
    for (const { layer } of localProblems(stage)) {
      const got = records.filter((record) => record.layer === layer).length;
      if (got === expected) continue;
      throw new RunDirectoryError(
        `${directory.path}/metrics.jsonl: expected ${expected} epochs of layer ${layer} before the checkpoint, got ${got}`,
      );
    }
  }
}

/** Told when a run starts: a preset's drops of the rate are often beyond the epochs that a flag asks for. */
function neverReached({ training: { milestones, epochs } }: Recipe): string[] {
  const beyond = milestones.filter((milestone) => milestone >= epochs);
  if (beyond.length === 0) return [];
  return [
    `The learning rate does not drop at ${beyond.join(', ')}: a layer has ${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}.`,
  ];
}

/** The layer, epoch and step that a checkpoint goes on with; after the last stage, its end. */
function resumedFrom(
  { position }: CheckpointState,
  stages: readonly Stage[],
): { layer: number; epoch: number; step: number } {
  const stage = stages[position.stage] ?? stages.at(-1)!;
  return { layer: stage.layer, epoch: position.epoch, step: position.step };
}
