// What this project takes for the same work as reference/serve.py. The measures have the same names and arguments.
import { readFileSync, writeFileSync } from 'node:fs';
import { batchDraws, DeviceImages, Draws } from '../dist/data/index.js';
import { collectOutputs, confusionMatrix, scoreLogits } from '../dist/evaluation/index.js';
import { RecomputedFeatures } from '../dist/features/features.js';
import { FrozenPrefix } from '../dist/features/frozen-prefix.js';
import { TestFeatures } from '../dist/features/test-features.js';
import { disposeNetwork } from '../dist/models/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../dist/recipe/build.js';
import { overrideRecipe, presetRecipe } from '../dist/recipe/index.js';
import {
  cudaMemoryStats,
  full,
  keep as keepTensor,
  manualSeed,
  ones,
  randn,
  scope,
  synchronize,
} from '../dist/tensor/index.js';
import { AuxiliaryProblem } from '../dist/training/auxiliary-problem.js';
import { EpochMeter } from '../dist/training/meter.js';

/** @import { Device, DType, Tensor } from '../dist/tensor/index.js' */
/** @import { Precision } from '../dist/recipe/precision.js' */

/**
 * What the measures are asked for.
 *
 * @typedef {object} Problem
 * @property {'simcnn-k3' | 'vgg11'} network
 * @property {number} size of the images, pixels a side
 * @property {number} batch
 * @property {Precision} precision
 * @property {Device} device
 * @property {number} [width] VGG-11's; the preset's by default
 * @property {boolean} [cudaGraph]
 * @property {boolean} [end_to_end] all layers as one stage
 *
 * @typedef {Problem & { layer: number }} LayerRequest from 0
 * @typedef {LayerRequest & { train: number, test: number }} EpochRequest and how many images of each
 * @typedef {Problem & { layers: number, width: number, seconds: number }} RateRequest
 * @typedef {{ kind: 'add' | 'add_' | 'backward', repetitions: number, device: Device }} DispatchRequest
 */

export const NORMALIZATION = { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] };

/**
 * Images and labels without meaning: only their number and size matter.
 * @param {number} count
 * @param {number} size
 * @param {Device} device
 */
function randomImages(count, size, device) {
  const images = new Uint8Array(count * 3 * size * size);
  for (let i = 0; i < images.length; i++) images[i] = (Math.imul(i, 2654435761) >>> 13) & 255;
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 10);
  return new DeviceImages({ images, labels, count, channels: 3, height: size, width: size }, device);
}

/** @param {Problem} problem */
export function recipeOf({ network, size, batch, precision, device, end_to_end: endToEnd, width }) {
  const preset = network === 'simcnn-k3' ? 'simcnn-k3' : endToEnd ? 'vgg11-end-to-end' : 'vgg11-layerwise';
  const recipe = presetRecipe(preset, { dataset: size === 32 ? 'cifar10' : 'folder', onCuda: true });
  return overrideRecipe(recipe, {
    dataset: { imageSize: size },
    training: { batchSize: batch },
    precision,
    device,
    ...(network === 'vgg11' ? { model: { dropout: 0, ...(width === undefined ? {} : { width }) } } : {}),
  });
}

/**
 * A network and one of its stages, which `start` makes ready to train.
 * @param {LayerRequest} request
 */
export function stagedNetwork(request) {
  const { layer, device, precision, cudaGraph = false, end_to_end: endToEnd = false } = request;
  manualSeed(0);
  const recipe = recipeOf(request);
  const network = buildNetwork(recipe, 10, device);
  const stage = buildStages(recipe, network)[endToEnd ? 0 : layer];
  const transforms = buildTransforms(recipe, NORMALIZATION);
  return {
    recipe,
    stage,
    transforms,
    start() {
      const problem = new AuxiliaryProblem(stage, { recipe, device, precision, cudaGraph });
      const prefix = new FrozenPrefix(stage, { precision, transforms: transforms.trainTransforms });
      const draws = new Draws({ seed: 1, layer: 0 });
      problem.beginEpoch(0, { inItsMiddle: false });
      return {
        problem,
        /**
         * One step on images that `give` makes, and its loss.
         * @param {() => { images: Tensor, labels: Tensor }} give
         * @param {Int32Array} indices
         */
        step: (give, indices) =>
          scope(() => {
            const batch = () => {
              const { images, labels } = give();
              return { features: prefix.forward(images, batchDraws(draws, 0, indices)), labels };
            };
            return problem.step(indices.length, batch).loss.item();
          }),
        dispose() {
          prefix.dispose();
          problem.dispose();
        },
      };
    },
    dispose: () => disposeNetwork(network),
  };
}

/**
 * What is kept at the moment, of whichever case.
 * @type {{ dispose(): void } | null}
 */
let kept = null;

