// Predictors of networks of one's own: in a module, on vectors, failing in all ways that a network can.
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PredictorInput } from '../../lib/predictor/index.js';
import { temporaryFolder } from '../training/runs.js';
import { closeAfterEachTest, computing, LIBRARY, library, open, Predictor } from './predictors.js';

const at = temporaryFolder();
closeAfterEachTest();

const { overrideRecipe, presetRecipe, TrainedRun, train } = library;
const module = pathToFileURL(at('trap.mjs'));

/** A network that throws at a value of 255 and ends its thread at one of 254, which its training images do not have. */
const TRAP = `
import { Flatten, Generator, Linear, Module, Sequential, defaultInit, layeredNetwork } from ${JSON.stringify(LIBRARY)};
class Trap extends Module {
  forward(x) {
    if (x.device !== 'meta') {
      const largest = Math.round(255 * x.amax().item());
      if (largest === 255) throw new TypeError('it was trapped');
      if (largest === 254) process.exit(7);
    }
    return x.mul(1);
  }
}
export function network({ classes, inputShape }) {
  const generator = Generator.create({ seed: 1 });
  const init = defaultInit(generator);
  const block = new Sequential([['trap', new Trap()], ['flatten', new Flatten()], ['linear', new Linear({ inFeatures: 16, outFeatures: 6, init })]]);
  const head = new Linear({ inFeatures: 6, outFeatures: classes, init });
  generator.dispose();
  return layeredNetwork({ classes, inputShape, blocks: [block], heads: [head] });
}
const part = { images: Uint8Array.from({ length: 8 * 16 }, (_, i) => (37 * i) % 200), labels: [0, 1, 0, 1, 0, 1, 0, 1] };
export const data = () => ({
  classes: ['a', 'b'], imageShape: [1, 4, 4], normalization: { mean: [0], std: [1] }, train: part, test: part,
});
`;

const VECTORS = `
import { Generator, Linear, ReLU, Sequential, defaultInit, layeredNetwork } from ${JSON.stringify(LIBRARY)};
export function network({ classes, inputShape }) {
  const generator = Generator.create({ seed: 1 });
  const init = defaultInit(generator);
  const block = new Sequential([['linear', new Linear({ inFeatures: 3, outFeatures: 5, init })], ['relu', new ReLU()]]);
  const head = new Linear({ inFeatures: 5, outFeatures: classes, init });
  generator.dispose();
  return layeredNetwork({ classes, inputShape, blocks: [block], heads: [head] });
}
const part = { vectors: Float32Array.from({ length: 24 }, (_, i) => (7 * i) % 5), labels: [0, 1, 0, 1, 0, 1, 0, 1] };
export const data = () => ({ classes: ['a', 'b'], vectorLength: 3, train: part, test: part });
`;

const image = (value: number): PredictorInput => ({
  pixels: new Uint8Array(16).fill(value),
  imageShape: [1, 4, 4],
});

beforeAll(async () => {
  writeFileSync(at('trap.mjs'), TRAP);
  const own = presetRecipe('own', { dataset: 'own', onCuda: false });
  const recipe = overrideRecipe(own, {
    training: { epochs: 1, milestones: [], batchSize: 4 },
    augmentation: { cropPadding: 0, horizontalFlip: false },
    ...{ device: 'cpu', precision: 'fp32', threads: 1 },
  });
  await train({ recipe, module, out: at('trap') });
});

