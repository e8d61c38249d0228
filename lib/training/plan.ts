// What a run takes, found before its first step by rehearsing its stages on the meta device.
import { availableMemory } from '#scripts/support/limits.mjs';
import { type CacheBudget, type CachePlan, type CacheTier, planCache, rowBytes } from '../features/index.js';
import { gibibytes } from '../format.js';
import { disposeNetwork, ModelError, type NetworkBuilder, parametersOf, type Stage } from '../models/index.js';
import {
  anyNormalization,
  buildNetwork,
  buildStages,
  buildTransforms,
  imageBytesOf,
  type Precision,
  type Recipe,
  RecipeError,
} from '../recipe/index.js';
import { canRehearse, type Device, isCuda, onDevice, TensorError } from '../tensor/index.js';
import {
  hasOneValue,
  optimizerBytes,
  type RehearsalContext,
  rehearseForward,
  rehearseMemory,
} from './stage-rehearsal.js';

/** One stage of a run: a layer, or end to end all of them. */
export interface LayerPlan {
  /** From 0; end to end the last. */
  readonly layer: number;
  /** Whether it will be trained: not where it is taken from another run, or finished. */
  readonly isTrained: boolean;
  /** Of its output for one image, such as [channels, height, width]. */
  readonly outputShape: readonly number[];
  readonly parameters: { readonly block: number; readonly head: number };
  /**
   * Multiply-adds of one image's forward pass: of the frozen layers below, of the block and of the head. Those of products
   * and convolutions, as they are computed: where a kernel reaches beyond the map, without the zeros.
   */
  readonly multiplyAdds: { readonly frozen: number; readonly block: number; readonly head: number };
  /** Bytes of memory; null where it is not trained, and where a later layer that is trained at once with it has them for both. */
  readonly memory: {
    /**
     * Of tensors during a training step: the network with its statistics and the stage's gradients and optimiser, the
     * frozen layers as they run, the batch's images and features, what autograd keeps, and what LibTorch's kernels take for
     * a while.
     */
    readonly step: number;
    /** The same, or that of evaluating the test images where it is more. */
    readonly peak: number;
  } | null;
  /** Bytes of the features that it reads, of all kept views, and where they are; null where they are computed. */
  readonly features: { readonly bytes: number; readonly tiers: readonly CacheTier[] } | null;
  /** Bytes of its files: finished, and while it trains, with its optimiser's. */
  readonly checkpoint: { readonly finished: number; readonly training: number };
}

/**
 * What a run takes, known before it is trained, by layer and in all: weights, multiply-adds, steps, and bytes of memory and
 * disk.
 */
export interface RunPlan {
  readonly layers: readonly LayerPlan[];
  /** Of all blocks and heads. */
  readonly parameters: number;
  /** Multiply-adds of an image in the finished network. */
  readonly multiplyAdds: number;
  /** Training steps of all layers that are trained. */
  readonly steps: number;
  /**
   * Floating-point operations of those steps, about: two for a multiply-add; once for what is frozen, in each epoch or, where its
   * features are kept, for each view; three times for what learns (outputs, gradients of inputs, gradients of weights).
   */
  readonly operations: number;
  /** The layer whose memory is the most. Null where none is trained. */
  readonly largest: { readonly layer: number; readonly bytes: number } | null;
  /** Bytes of images, or vectors, that are kept in memory on the training device, training and test. */
  readonly imageBytes: number;
  /** Bytes of the training device's memory in which features of the test images may stay. */
  readonly testFeatureBytes: number;
  /** The most bytes that kept features take on disk at one time. */
  readonly featureBytesOnDisk: number;
  /** The most bytes that the run's checkpoint takes on disk. */
  readonly checkpointBytes: number;
}

export interface PlanOptions {
  /** With the counts of its images. */
  readonly recipe: Recipe;
  readonly classes: number;
  /** Of a network of one's own. */
  readonly builder?: NetworkBuilder | undefined;
  readonly device: Device;
  readonly precision: Precision;
  /** Bytes that kept features may take. */
  readonly budget: CacheBudget;
  /** Whether the images are read into memory, and not from files in every epoch. */
  readonly imagesInMemory: boolean;
  /** Whether images come mirrored from their decoder, as `decoderMirrors` says; default: false. */
  readonly isMirrored?: boolean;
  /** Layers that come from another run. */
  readonly takenLayers?: number | undefined;
  /** The index of the first stage that is trained. */
  readonly firstStage?: number;
  /** Processes that share each batch, and those of them on this machine, which share its memory; default: 1. */
  readonly processes?: number;
  readonly localProcesses?: number;
  /** Bytes that the run may take. Default: as many as it likes. */
  readonly usableBytes?: number | undefined;
  /** Called with the plan of a run that is then refused for its memory. */
  readonly onRefused?: ((plan: RunPlan) => void) | undefined;
}