/**
 * What a case needs, made by `make` once for a request; what another request or case needs lets it go.
 * @template Request
 * @template {{ dispose(): void }} Made
 * @param {(request: Request) => Made} make
 * @returns {(request: Request) => Made}
 */
function keeping(make) {
  /** @type {{ key: string, made: Made } | null} */
  let own = null;
  return (request) => {
    const key = JSON.stringify(request);
    if (own === null || own.made !== kept || own.key !== key) {
      kept?.dispose();
      kept = null;
      own = { key, made: make(request) };
      kept = own.made;
    }
    return own.made;
  };
}

/**
 * Seconds of `work`.
 * @param {Device} device
 * @param {() => unknown} work
 */
async function timed(device, work) {
  synchronize(device);
  const start = performance.now();
  await work();
  synchronize(device);
  return (performance.now() - start) / 1000;
}

/**
 * Nanoseconds an operator, on tensors of 4 elements.
 * @param {DispatchRequest} request
 */
function dispatch({ kind, repetitions, device }) {
  const made = [ones([4], { device }), ones([4], { device })];
  const [a, b] = made;
  // A scope for every hundred operators, about as many as a training step has.
  /** @param {() => void} body */
  const inScopes = (body) => {
    for (let done = 0; done < repetitions; done += 100) scope(() => body());
  };
  if (kind === 'backward') a.requiresGrad = true;
  const work = {
    add: () => {
      for (let i = 0; i < 100; i++) a.add(b);
    },
    add_: () => {
      for (let i = 0; i < 100; i++) a.add_(b);
    },
    backward: () => {
      for (let i = 0; i < 100; i++) a.mul(b).add(b).sum().backward();
    },
  }[kind];
  const start = process.hrtime.bigint();
  inScopes(work);
  const nanoseconds = Number(process.hrtime.bigint() - start) / repetitions;
  for (const tensor of made) tensor.dispose();
  return nanoseconds;
}

/** @param {number} count */
const firstIndices = (count) => Int32Array.from({ length: count }, (_, i) => i);

const keptStep = keeping((/** @type {LayerRequest} */ request) => {
  const { batch, size, device } = request;
  const indices = firstIndices(batch);
  const made = stagedNetwork(request);
  const started = made.start();
  const images = randomImages(2 * batch, size, device);
  const once = () => started.step(() => images.batch(indices), indices);
  once();
  return {
    once,
    dispose() {
      images.dispose();
      started.dispose();
      made.dispose();
    },
  };
});

/**
 * Seconds of one training step.
 * @param {LayerRequest} request
 */
async function step(request) {
  const { once } = keptStep(request);
  once();
  return timed(request.device, once);
}

const keptLayers = keeping((/** @type {Omit<RateRequest, 'seconds'>} */ request) => {
  const { batch, size, device, layers } = request;
  const indices = firstIndices(batch);
  const images = randomImages(2 * batch, size, device);
  const made = Array.from({ length: layers }, (_, layer) => stagedNetwork({ ...request, layer }));
  const started = made.map((one) => one.start());
  return {
    steps: () => {
      for (const { step } of started) step(() => images.batch(indices), indices);
    },
    dispose() {
      images.dispose();
      for (const one of [...started, ...made]) one.dispose();
    },
  };
});

/**
 * Images a second of training steps of all layers in turn, for some seconds.
 * @param {RateRequest} request
 */
async function rate({ seconds, ...request }) {
  const { batch, layers } = request;
  const { steps } = keptLayers(request);
  steps();
  const start = performance.now();
  let rounds = 0;
  while (performance.now() - start < 1000 * seconds) {
    steps();
    rounds++;
    await breathe();
  }
  return (rounds * layers * batch) / ((performance.now() - start) / 1000);
}

/** @type {() => Promise<void>} */
const breathe = () => new Promise((resolve) => setImmediate(resolve));

const keptEpoch = keeping((/** @type {EpochRequest} */ request) => {
  const { size, device, train, test, precision } = request;
  const made = stagedNetwork(request);
  const { problem, dispose } = made.start();
  const [trainImages, testImages] = [randomImages(train, size, device), randomImages(test, size, device)];
  const context = { recipe: made.recipe, precision };
  const { trainTransforms, testTransforms } = made.transforms;
  const trainFeatures = new RecomputedFeatures({ ...context, images: trainImages, transforms: trainTransforms });
  const testFeatures = new TestFeatures({ ...context, images: testImages, transforms: testTransforms }, 8 * 2 ** 30);
  return {
    ...{ made, problem, trainImages, testImages, trainFeatures, testFeatures, isNew: true },
    dispose() {
      testFeatures.dispose();
      void trainFeatures.dispose();
      for (const set of [trainImages, testImages]) set.dispose();
      dispose();
      made.dispose();
    },
  };
});