describe('a network of a module', () => {
  it('answers where the module is given, and is refused where it is not', async () => {
    const predictor = await open(at('trap'), { module });
    const { predictions } = await predictor.classify(image(9));
    using run = await TrainedRun.open(at('trap'), { module });
    const probabilities = library.scope(() => {
      const pixels = library.tensor(new Uint8Array(16).fill(9), { shape: [1, 1, 4, 4] });
      return [...run.logits(pixels).softmax(1).toFloat32Array()];
    });
    expect(predictions.map(({ index, probability }) => [index, probability]).sort()).toEqual([
      ...probabilities.entries(),
    ]);
    await expect(Predictor.open(at('trap'))).rejects.toMatchObject({
      name: 'RunDirectoryError',
      message: expect.stringContaining('which has not been run'),
    });
  });

  it('that throws fails the calls of its batch, and no others', async () => {
    const predictor = await open(at('trap'), { module });
    const { calls } = await computing(predictor, () => [predictor.classify(image(1))]);
    const batch = [image(2), image(255)].map((input) => predictor.classify(input));
    const outcomes = await Promise.allSettled(batch);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ reason: { name: 'TypeError', message: 'it was trapped' } });
    }
    expect((await calls[0]!).predictions).toHaveLength(2);
    expect((await predictor.classify(image(3))).predictions).toHaveLength(2);
  });

  it('that ends its thread fails every call, until another run is loaded', async () => {
    const predictor = await open(at('trap'), { module, maxBatchSize: 1 });
    const calls = [254, 1, 2].map((value) => predictor.classify(image(value)));
    for (const outcome of await Promise.allSettled(calls)) {
      expect(outcome).toMatchObject({
        reason: {
          ...{ name: 'PredictorError', code: 'WORKER_FAILED' },
          message: 'the predictor computes no more: its thread ended with code 7',
        },
      });
    }
    await expect(predictor.classify(image(1))).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    expect(predictor.statistics).toMatchObject({ waiting: 0, running: 0 });
    await predictor.reload(at('trap'));
    expect((await predictor.classify(image(1))).predictions).toHaveLength(2);
  });

  it.each([
    ['works', ''],
    ['cannot be loaded', "export function network() { throw new TypeError('none'); }"],
  ])('that leaves a timer behind and %s does not keep its predictor from closing', async (_, broken) => {
    const file = at(`timer-${broken.length}.mjs`);
    const rest = broken === '' ? TRAP : `${broken}\nexport const data = () => null;`;
    writeFileSync(file, `setInterval(() => {}, 1000);\n${rest}`);
    const opened = open(at('trap'), { module: pathToFileURL(file) });
    if (broken === '') await (await opened).close();
    else await expect(opened).rejects.toThrow('none');
  });

  it('whose thread has ended is closed all the same', async () => {
    const predictor = await open(at('trap'), { module });
    await expect(predictor.classify(image(254))).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    await predictor.close();
    await expect(predictor.classify(image(1))).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

describe('a network on vectors', () => {
  it('answers for vectors and tensors, and for nothing else', async () => {
    writeFileSync(at('vectors.mjs'), VECTORS);
    const vectors = pathToFileURL(at('vectors.mjs'));
    const recipe = overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
      dataset: { imageSize: null, inputShape: [3] },
      training: { epochs: 1, milestones: [], batchSize: 4 },
      augmentation: { cropPadding: 0, horizontalFlip: false },
      ...{ device: 'cpu', precision: 'fp32', threads: 1 },
    });
    await train({ recipe, module: vectors, out: at('vectors') });
    const predictor = await open(at('vectors'), { module: vectors });
    const vector = Float32Array.of(0.25, -3, 7);
    using asTensor = library.tensor(vector);
    const answers = await Promise.all(
      [vector, asTensor].map((one) => predictor.classify('dim' in one ? one : { vector: one })),
    );
    using run = await TrainedRun.open(at('vectors'), { module: vectors });
    const probabilities = library.scope(() => [
      ...run
        .logits(library.tensor(vector, { shape: [1, 3] }))
        .softmax(1)
        .toFloat32Array(),
    ]);
    for (const { predictions } of answers) {
      expect(predictions).toHaveLength(2);
      for (const { index, probability } of predictions) expect(probability).toBeCloseTo(probabilities[index]!, 6);
    }
    for (const [input, message] of [
      ['image.png', 'expected a vector of 3 values, got an image file'],
      [Buffer.from('x'), 'expected a vector of 3 values, got an image file'],
      [image(1), 'expected a vector of 3 values, got pixels of 1 x 4 x 4'],
      [{ vector: new Float32Array(4) }, 'expected a vector of 3 values, got a vector of 4 values'],
      [{ vector: Float32Array.of(1, Number.NaN, 2) }, 'expected a finite number for value 1 of the vector, got NaN'],
      [{ vector: [1, 2, 3] }, 'expected a Float32Array for vector'],
    ] as [PredictorInput, string][]) {
      await expect(predictor.classify(input)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      });
    }
  });
});