/**
 * Plans a run without computing it; LibTorch 2.4 or later. Memory is that of the CPU: cuDNN's workspaces are not known, and
 * test images' outputs are not counted.
 *
 * Throws RecipeError for a run that would fail in its middle, naming layer and images: where `usableBytes` are not enough,
 * and where a batch norm would see one value a channel, as in a last batch of one image behind maps of 1 x 1. Such an image is
 * not left out or added to the batch before, since either would silently train another recipe than the one that is recorded.
 */
export function planRun(options: PlanOptions): RunPlan {
  try {
    return rehearseRun(options);
  } catch (error) {
    if (options.builder === undefined || !(error instanceof TensorError)) throw error;
    throw new ModelError(
      `own: the network cannot be planned, which is done without values on the device meta: ${error.message}; in a forward pass, make ` +
        'tensors on the device of the input ({ device: x.device }), and read no values',
      { cause: error },
    );
  }
}

function rehearseRun(options: PlanOptions): RunPlan {
  const { recipe, classes, device, precision, budget, isMirrored, takenLayers, firstStage = 0 } = options;
  const { processes = 1 } = options;
  const network = onDevice('meta', () => buildNetwork(recipe, classes, 'meta', options.builder));
  try {
    const stages = buildStages(recipe, network, takenLayers);
    const { trainCount, testCount } = recipe.dataset;
    const images = { trainCount: trainCount!, testCount: testCount! };
    const cache = planCache({ recipe, network, stages, device, precision, budget, ...images });
    const { trainTransforms, testTransforms } = buildTransforms(recipe, anyNormalization(recipe), { isMirrored });
    const context: RehearsalContext = {
      ...{ recipe, network, precision, processes },
      transforms: { train: trainTransforms, test: testTransforms },
      isKept: ({ frozen }) => cache.views?.has(frozen.length) ?? false,
    };
    for (const stage of stages.slice(firstStage)) refuseOneValue(context, stage);
    const layers = stages.flatMap((stage, i) => planStage(context, stage, { cache, isTrained: i >= firstStage }));
    const plan = summarise(layers, { ...options, testFeatureBytes: cache.testBytes });
    const lack = lackOfMemory(plan, context, stages, options.usableBytes);
    if (lack !== null) {
      options.onRefused?.(plan);
      throw new RecipeError(lack);
    }
    return plan;
  } finally {
    disposeNetwork(network);
  }
}

const networkBytes = ({ network }: RehearsalContext): number =>
  [...network.blocks, ...network.heads]
    .flatMap((module) => [...module.stateDict().values()])
    .reduce((sum, { byteLength }) => sum + byteLength, 0);

/** A row a layer. Of layers that are trained at once the last has the memory of all. */
function planStage(
  context: RehearsalContext,
  stage: Stage,
  options: { cache: CachePlan; isTrained: boolean },
): LayerPlan[] {
  const { local } = stage;
  if (local === undefined) return [planLayer(context, stage, options)];
  return local.map((problem, i) => {
    const below = local.slice(0, i).flatMap((one) => one.trained);
    const alone = { ...problem, frozen: [...stage.frozen, ...below] };
    const plan = planLayer(context, alone, { ...options, isTrained: false });
    const isLast = i + 1 === local.length;
    return {
      ...plan,
      isTrained: true,
      multiplyAdds: { ...plan.multiplyAdds, frozen: 0 },
      memory: isLast ? memoryOf(context, stage, largestShare(context)) : null,
    };
  });
}

function planLayer(
  context: RehearsalContext,
  stage: Stage,
  { cache, isTrained }: { cache: CachePlan; isTrained: boolean },
): LayerPlan {
  const { recipe } = context;
  const { outputShape, multiplyAdds } = rehearseForward(context, stage);
  const owned = stage.owned.flatMap((module) => [...module.stateDict().values()]);
  const finished = owned.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const optimizer = optimizerBytes(context, stage);
  const kept = cache.views?.get(stage.frozen.length) ?? null;
  return {
    ...{ layer: stage.layer, isTrained, outputShape, multiplyAdds },
    parameters: parametersOf(stage),
    memory: isTrained ? memoryOf(context, stage, largestShare(context)) : null,
    features:
      kept === null
        ? null
        : { bytes: rowBytes(kept.format) * recipe.dataset.trainCount! * kept.tiers.length, tiers: kept.tiers },
    checkpoint: { finished, training: finished + optimizer },
  };
}

