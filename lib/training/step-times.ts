// How long a run will take, from a few real steps of each stage.
import { type BatchDraws, batchDraws, Draws } from '../data/index.js';
import { FrozenPrefix } from '../features/index.js';
import { disposeNetwork, type NetworkBuilder, type Stage } from '../models/index.js';
import {
  anyNormalization,
  buildNetwork,
  buildStages,
  buildTransforms,
  inputDtypeOf,
  inputShapeOf,
  type Precision,
  type Recipe,
} from '../recipe/index.js';
import { type Device, isCuda, keep, scope, synchronize, type Tensor, tensor } from '../tensor/index.js';
import { AuxiliaryProblem } from './auxiliary-problem.js';

/** An estimate, of a machine that has nothing else to do. */
export interface LayerTime {
  /** From 0; end to end the last. */
  readonly layer: number;
  /** Of all its epochs, with the evaluations, and with reading the images where that was measured. */
  readonly seconds: number;
  /** Those of `seconds` that reading images adds. */
  readonly readingSeconds: number;
  /** Images a second that it takes, where reading them costs nothing; null where it reads kept features alone. */
  readonly imagesPerSecond: number | null;
  /** Of one training step, with its features. */
  readonly stepSeconds: number;
  /** Images of the steps that were timed: fewer than a batch where a batch takes long. */
  readonly imagesTimed: number;
}

export interface TimesOptions {
  /** With the counts of its images. */
  readonly recipe: Recipe;
  readonly classes: number;
  /** Of a network of one's own. */
  readonly builder?: NetworkBuilder | undefined;
  readonly device: Device;
  readonly precision: Precision;
  /** Whether images come mirrored from their decoder, as `decoderMirrors` says; default: false. */
  readonly isMirrored?: boolean;
  /** Layers that come from another run, and the index of the first stage that is trained. */
  readonly takenLayers?: number | undefined;
  readonly firstStage?: number;
  /** Whether the features of the views are kept. */
  readonly isKept: boolean;
  /** Bytes of the device's memory in which features of the test images may stay; default: none. */
  readonly testFeatureBytes?: number;
  /** Images a second that are read from files, while nothing else computes; null, the default, where they are at hand. */
  readonly readPerSecond?: number | null;
}

const [WARM, TIMED] = [2, 3];
/** For the steps of all stages together, in equal parts. Where two images take longer than a stage's part, they are timed once. */
const SECONDS = 12;
const FIRST_IMAGES = 2;

/**
 * Times steps of each stage that will be trained, on random images, and scales them to the run. Checkpoints and the ensemble are
 * not in it.
 */
export function measureStepTimes(options: TimesOptions): LayerTime[] {
  const { recipe, classes, device, takenLayers, firstStage = 0 } = options;
  const network = buildNetwork(recipe, classes, device, options.builder);
  try {
    const stages = buildStages(recipe, network, takenLayers);
    const times: LayerTime[] = [];
    let before: ImageSeconds | null = null;
    const trained = stages.slice(firstStage);
    for (const stage of trained) {
      const image = timeStage(stage, { ...options, seconds: SECONDS / trained.length });
      times.push(scale(stage, image, { ...options, before }));
      before = stage.frozen.length > 0 ? image : null;
    }
    return times;
  } finally {
    disposeNetwork(network);
  }
}

/** Seconds an image: making its features, learning from them, predicting its class from them. */
interface ImageSeconds {
  readonly features: number;
  readonly step: number;
  readonly evaluation: number;
  /** Bytes of its features. */
  readonly featureBytes: number;
  readonly timed: number;
}

/** `before`: of the stage before, where that reads features of frozen layers too. */
function scale(
  { layer, frozen }: Stage,
  image: ImageSeconds,
  options: TimesOptions & { before: ImageSeconds | null },
): LayerTime {
  const { recipe, isKept, before, testFeatureBytes = 0 } = options;
  const { epochs, batchSize } = recipe.training;
  const [train, test] = [recipe.dataset.trainCount!, recipe.dataset.testCount!];
  // Features that are kept are made once, or once for each view, from those of the layer below where these are kept too.
  const keeps = isKept && frozen.length > 0;
  const keepsTest = frozen.length > 0 && image.featureBytes * test <= testFeatureBytes;
  const isFromBelow = keeps && before !== null;
  const isTestFromBelow = keepsTest && before !== null && before.featureBytes * test <= testFeatureBytes;
  const added = Math.max(0, image.features - (before?.features ?? 0));
  const passes = train * (keeps ? recipe.augmentation.views! : epochs);
  const testPasses = test * (keepsTest ? 1 : epochs);
  const computing = passes * (isFromBelow ? added : image.features) + epochs * train * image.step;
  const evaluation = testPasses * (isTestFromBelow ? added : image.features) + epochs * test * image.evaluation;
  const reading =
    readingSeconds(isFromBelow ? 0 : passes, computing, options) +
    readingSeconds(isTestFromBelow ? 0 : testPasses, evaluation, options);
  return {
    layer,
    seconds: computing + evaluation + reading,
    readingSeconds: reading,
    stepSeconds: Math.min(batchSize, train) * (image.step + (keeps ? 0 : image.features)),
    imagesPerSecond: isFromBelow ? null : 1 / (image.features + (keeps ? 0 : image.step)),
    imagesTimed: image.timed,
  };
}

