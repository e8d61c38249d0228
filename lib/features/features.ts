// What a stage reads: the outputs of its frozen layers, computed from the images whenever they are needed.
import { batchDraws, Draws, type ImageSource, type Transform } from '../data/index.js';
import { localProblems, type Stage } from '../models/index.js';
import type { Precision, Recipe } from '../recipe/index.js';
import type { Tensor } from '../tensor/index.js';
import { FrozenPrefix } from './frozen-prefix.js';

/** One batch of what a stage reads. */
export interface FeatureBatch {
  /** The indices of the images in the data set. */
  readonly indices: Int32Array;
  /**
   * Features [length, ...], such as [length, channels, height, width], and labels int64 [length] on the device, of the batch's
   * images from `start` on. Call it in a scope.
   */
  tensors(start: number, length: number): { readonly features: Tensor; readonly labels: Tensor };
}

export interface EpochPass {
  readonly epoch: number;
  readonly batchSize: number;
  /** The batch to begin with, from 0. */
  readonly firstStep: number;
  /** Which images of a batch of `count` are given; default: all. As many of batches of one size, and no more of a smaller one. */
  readonly shareOf?: ShareOf | undefined;
}

/** Consecutive ones of several: `length` from `start` on. */
export interface Share {
  readonly start: number;
  readonly length: number;
}

/** The share of `count`. */
export type ShareOf = (count: number) => Share;

/** An order of images and the size of its batches: where a share of each batch is given, the order of those, and their number. */
export function givenOf(
  order: Int32Array,
  { batchSize, shareOf }: EpochPass,
): { order: Int32Array; batchSize: number } {
  if (shareOf === undefined) return { order, batchSize };
  const shares: Int32Array[] = [];
  for (let first = 0; first < order.length; first += batchSize) {
    const { start, length } = shareOf(Math.min(batchSize, order.length - first));
    shares.push(order.subarray(first + start, first + start + length));
  }
  const given = new Int32Array(shares.reduce((sum, { length }) => sum + length, 0));
  let filled = 0;
  for (const share of shares) {
    given.set(share, filled);
    filled += share.length;
  }
  return { order: given, batchSize: shares[0]!.length };
}

/** Called between pieces of work: lets other work run, and throws to stop. */
export type Pause = () => Promise<void>;

/** The training features of one stage after another, in the order of the stages. */
export interface TrainingFeatures {
  /** Prepares for a stage. Its frozen layers no longer change. */
  begin(stage: Stage, pause: Pause): Promise<void>;
  /** The batches of an epoch of the stage that was begun, in the epoch's order. */
  batches(pass: EpochPass): AsyncIterable<FeatureBatch>;
  dispose(): Promise<void>;
}

export interface FeatureContext {
  readonly recipe: Recipe;
  readonly precision: Precision;
  readonly images: ImageSource;
  /** From an image to an input of the network. */
  readonly transforms: readonly Transform[];
  /** Where it is aborted, a pause stops the run. */
  readonly signal?: AbortSignal | undefined;
}

/** The order of the images in an epoch of a layer: its own, or with shared draws that of all layers. */
export function epochOrder(recipe: Recipe, layer: number, epoch: number, count: number): Int32Array {
  const { sharedDraws } = recipe.augmentation;
  return new Draws({ seed: recipe.seed, ...(sharedDraws ? {} : { layer }) }).permutation(epoch, count);
}

/** Which view an epoch shows: its own, or with a number of views each of them in turn. */
export function viewOf(recipe: Recipe, epoch: number): number {
  const { views } = recipe.augmentation;
  return views === null ? epoch : epoch % views;
}

/**
 * What the random views of an epoch are drawn from. Each epoch has new views; with a number of views, one of these. Each layer
 * has its own, except with a number of views or shared draws.
 */
export function viewDraws(recipe: Recipe, layer: number, epoch: number): { draws: Draws; view: number } {
  const { sharedDraws, views } = recipe.augmentation;
  const isShared = sharedDraws || views !== null;
  return {
    draws: new Draws({
      seed: recipe.seed,
      ...(isShared ? {} : { layer }),
      alternatingFlips: recipe.augmentation.horizontalFlip === 'alternating',
    }),
    view: viewOf(recipe, epoch),
  };
}

/** Every epoch sends its images through the frozen layers: nothing is kept, and each epoch may see new views. */
export class RecomputedFeatures implements TrainingFeatures {
  readonly #context: FeatureContext;
  #stage: Stage | null = null;
  #prefix: FrozenPrefix | null = null;

  constructor(context: FeatureContext) {
    this.#context = context;
  }

  async begin(stage: Stage): Promise<void> {
    this.#prefix?.dispose();
    this.#stage = stage;
    this.#prefix = new FrozenPrefix(stage, this.#context);
  }

  async *batches(pass: EpochPass): AsyncGenerator<FeatureBatch> {
    const { epoch, firstStep } = pass;
    const { recipe, images } = this.#context;
    const { layer } = localProblems(this.#stage!)[0]!;
    const prefix = this.#prefix!;
    const { order, batchSize } = givenOf(epochOrder(recipe, layer, epoch, images.count), pass);
    const { draws, view } = viewDraws(recipe, layer, epoch);
    for await (const batch of images.trainingBatches({ epoch: view, order, batchSize, firstStep, draws })) {
      yield {
        indices: batch.indices,
        tensors: (start, length) => {
          const { images, labels } = batch.tensors(start, length);
          const indices = batch.indices.subarray(start, start + length);
          return { features: prefix.forward(images, batchDraws(draws, view, indices)), labels };
        },
      };
    }
  }

  async dispose(): Promise<void> {
    this.#prefix?.dispose();
    this.#prefix = null;
  }
}