function memoryOf(context: RehearsalContext, stage: Stage, images: number): { step: number; peak: number } {
  const own = networkBytes(context);
  const { step, peak } = rehearseMemory(context, stage, images);
  return { step: own + step, peak: own + peak };
}

function summarise(
  layers: readonly LayerPlan[],
  { recipe, imagesInMemory, testFeatureBytes }: PlanOptions & { testFeatureBytes: number },
): RunPlan {
  const { training, dataset } = recipe;
  const trained = layers.filter(({ isTrained }) => isTrained);
  const last = layers.at(-1)!;
  const areAtOnce = training.schedule === 'simultaneous';
  const largest = layers.reduce<LayerPlan | null>(
    (most, one) => (one.memory === null || (most !== null && one.memory.peak <= most.memory!.peak) ? most : one),
    null,
  );
  let finished = 0;
  const checkpoints = layers.map(({ checkpoint }) => {
    // The files of finished layers, and two of the layer in training: the new one is whole before the old one goes.
    const bytes = finished + 2 * checkpoint.training;
    finished += checkpoint.finished;
    return bytes;
  });
  const images = dataset.trainCount! + dataset.testCount!;
  const below = areAtOnce
    ? sumOf(layers.slice(0, -1), ({ multiplyAdds }) => multiplyAdds.block)
    : last.multiplyAdds.frozen;
  return {
    layers,
    parameters: sumOf(layers, ({ parameters }) => parameters.block + parameters.head),
    multiplyAdds: below + last.multiplyAdds.block + last.multiplyAdds.head,
    steps: (areAtOnce ? 1 : trained.length) * training.epochs * Math.ceil(dataset.trainCount! / training.batchSize),
    operations: operationsOf(layers, recipe),
    largest: largest === null ? null : { layer: largest.layer, bytes: largest.memory!.peak },
    testFeatureBytes,
    imageBytes: imagesInMemory ? images * imageBytesOf(recipe) : 0,
    featureBytesOnDisk: Math.max(...layers.map((layer) => featureBytes(layer, 'disk'))),
    checkpointBytes: areAtOnce ? 2 * sumOf(layers, ({ checkpoint }) => checkpoint.training) : Math.max(...checkpoints),
  };
}

const sumOf = (layers: readonly LayerPlan[], of: (layer: LayerPlan) => number): number =>
  layers.reduce((sum, layer) => sum + of(layer), 0);

function operationsOf(layers: readonly LayerPlan[], { training, augmentation, dataset }: Recipe): number {
  let multiplyAdds = 0;
  let keptBelow = 0;
  for (const { features, multiplyAdds: one } of layers.filter(({ isTrained }) => isTrained)) {
    const frozen = features === null ? training.epochs * one.frozen : augmentation.views! * (one.frozen - keptBelow);
    keptBelow = features === null ? 0 : one.frozen;
    multiplyAdds += frozen + 3 * training.epochs * (one.block + one.head);
  }
  return 2 * multiplyAdds * dataset.trainCount!;
}

/** Of the features that a layer reads, those in one tier. */
function featureBytes({ features }: LayerPlan, where: CacheTier): number {
  if (features === null) return 0;
  const { bytes, tiers } = features;
  return (bytes * tiers.filter((tier) => tier === where).length) / tiers.length;
}

/** Images of a batch that a process has. */
const largestShare = ({ recipe: { training, dataset }, processes }: RehearsalContext): number =>
  Math.ceil(Math.min(training.batchSize, dataset.trainCount!) / processes);

/** How many images go through the network at once, in the batches of an epoch, or the least of several processes: each number once. */
function partsOf(count: number, batchSize: number, microBatchSize: number | null, processes: number): Set<number> {
  const batches = [Math.min(batchSize, count), ...(count > batchSize ? [count % batchSize] : [])];
  const parts = batches.flatMap((batch) => {
    if (processes > 1) {
      const parts = Math.ceil(Math.ceil(batch / processes) / (microBatchSize ?? batch));
      return [Math.floor(Math.floor(batch / processes) / Math.max(parts, 1))];
    }
    const part = Math.min(batch, microBatchSize ?? batch);
    return [part, part === 0 ? 0 : batch % part];
  });
  return new Set(parts.filter((part) => part > 0));
}

