// Accuracy against cost over thresholds, and the threshold that is worth taking.
import { type Dataset, type DatasetPart, datasetOf, identifyPart, slicePart } from '../data/index.js';
import type { LayerMultiplyAdds } from '../models/index.js';
import { requireOptions } from '../options.js';
import { RecipeError } from '../recipe/index.js';
import type { EarlyExitPoint, EarlyExitRecord } from '../run/index.js';
import { shown } from '../schema.js';
import { getThreads } from '../tensor/index.js';
import { chooseExits, chooseThreshold, THRESHOLDS } from './choose-exits.js';
import { exitLayersOf } from './early-exit.js';
import { measureExitTimes, TIMED_BATCH } from './exit-times.js';
import { type ExitCosts, type HeadAnswer, headAnswers, summarizeExits } from './head-answers.js';
import type { TrainedRun } from './trained-run.js';

/** What of early exit is looked at, and what it may lose. */
export interface EarlyExitOptions {
  /** Layers, from 0, that images may leave at; default: those that make the mean cost least; all, with a LibTorch older than 2.4, which counts no multiply-adds. */
  readonly layers?: readonly number[] | undefined;
  /** Points of top-1 that may be lost on the images that the threshold is chosen on; default: 0.5. */
  readonly tolerance?: number | undefined;
  /** Test images: the first so many; default: all. */
  readonly testLimit?: number | undefined;
  /** Where the images lie now. */
  readonly dataDir?: string | undefined;
  /** Called where all test images are read and are not those that the run was tested on, with the difference in words. */
  readonly onChanges?: ((changes: string) => void) | undefined;
}

const OPTIONS: readonly (keyof EarlyExitOptions)[] = ['layers', 'tolerance', 'testLimit', 'dataDir', 'onChanges'];

/**
 * Evaluates early exit of a run on its own test images. Layers and threshold are chosen on images that the run was not trained on: of
 * training images those beyond its `trainLimit`, at most as many as there are test images; where there are none, every other test image,
 * and all figures are then of the others. Throws RunDirectoryError for a run whose lower layers have no heads, RecipeError for options
 * out of range, and DataError.
 */
export async function evaluateEarlyExit(run: TrainedRun, options: EarlyExitOptions = {}): Promise<EarlyExitRecord> {
  requireOptions(options, 'options', (problem) => new RecipeError(`evaluateEarlyExit: ${problem}`), OPTIONS);
  const { layers, tolerance = 0.5, testLimit, dataDir, onChanges } = options;
  if (!(typeof tolerance === 'number' && tolerance >= 0 && tolerance <= 100)) {
    throw new RecipeError(`tolerance: expected points of top-1 from 0 to 100, got ${shown(tolerance)}`);
  }
  const asked = exitLayersOf(run, layers);
  const { chosenOn, chosen: choosing, tested, images } = await answersOf(run, { testLimit, dataDir, onChanges });
  const costs = new Costs(run);
  const last = run.layers - 1;
  const bounds = { wholeTop1: top1Of(choosing, last), tolerance, costsOf: costs.of };
  const choice =
    layers === undefined && costs.areMultiplyAdds
      ? chooseExits(choosing, run.layers, bounds)
      : chooseThreshold(choosing, asked, bounds);
  const times = await measureExitTimes(run, images, { layers: choice.layers, thresholds: THRESHOLDS });
  return {
    ...{ layers: choice.layers, threshold: choice.threshold, tolerance, images: tested.length },
    chosenOn: { part: chosenOn, images: choosing.length, top1: choice.top1, wholeTop1: bounds.wholeTop1 },
    whole: {
      top1: top1Of(tested, last),
      multiplyAdds: costs.multiplyAdds(costs.of([last])[0]!),
      milliseconds: times.whole,
    },
    points: curveOf(tested, choice.layers, costs).map((point, i) => ({
      ...point,
      milliseconds: times.atThresholds[i]!,
    })),
    timing: { batchSize: TIMED_BATCH, device: run.device, precision: run.precision, threads: getThreads() },
  };
}

