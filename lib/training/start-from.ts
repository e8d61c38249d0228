// Training that starts from the layers of a finished run instead of from the first layer.
import { resolve } from 'node:path';
import { TrainedRun } from '../finished/index.js';
import type { Network, NetworkBuilder, Stage } from '../models/index.js';
import { loadInto, type Module } from '../nn/index.js';
import { type Recipe, RecipeError } from '../recipe/index.js';
import type { EpochRecord } from '../run/index.js';
import { type CheckpointStore, describeClasses, RunDirectory, RunDirectoryError } from '../run/index.js';

/** The layers of a finished run that a new one begins with, instead of training them. */
export interface StartFrom {
  /** A finished run, trained layer by layer on the same classes. */
  readonly runDirectory: string;
  /** How many of its layers are taken, from the first, with their heads; default: all. */
  readonly layers?: number;
  /**
   * Where the run's layers are all that the recipe has, only the last head trains: a new one, or, to fine-tune it, the
   * run's own. Default: 'new'.
   */
  readonly head?: 'new' | 'taken';
}

/** What was taken, as a new run's files need it. */
export interface TakenLayers {
  readonly from: Required<StartFrom>;
  /** The epochs of the layers that are not trained again. */
  readonly records: readonly EpochRecord[];
  /** Training time of those layers. */
  readonly stageSeconds: readonly number[];
}

/**
 * Loads the first layers of a finished run, and their heads, into the network of a recipe. Throws RecipeError where the recipe
 * trains end to end, and RunDirectoryError where the run was trained end to end or on other classes, has fewer layers, or has
 * layers or heads of another shape.
 */
export async function takeLayers(
  { runDirectory, layers, head = 'new' }: StartFrom,
  {
    recipe,
    network,
    classes,
    builder,
  }: { recipe: Recipe; network: Network; classes: readonly string[]; builder: NetworkBuilder | undefined },
): Promise<TakenLayers> {
  if (recipe.training.schedule !== 'layerwise') {
    throw new RecipeError('training.schedule: expected layerwise for a run that starts from trained layers');
  }
  using source = await TrainedRun.open(runDirectory, { device: 'cpu', precision: 'fp32', network: builder });
  const taken = layers ?? source.layers;
  const refuse = (problem: string): never => {
    throw new RunDirectoryError(`${runDirectory}: cannot start from this run: ${problem}`);
  };
  const mostLayers = Math.min(source.layers, network.blocks.length);
  if (!(Number.isInteger(taken) && taken >= 1 && taken <= mostLayers)) {
    refuse(
      `expected 1 to ${mostLayers} of its ${source.layers} layers for a network of ${network.blocks.length}, got ${taken}`,
    );
  }
  if (!source.hasAuxiliaryHeads) refuse('it was trained end to end, so its layers have no heads of their own');
  const classChanges = describeClasses({ classes: source.classes }, { classes });
  if (classChanges !== null) refuse(`its classes are not those of the data set: ${classChanges}`);
  if (source.network.inputShape.join() !== network.inputShape.join()) {
    refuse(`its inputs are ${source.network.inputShape.join(' x ')}, these ${network.inputShape.join(' x ')}`);
  }
  const copy = (what: string, from: Module, to: Module): void => {
    try {
      loadInto(to.stateDict(), from.stateDict());
    } catch (error) {
      refuse(`${what}: ${(error as Error).message}`);
    }
  };
  const isLast = (layer: number): boolean => layer === network.blocks.length - 1;
  for (let layer = 0; layer < taken; layer++) {
    copy(`layer ${layer + 1}`, source.network.blocks[layer]!, network.blocks[layer]!);
    if (isLast(layer) && head === 'new') continue;
    copy(`the head of layer ${layer + 1}`, source.network.heads[layer]!, network.heads[layer]!);
  }

  const { epochs, result } = await RunDirectory.open(source.runDirectory).readRecord();
  const finished = isLast(taken - 1) ? taken - 1 : taken;
  return {
    from: { runDirectory: resolve(runDirectory), layers: taken, head },
    records: epochs.filter(({ layer }) => layer < finished),
    stageSeconds: Array.from(
      { length: finished },
      (_, layer) => result?.layers.find((one) => one.layer === layer)?.seconds ?? 0,
    ),
  };
}

/** Leaves a new run as if it had trained the taken layers itself: their epochs recorded, a checkpoint after them. */
export async function recordTakenLayers(
  { from, records, stageSeconds }: TakenLayers,
  stages: readonly Stage[],
  { directory, checkpoints }: { directory: RunDirectory; checkpoints: CheckpointStore },
): Promise<void> {
  await directory.writeMetrics(records);
  const finished = stageSeconds.length;
  await checkpoints.saveTaken(stages.slice(0, finished), from.layers > finished ? stages[finished]! : null, {
    position: { stage: finished, epoch: 0, step: 0 },
    meters: null,
    seconds: stageSeconds.reduce((sum, seconds) => sum + seconds, 0),
    stageSeconds,
  });
}
