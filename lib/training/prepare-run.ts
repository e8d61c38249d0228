// Prepares a run, new or resumed: all that is made before its first step.
import { type Dataset, isInMemory } from '../data/index.js';
import { type CacheBudget, type CachePlan, planCache, resolveCacheBudget } from '../features/index.js';
import { disposeNetwork, type Network, type NetworkBuilder, type Stage } from '../models/index.js';
import { buildStages, decoderMirrors, type Precision, type Recipe } from '../recipe/index.js';
import type { CheckpointLimits } from '../run/index.js';
import type { Device } from '../tensor/index.js';
import { type Interruption, unlessInterrupted } from './interruption.js';
import { requirePipeline } from './layer-pipeline.js';
import type { Peers } from './peers.js';
import { planStart, type RunPlan } from './plan.js';
import type { RunCheckpoints } from './run-checkpoints.js';
import { type StartFrom, type TakenLayers, takeLayers } from './start-from.js';

/** What is trained, on what. */
export interface RunSetting {
  /** With the counts of its images. */
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  readonly device: Device;
  readonly precision: Precision;
}

export interface PrepareOptions {
  /** Of a recipe with a network of one's own. */
  readonly network: NetworkBuilder | undefined;
  /** Makes the network on the device, with its initial weights. */
  readonly build: () => Network;
  readonly cache: Partial<CacheBudget> | 'none' | undefined;
  /** The run whose layers it starts from. They are taken, unless there is a checkpoint. */
  readonly startFrom: StartFrom | undefined;
  /** Of a run that goes on. */
  readonly checkpoints?: RunCheckpoints;
  readonly peers: Peers;
  readonly interruption: Interruption;
}

/** A run before its first step. Dispose it, or declare it with `using`. */
export interface PreparedRun extends RunSetting, Disposable {
  readonly network: Network;
  readonly stages: readonly Stage[];
  /** Layers that have just been loaded into the network, and are not recorded yet. */
  readonly taken: TakenLayers | null;
  readonly cachePlan: CachePlan;
  /** Null where LibTorch is too old to plan. */
  readonly plan: RunPlan | null;
  readonly checkpointLimits: CheckpointLimits;
}

/** Makes all that is needed to train. Throws for a run that would fail in its middle: see `takeLayers`, `planCache`, `planRun`. */
export async function prepareRun(setting: RunSetting, options: PrepareOptions): Promise<PreparedRun> {
  const { recipe, dataset, device, precision } = setting;
  const { build, startFrom, checkpoints, interruption, peers } = options;
  const classes = dataset.classes.length;
  const budget = resolveCacheBudget(options.cache, device, peers.localSize);
  const imagesInMemory = isInMemory(dataset.train);
  const isMirrored = decoderMirrors(recipe, dataset.train);
  const processes = { processes: peers.sharing, localProcesses: peers.localSize };
  const planned = {
    ...{ recipe, classes, device, precision, budget, imagesInMemory, isMirrored },
    ...{ builder: options.network, ...processes },
  };
  // A new run is planned before its network takes memory. For another, the plan needs what was trained before.
  const isNew = startFrom === undefined && checkpoints === undefined;
  const early = isNew ? planStart(planned) : null;
  const network = build();
  try {
    const isTaken = startFrom !== undefined && checkpoints?.exists !== true;
    const taken = isTaken
      ? await unlessInterrupted(interruption, () =>
          takeLayers(startFrom, { recipe, network, classes: dataset.classes, builder: options.network }),
        )
      : null;
    const takenLayers = taken?.from.layers ?? startFrom?.layers;
    const stages = buildStages(recipe, network, takenLayers);
    if (peers.parallel === 'layers') requirePipeline(recipe, { stages, precision, processes: peers.size });
    const counts = { trainCount: dataset.train.count, testCount: dataset.test.count };
    const cachePlan = planCache({ recipe, network, stages, device, precision, budget, ...counts });
    const { epochs, batchSize } = recipe.training;
    const checkpointLimits = { stages, epochs, batchSize, trainCount: dataset.train.count, precision };
    // Each prepares by itself: only rank 0 has the file, and a plan of layers that are done does no harm.
    const state = peers.isFirst && checkpoints?.exists ? await checkpoints.store.read(checkpointLimits) : null;
    const firstStage = state?.position.stage ?? taken?.stageSeconds.length ?? 0;
    const plan = early ?? planStart({ ...planned, takenLayers, firstStage });
    return {
      ...{ recipe, dataset, device, precision, network, stages, taken, cachePlan, plan, checkpointLimits },
      [Symbol.dispose]: () => disposeNetwork(network),
    };
  } catch (error) {
    disposeNetwork(network);
    throw error;
  }
}
