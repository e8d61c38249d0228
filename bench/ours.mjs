// What this project takes for the same work as reference/serve.py. The measures have the same names and arguments.
import { readFileSync, writeFileSync } from 'node:fs';
import { batchDraws, DeviceImages, Draws } from '../dist/data/index.js';
import { confusionMatrix, predictAll, scoreLogits } from '../dist/evaluation/index.js';
import { disposeNetwork } from '../dist/models/index.js';
import { full, manualSeed, ones, scope, synchronize } from '../dist/tensor/index.js';
import { AuxiliaryProblem } from '../dist/training/auxiliary-problem.js';
import { buildNetwork, buildStages, buildTransforms } from '../dist/training/build.js';
import { overrideRecipe, presetRecipe } from '../dist/training/index.js';
import { EpochMeter } from '../dist/training/meter.js';

const NORMALIZATION = { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] };

/** Images and labels without meaning: only their number and size matter. */
function randomImages(count, size, device) {
  const images = new Uint8Array(count * 3 * size * size);
  for (let i = 0; i < images.length; i++) images[i] = (Math.imul(i, 2654435761) >>> 13) & 255;
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 10);
  return new DeviceImages({ images, labels, count, channels: 3, height: size, width: size }, device);
}

function recipeOf({ network, size, batch, precision, device, endToEnd }) {
  const preset = network === 'simcnn-k3' ? 'simcnn-k3' : endToEnd ? 'vgg11-end-to-end' : 'vgg11-layerwise';
  const recipe = presetRecipe(preset, { dataset: size === 32 ? 'cifar10' : 'folder', onCuda: true });
  return overrideRecipe(recipe, {
    dataset: { imageSize: size },
    training: { batchSize: batch },
    precision,
    device,
    ...(network === 'vgg11' ? { model: { dropout: 0 } } : {}),
  });
}

/** One stage of a network, ready to train. */
function problemOf(request) {
  const { layer, device, precision, end_to_end: endToEnd = false } = request;
  manualSeed(0);
  const recipe = recipeOf({ ...request, endToEnd });
  const network = buildNetwork(recipe, 10, device);
  const stage = buildStages(recipe, network)[endToEnd ? 0 : layer];
  const problem = new AuxiliaryProblem(stage, { recipe, device, precision, ...buildTransforms(recipe, NORMALIZATION) });
  problem.beginEpoch(0, { inItsMiddle: false });
  return {
    problem,
    recipe,
    dispose() {
      problem.dispose();
      disposeNetwork(network);
    },
  };
}

let kept = null;

/** What a case needs is made once; another case's is let go. */
function keep(key, make) {
  const name = JSON.stringify(key);
  if (kept?.name !== name) {
    kept?.made.dispose();
    kept = { name, made: make() };
  }
  return kept.made;
}

async function timed(device, work) {
  synchronize(device);
  const start = performance.now();
  await work();
  synchronize(device);
  return (performance.now() - start) / 1000;
}

function dispatch({ kind, repetitions, device = 'cpu' }) {
  const made = [ones([4], { device }), ones([4], { device })];
  const [a, b] = made;
  // A scope for every hundred operators, about as many as a training step has.
  const inScopes = (count, body) => {
    for (let done = 0; done < count; done += 100) scope(() => body());
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
  inScopes(repetitions, work);
  const nanoseconds = Number(process.hrtime.bigint() - start) / repetitions;
  for (const tensor of made) tensor.dispose();
  return nanoseconds;
}

async function step(request) {
  const { batch, size, device } = request;
  const { problem, images, places, draws } = keep(['step', request], () => {
    const made = problemOf(request);
    const images = randomImages(2 * batch, size, device);
    const places = Int32Array.from({ length: batch }, (_, i) => i);
    const draws = new Draws({ seed: 1, layer: 0 });
    for (let i = 0; i < 2; i++) scope(() => made.problem.step(images.batch(places), batchDraws(draws, i, places)));
    return {
      ...made,
      images,
      places,
      draws,
      dispose() {
        images.dispose();
        made.dispose();
      },
    };
  });
  const once = () => scope(() => problem.step(images.batch(places), batchDraws(draws, 0, places)).loss.item());
  once();
  return timed(device, once);
}

/** As the trainer does it: draws, steps, the meter, and the evaluation of the test images. */
async function epoch(request) {
  const { batch, size, device, train, test } = request;
  const { problem, recipe, sets } = keep(['epoch', request], () => {
    const made = problemOf(request);
    const sets = [randomImages(train, size, device), randomImages(test, size, device)];
    const places = Int32Array.from({ length: batch }, (_, i) => i);
    const draws = new Draws({ seed: 1, layer: 0 });
    for (let i = 0; i < 2; i++) scope(() => made.problem.step(sets[0].batch(places), batchDraws(draws, i, places)));
    return {
      ...made,
      sets,
      dispose() {
        for (const set of sets) set.dispose();
        made.dispose();
      },
    };
  });
  // A process that has waited for the other side finds its memory cold: a step untimed, on each side.
  const places = Int32Array.from({ length: batch }, (_, i) => i);
  const draws = new Draws({ seed: 1, layer: 0 });
  scope(() => problem.step(sets[0].batch(places), batchDraws(draws, 0, places)).loss.item());
  return timed(device, () => wholeEpoch(problem, recipe, sets, batch, device));
}

async function wholeEpoch(problem, recipe, [trainImages, testImages], batchSize, device) {
  const draws = new Draws({ seed: 1, layer: 0 });
  const order = draws.permutation(0, trainImages.count);
  const meter = new EpochMeter({ interval: device === 'cpu' ? 1 : 50 });
  problem.beginEpoch(0, { inItsMiddle: true });
  let done = 0;
  for await (const batch of trainImages.trainingBatches({ epoch: 0, order, batchSize, firstStep: 0, draws })) {
    scope(() => {
      const { loss, correct } = problem.step(batch.tensors(), batchDraws(draws, 0, batch.places));
      meter.add(done++, batch.places.length, loss, correct);
    });
    await new Promise((resolve) => setImmediate(resolve));
  }
  meter.flush();
  meter.dispose();
  problem.endEpoch();
  const logits = await predictAll(testImages, (images) => problem.predict(images), {
    batchSize: recipe.evaluation.batchSize,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
  });
  scoreLogits(logits, testImages);
  confusionMatrix(logits, testImages.labels, 10);
  logits.dispose();
}

const resident = (name) =>
  1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))[1]);

/** Peak bytes of a step above its start, of this process; the second step, when momentum is there. */
async function memory(request) {
  const { batch, size, device } = request;
  const { problem } = problemOf({ ...request, precision: 'fp32' });
  const images = scope(() => full([batch, 3, size, size], 100, { dtype: 'uint8', device }).mul(1));
  const labels = full([batch], 3, { dtype: 'int64', device });
  const draws = new Draws({ seed: 1, layer: 0 });
  const places = Int32Array.from({ length: batch }, (_, i) => i);
  const once = () => scope(() => problem.step({ images, labels }, batchDraws(draws, 0, places)).loss.item());
  once();
  problem.optimizer.zeroGrad();
  writeFileSync('/proc/self/clear_refs', '5');
  const start = resident('VmRSS');
  once();
  return resident('VmHWM') - start;
}

export const measures = { dispatch, step, epoch, memory };
