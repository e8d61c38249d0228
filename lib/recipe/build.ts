// From a recipe to what it names: the network, its stages, the transforms.
import {
  type Dataset,
  type DatasetPart,
  isImageFiles,
  normalize,
  randomCrop,
  randomHorizontalFlip,
  sidesOf,
  standardize,
  type Transform,
} from '../data/index.js';
import { MOST_CONFUSED_CLASSES } from '../evaluation/index.js';
import {
  buildModel,
  disposeNetwork,
  endToEndStages,
  groupLayers,
  headStage,
  layerwiseStages,
  ModelError,
  type Network,
  type NetworkBuilder,
  placeNetwork,
  requireNetwork,
  requireTrainable,
  type Stage,
  simultaneousStages,
  trainsAllHeads,
} from '../models/index.js';
import { BatchNorm1d, BatchNorm2d, modulesIn } from '../nn/index.js';
import { type Device, elementSize } from '../tensor/index.js';
import { isVectors, type Recipe } from './recipe.js';

/** [channels, height, width] of the images that a recipe's network sees, or [length] of the vectors. */
export function inputShapeOf({ dataset }: Recipe): readonly number[] {
  // Without a size of images the recipe has the length of vectors, which its schema requires.
  return dataset.inputShape ?? [dataset.channels ?? 3, ...sidesOf(dataset.imageSize!)];
}

/** What images are before they are normalised, a byte a value, and vectors. */
export const inputDtypeOf = ({ dataset }: Recipe): 'uint8' | 'float32' => (isVectors(dataset) ? 'float32' : 'uint8');

/** Bytes of an image, or of a vector. */
export const imageBytesOf = (recipe: Recipe): number =>
  inputShapeOf(recipe).reduce((product, size) => product * size) * elementSize(inputDtypeOf(recipe));

/** Of as many channels as the images have, where the values do not matter. */
export function anyNormalization(recipe: Recipe): Dataset['normalization'] {
  const [channels] = inputShapeOf(recipe);
  return { mean: Array(channels).fill(0.5), std: Array(channels).fill(0.25) };
}

/**
 * The network of a recipe, with the initial weights of its seed, on the device; by the caller's own `builder` where the recipe's
 * model is one's own. Throws ModelError for values that do not go together, and for a network of one's own that cannot be trained.
 */
export function buildNetwork(recipe: Recipe, classes: number, device: Device, builder?: NetworkBuilder): Network {
  const request = { classes, inputShape: inputShapeOf(recipe), seed: recipe.seed };
  if (builder === undefined) {
    const network = buildModel(recipe.model, request);
    return disposingOnFailure(network, () => placed(network, recipe, device));
  }
  const { model } = recipe;
  if (model.name !== 'own') {
    throw new ModelError(`model.name: expected own for a network of one's own, got ${model.name}`);
  }
  const network: unknown = builder({ ...request, options: structuredClone(model.options) });
  requireNetwork(network);
  return disposingOnFailure(network, () => {
    requireTrainable(network, { ...request, schedule: recipe.training.schedule });
    return placed(network, recipe, device);
  });
}

function disposingOnFailure<T>(network: Network, work: () => T): T {
  try {
    return work();
  } catch (error) {
    disposeNetwork(network);
    throw error;
  }
}

/** In blocks, and on the device. */
function placed(built: Network, { training }: Recipe, device: Device): Network {
  const network = training.blocks === null ? built : groupLayers(built, training.blocks);
  placeNetwork(network, { device, memoryFormat: 'channelsLast' });
  return network;
}

/** The schedule. Where all layers are taken from another run, `takenLayers` of them, only the last head is left to train. */
export function buildStages(recipe: Recipe, network: Network, takenLayers = 0): Stage[] {
  if (recipe.training.schedule === 'end-to-end') return endToEndStages(network);
  if (recipe.training.schedule === 'simultaneous') return simultaneousStages(network);
  const stages = layerwiseStages(network);
  return takenLayers === stages.length ? [...stages.slice(0, -1), headStage(stages.at(-1)!)] : stages;
}