/** A point a threshold. */
function curveOf(
  answers: readonly HeadAnswer[],
  layers: readonly number[],
  costs: Costs,
): Omit<EarlyExitPoint, 'milliseconds'>[] {
  return THRESHOLDS.map((threshold) => {
    const { top1, exits, cost } = summarizeExits(answers, { layers, threshold, costs: costs.of(layers) });
    const through = exits.reduce((sum, count, exit) => sum + count * (layers[exit]! + 1), 0);
    return { threshold, top1, exits, meanLayers: through / answers.length, multiplyAdds: costs.multiplyAdds(cost) };
  });
}

const top1Of = (answers: readonly HeadAnswer[], layer: number): number =>
  (100 * answers.filter(({ isRight }) => isRight[layer]).length) / answers.length;

/** Multiply-adds of images that leave; where LibTorch cannot count them, the blocks that they go through. */
class Costs {
  readonly #byLayer: readonly LayerMultiplyAdds[];
  readonly areMultiplyAdds: boolean;

  constructor(run: TrainedRun) {
    const counted = run.multiplyAdds();
    this.areMultiplyAdds = counted !== null;
    this.#byLayer = counted ?? run.network.blocks.map(() => ({ block: 1, head: 0 }));
  }

  /** Of an image that leaves at each of some layers: of the blocks up to it, and of the heads that were asked. */
  readonly of = (layers: readonly number[]): ExitCosts =>
    layers.map((layer, i) => {
      const blocks = this.#byLayer.slice(0, layer + 1).reduce((sum, { block }) => sum + block, 0);
      return layers.slice(0, i + 1).reduce((sum, asked) => sum + this.#byLayer[asked]!.head, blocks);
    });

  /** Null for a cost that is none. */
  multiplyAdds(cost: number): number | null {
    return this.areMultiplyAdds ? cost : null;
  }
}

interface Answers {
  readonly chosenOn: 'train' | 'test';
  /** What is chosen on, and what is told of. */
  readonly chosen: readonly HeadAnswer[];
  readonly tested: readonly HeadAnswer[];
  /** The test images. */
  readonly images: DatasetPart;
}

async function answersOf(
  run: TrainedRun,
  { testLimit, dataDir, onChanges }: Pick<EarlyExitOptions, 'testLimit' | 'dataDir' | 'onChanges'>,
): Promise<Answers> {
  const limits = { ...(testLimit === undefined ? {} : { testLimit }), ...(dataDir === undefined ? {} : { dataDir }) };
  const { dataset, heldOut } = await loadHeldOut(run, limits);
  const changes = testLimit === undefined ? await run.testChanges(dataset) : null;
  if (changes !== null) onChanges?.(changes);
  const tested = await headAnswers(run, dataset.test);
  const images = dataset.test;
  if (heldOut !== null) return { chosenOn: 'train', chosen: await headAnswers(run, heldOut), tested, images };
  if (tested.length < 2) {
    throw new RecipeError(
      `testLimit: expected at least 2 test images where none of training were held out, got ${tested.length}`,
    );
  }
  const ofParity = (parity: number): HeadAnswer[] => tested.filter((_, i) => i % 2 === parity);
  return { chosenOn: 'test', chosen: ofParity(0), tested: ofParity(1), images };
}

/** The run's data set, and training images that it was not trained on; null where there are none, or they cannot be known. */
async function loadHeldOut(
  run: TrainedRun,
  limits: { testLimit?: number; dataDir?: string },
): Promise<{ dataset: Dataset; heldOut: DatasetPart | null }> {
  const { data } = run.config;
  const { name, trainLimit: limit } = run.recipe.dataset;
  // Where all images were trained on there are no others, unless the program can draw them.
  const mayHaveOthers = limit !== null || datasetOf(name).source === 'program';
  if (data === undefined || !mayHaveOthers) {
    return { dataset: await run.loadDataset({ ...limits, testOnly: true }), heldOut: null };
  }
  const trained = data.train.count;
  const trainLimit = trained + (limits.testLimit ?? data.test.count);
  const dataset = await run.loadDataset({ ...limits, trainLimit });
  const known = slicePart(dataset.train, 0, trained);
  const isSame = known !== null && (await identifyPart(known, dataset.classes.length)).digest === data.train.digest;
  const isLeft = dataset.train.count > trained;
  return { dataset, heldOut: isSame && isLeft ? slicePart(dataset.train, trained) : null };
}