/**
 * An epoch as the trainer does it: draws, steps, the meter, and the evaluation of the test images. It is one of the many of
 * a layer: what the trainer does once a layer, such as the frozen layers' outputs on the test images, is done before.
 * @param {EpochRequest} request
 */
async function epoch(request) {
  const { batch, device } = request;
  const kept = keptEpoch(request);
  const { made, problem, trainFeatures, testFeatures, trainImages } = kept;
  if (kept.isNew) {
    kept.isNew = false;
    await trainFeatures.begin(made.stage);
    await testFeatures.begin(made.stage, breathe);
    await wholeEpoch(kept, request, Math.ceil(trainImages.count / batch) - 2);
  }
  // A process that has waited for the other side finds its memory cold: a step untimed, on each side.
  for await (const one of trainFeatures.batches({ epoch: 0, batchSize: batch, firstStep: 0 })) {
    scope(() => problem.step(one.indices.length, one.tensors).loss.item());
    break;
  }
  return timed(device, () => wholeEpoch(kept, request, 0));
}

/**
 * @param {ReturnType<typeof keptEpoch>} kept
 * @param {EpochRequest} request
 * @param {number} firstStep
 */
async function wholeEpoch({ made, problem, testImages, trainFeatures, testFeatures }, { batch, device }, firstStep) {
  const meter = new EpochMeter({ everySeconds: device === 'cpu' ? 0 : 10 });
  problem.beginEpoch(0, { inItsMiddle: true });
  let done = firstStep;
  for await (const one of trainFeatures.batches({ epoch: 0, batchSize: batch, firstStep })) {
    scope(() => {
      const { loss, correct } = problem.step(one.indices.length, one.tensors);
      meter.add(done++, one.indices.length, loss, correct);
    });
    await breathe();
  }
  meter.flush();
  meter.dispose();
  problem.endEpoch();
  const logits = await collectOutputs(
    testFeatures.batches(made.recipe.evaluation.batchSize),
    (features) => problem.predict(features()),
    { breathe },
  );
  scoreLogits(logits, testImages);
  confusionMatrix(logits, testImages.labels, 10);
  logits.dispose();
}

/**
 * Bytes of this process's memory, as Linux names them.
 * @param {'VmRSS' | 'VmHWM'} name
 */
function resident(name) {
  const [, kibibytes] = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  if (kibibytes === undefined) throw new Error(`/proc/self/status does not tell ${name}`);
  return 1024 * Number(kibibytes);
}

/** @param {Device} device */
function cudaMemory(device) {
  const stats = cudaMemoryStats(device);
  if (stats === undefined) throw new Error('this LibTorch does not tell the memory of a GPU');
  return stats;
}

/**
 * Peak bytes of a training step above what the network and the images take: activations, gradients and momentum. For a
 * process of its own, where a small step of the same kind has been made before.
 * @param {LayerRequest} request
 */
async function memory(request) {
  const { batch, size, device } = request;
  /**
   * @param {ReturnType<typeof stagedNetwork>} made
   * @param {number} count
   * @param {number} side
   */
  const stepOf = (made, count, side) => {
    const images = scope(() => keepTensor(full([count, 3, side, side], 100, { dtype: 'uint8', device }).mul(1)));
    const labels = full([count], 3, { dtype: 'int64', device });
    return () => {
      const started = made.start();
      started.step(() => ({ images, labels }), firstIndices(count));
      started.dispose();
    };
  };
  const warm = stagedNetwork({ ...request, size: 32, layer: 0 });
  stepOf(warm, 2, 32)();
  warm.dispose();

  const once = stepOf(stagedNetwork(request), batch, size);
  if (device !== 'cpu') {
    const before = cudaMemory(device).allocatedBytes;
    once();
    return cudaMemory(device).peakAllocatedBytes - before;
  }
  writeFileSync('/proc/self/clear_refs', '5');
  const before = resident('VmRSS');
  once();
  return resident('VmHWM') - before;
}

/** @type {Record<Precision, DType>} */
const DTYPES = { bf16: 'bfloat16', fp16: 'float16', fp32: 'float32' };

/**
 * Operations a second of a product of two square matrices: the best of sixty.
 * @param {Pick<Problem, 'size' | 'precision' | 'device'>} request
 */
function matrixRate({ size, precision, device }) {
  const dtype = DTYPES[precision];
  return scope(() => {
    const [a, b] = [randn([size, size], { device }).to({ dtype }), randn([size, size], { device }).to({ dtype })];
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 60; i++) {
      synchronize(device);
      const start = performance.now();
      a.matmul(b).dispose();
      synchronize(device);
      best = Math.min(best, (performance.now() - start) / 1000);
    }
    return (2 * size ** 3) / best;
  });
}

export const measures = { dispatch, rate, step, epoch, memory, matrixRate };