/** Notes that are shown with every result of the network; of auxiliary heads only where they are trained. */
export function notesOf(
  recipe: Recipe,
  network: Network,
  together: { size: number; parallel: 'data' | 'layers'; replay: number } = { size: 1, parallel: 'data', replay: 0 },
): string[] {
  const { views } = recipe.augmentation;
  const { batchSize, microBatchSize } = recipe.training;
  const isSplit = microBatchSize !== null && microBatchSize < batchSize;
  return [
    ...(trainsAllHeads(recipe.training.schedule) ? network.auxiliaryNotes : []),
    ...network.notes,
    ...(network.classes > MOST_CONFUSED_CLASSES
      ? [`Confusions are not recorded: there are ${network.classes} classes, more than ${MOST_CONFUSED_CLASSES}.`]
      : []),
    ...(views === null
      ? []
      : [
          `${views} augmented ${views === 1 ? 'view' : 'views'} of each image, the same for all layers: the paper's recipe shows a new one in every epoch.`,
        ]),
    ...(together.size === 1
      ? []
      : together.parallel === 'data'
        ? [sharedNote(recipe, together.size, hasBatchNorm(network))]
        : [pipelineNote(together)]),
    ...(isSplit && hasBatchNorm(network)
      ? [
          `Batches of ${batchSize} images in parts of ${microBatchSize}: batch norm takes its statistics of each part, not of the batch, so results differ from those of whole batches.`,
        ]
      : []),
  ];
}

function sharedNote({ training }: Recipe, processes: number, hasNorm: boolean): string {
  const { batchSize, syncBatchNorm } = training;
  const share = batchSize % processes === 0 ? `${batchSize / processes}` : `about ${Math.round(batchSize / processes)}`;
  const note = `${processes} processes trained it together, each on ${share} images of every batch of ${batchSize}`;
  if (!hasNorm) return `${note}.`;
  return syncBatchNorm === 'on'
    ? `${note}; batch norm takes its statistics of the whole batch.`
    : `${note}; batch norm takes its statistics of each process's images, and the running ones are averaged.`;
}

function pipelineNote({ size, replay }: { size: number; replay: number }): string {
  const note = `${size} processes trained it together, each some of its layers, on what the layers below give`;
  return replay === 0
    ? `${note}.`
    : `${note}, and while that had not come, again on the last ${replay === 1 ? 'batch' : `${replay} batches`}: another run gives other results.`;
}

const hasBatchNorm = ({ blocks, heads }: Network): boolean =>
  [...blocks, ...heads]
    .flatMap(modulesIn)
    .some((module) => module instanceof BatchNorm1d || module instanceof BatchNorm2d);

/**
 * Whether training images are mirrored where they are decoded, which costs nothing there: those of files, where no other crop is
 * drawn in between.
 */
export const decoderMirrors = ({ augmentation }: Recipe, part: DatasetPart): boolean =>
  augmentation.horizontalFlip !== false && augmentation.cropPadding === 0 && isImageFiles(part);

/** From the images of a recipe to inputs of its network; without the flip where the images come mirrored. */
export function buildTransforms(
  recipe: Recipe,
  normalization: Dataset['normalization'],
  { isMirrored = false }: { readonly isMirrored?: boolean | undefined } = {},
): { trainTransforms: Transform[]; testTransforms: Transform[] } {
  const { cropPadding, cropPaddingMode, horizontalFlip } = recipe.augmentation;
  const normalized = isVectors(recipe.dataset) ? standardize(normalization) : normalize(normalization);
  return {
    trainTransforms: [
      ...(cropPadding > 0 ? [randomCrop({ padding: cropPadding, mode: cropPaddingMode })] : []),
      ...(horizontalFlip !== false && !isMirrored ? [randomHorizontalFlip()] : []),
      normalized,
    ],
    testTransforms: [normalized],
  };
}