/** What reading adds to computing. On the CPU both take the same cores; beside a GPU the slower of the two counts. */
function readingSeconds(images: number, computing: number, { readPerSecond = null, device }: TimesOptions): number {
  if (readPerSecond === null) return 0;
  const reading = images / readPerSecond;
  return isCuda(device) ? Math.max(0, reading - computing) : reading;
}

function timeStage(stage: Stage, options: TimesOptions & { seconds: number }): ImageSeconds {
  const { recipe, device, precision, isMirrored, seconds } = options;
  const { trainCount } = recipe.dataset;
  const batch = Math.min(recipe.training.batchSize, trainCount!);
  const { trainTransforms: transforms } = buildTransforms(recipe, anyNormalization(recipe), { isMirrored });
  const problem = new AuxiliaryProblem(stage, { recipe, device, precision });
  const prefix = new FrozenPrefix(stage, { precision, transforms });
  const draws = new Draws({ seed: recipe.seed });
  const drawsOf = (count: number): BatchDraws =>
    batchDraws(
      draws,
      0,
      Int32Array.from({ length: count }, (_, i) => i),
    );
  const clock = (work: () => unknown): number => {
    const start = performance.now();
    scope(() => void work());
    if (isCuda(device)) synchronize(device);
    return (performance.now() - start) / 1000;
  };
  const learn = (features: Tensor, count: number): void => {
    const labels = tensor(new Int32Array(count), { device });
    problem.step(count, (start, length) => ({
      features: features.narrow(0, start, length),
      labels: labels.narrow(0, start, length),
    }));
  };
  const median = (work: () => unknown, warm: number, rounds: number): number => {
    for (let i = 0; i < warm; i++) clock(work);
    return Array.from({ length: rounds }, () => clock(work)).sort((a, b) => a - b)[Math.floor(rounds / 2)]!;
  };
  const make = (count: number): Tensor => {
    const shape = [count, ...inputShapeOf(recipe)];
    const { integers } = drawsOf(shape.reduce((product, size) => product * size));
    const values = Uint8Array.from(integers(1, 256));
    return scope(() => keep(tensor(values, { shape, device }).to({ dtype: inputDtypeOf(recipe) })));
  };
  const timed = <T>(count: number, measure: (images: Tensor, features: Tensor) => T): T => {
    using images = make(count);
    using features = scope(() => keep(prefix.forward(images, drawsOf(count))));
    return measure(images, features);
  };
  try {
    problem.beginEpoch(0, { inItsMiddle: false });
    // The weights stay as they are: a few random images are soon learnt by heart, and gradients that have become denormal numbers are
    // multiplied a hundred times slower.
    problem.optimizer.learningRate = 0;
    const few = Math.min(FIRST_IMAGES, batch);
    // As many images as time allows: their number doubles while all rounds of twice as many would be done in time.
    let count = few;
    let fewSeconds = 0;
    for (;;) {
      const once = timed(count, (images, features) => {
        if (count === few) clock(() => learn(features, count));
        const step = clock(() => learn(features, count));
        if (count === few) fewSeconds = step;
        return step + clock(() => prefix.forward(images, drawsOf(count)));
      });
      if (count === batch || once * 2 * (WARM + TIMED) > seconds) break;
      count = Math.min(batch, 2 * count);
    }
    const [warm, rounds] = count > few ? [WARM, TIMED] : [0, 1];
    return timed(count, (images, features) => {
      const step = median(() => learn(features, count), warm, rounds);
      problem.endEpoch();
      return {
        step: stepOfBatch(batch, { count, seconds: step }, { count: few, seconds: fewSeconds }) / batch,
        features: median(() => prefix.forward(images, drawsOf(count)), Math.min(1, warm), rounds) / count,
        evaluation: median(() => problem.predict(features), Math.min(1, warm), rounds) / count,
        featureBytes: features.byteLength / count,
        timed: count,
      };
    });
  } finally {
    problem.dispose();
    prefix.dispose();
  }
}

interface TimedStep {
  readonly count: number;
  readonly seconds: number;
}

/** Part of a step does not grow with its images, such as the update of many weights: two batch sizes tell how much. */
function stepOfBatch(batch: number, larger: TimedStep, smaller: TimedStep): number {
  if (larger.count === smaller.count) return (larger.seconds * batch) / larger.count;
  const anImage = Math.max(0, (larger.seconds - smaller.seconds) / (larger.count - smaller.count));
  return larger.seconds + anImage * (batch - larger.count);
}