function refuseOneValue(context: RehearsalContext, stage: Stage): void {
  const { recipe, processes } = context;
  const { training, dataset } = recipe;
  const { batchSize, microBatchSize } = training;
  // Of several processes, each has an image.
  if (processes > 1 && training.syncBatchNorm === 'on') return;
  const count = dataset.trainCount!;
  const sizesOf = (size: number): number[] => [...partsOf(count, size, microBatchSize, processes)];
  const bad = sizesOf(batchSize).find((part) => hasOneValue(context, stage, part));
  if (bad === undefined) return;
  // More images give more values.
  const works = (size: number): boolean => sizesOf(size).every((part) => part > bad);
  const sizes = [-1, 1].flatMap((direction) => {
    for (let size = batchSize + direction; size > bad && size <= Math.max(count, batchSize + 1); size += direction) {
      if (works(size)) return [size];
    }
    return [];
  });
  const parts = microBatchSize === null ? '' : ` in parts of ${microBatchSize}`;
  throw new RecipeError(
    `training.batchSize: batch norm at layer ${stage.layer + 1} would see one value a channel, which has no variance: ` +
      `${count} training images in batches of ${batchSize}${parts}${processes > 1 ? ` on ${processes} processes` : ''} leave ${bad === 1 ? 'one image' : `${bad} images`} alone` +
      (sizes.length > 0
        ? `; take --batch-size ${sizes.join(' or ')}`
        : microBatchSize === null
          ? '; take more training images'
          : '; take another --micro-batch, or none'),
  );
}

/** Why a run does not fit into so many bytes, and what does; null where it fits. */
function lackOfMemory(
  { layers, imageBytes }: RunPlan,
  context: RehearsalContext,
  stages: readonly Stage[],
  usable = Number.POSITIVE_INFINITY,
): string | null {
  const beside = (layer: LayerPlan): number => imageBytes + featureBytes(layer, 'host');
  const needs = layers.map((layer) => (layer.memory === null ? 0 : layer.memory.peak + beside(layer)));
  const most = Math.max(...needs);
  if (most <= usable) return null;
  const layer = layers[needs.indexOf(most)]!;
  const needed = `${gibibytes(most)} of memory, but this process may use ${gibibytes(usable)}`;
  if (layer.memory!.step + beside(layer) <= usable) {
    const { batchSize } = context.recipe.evaluation;
    return `evaluation.batchSize: evaluating ${batchSize} images at once at layer ${layer.layer + 1} needs about ${needed}; take a smaller one`;
  }
  const { batchSize, microBatchSize } = context.recipe.training;
  const { processes } = context;
  const images = Math.min(largestShare(context), microBatchSize ?? batchSize);
  const fits = (size: number): boolean =>
    stages.every((stage) => {
      const plan = layers.find((one) => one.layer === stage.layer)!;
      if (plan.memory === null) return true;
      return !hasOneValue(context, stage, size) && memoryOf(context, stage, size).step + beside(plan) <= usable;
    });
  let fitting = Math.floor(images / 2);
  while (fitting > 0 && !fits(fitting)) fitting = Math.floor(fitting / 2);
  return (
    `training.batchSize: layer ${layer.layer + 1} with ${images} ${images === 1 ? 'image' : 'images'} at once needs about ${needed}; ` +
    (fitting === 0
      ? 'no smaller batch fits'
      : `${fitting} ${fitting === 1 ? 'image fits' : 'images fit'}: take --batch-size ${fitting * processes}, or --micro-batch ${fitting} to keep the batch`)
  );
}

/** Bytes that a run on this device may still take; of a GPU they are not known. */
export const usableBytesOf = (device: Device): number | undefined => (isCuda(device) ? undefined : availableMemory());

/** The plan of a run that begins, with its refusals; null where LibTorch is too old to plan. */
export function planStart(options: Omit<PlanOptions, 'usableBytes'>): RunPlan | null {
  if (!canRehearse()) return null;
  const usable = usableBytesOf(options.device);
  return planRun({ ...options, usableBytes: usable && usable / (options.localProcesses ?? 1) });
}
