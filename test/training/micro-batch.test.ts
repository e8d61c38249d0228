// A batch in parts, and a batch that does not fit.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DeviceImages, loadDataset, noDraws } from '../../lib/data/index.js';
import { FrozenPrefix } from '../../lib/features/frozen-prefix.js';
import { disposeNetwork, type Network } from '../../lib/models/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { empty, scope, TensorError } from '../../lib/tensor/index.js';
import { AuxiliaryProblem, type GiveBatch, type StepBatch } from '../../lib/training/auxiliary-problem.js';
import { train } from '../../lib/training/index.js';
import { explainOutOfMemory } from '../../lib/training/out-of-memory.js';
import { productOf, smallRecipe, temporaryFolder } from './runs.js';

const at = temporaryFolder();
const COUNT = 20;
const dataset = loadDataset({ name: 'shapes', trainLimit: COUNT, testLimit: 1 });

/** SimCNN k = 1 has no batch norm. */
const simcnn = (k: number, microBatchSize: number | null): Recipe =>
  overrideRecipe(presetRecipe(`simcnn-k${k}`, { dataset: 'shapes', onCuda: false }), {
    model: { width: 4, auxWidth: 4, layers: 2, downsampleAt: [1] },
    dataset: { trainLimit: 60, testLimit: 20 },
    training: { epochs: 2, batchSize: COUNT, microBatchSize, learningRate: 0.05, milestones: [1] },
    evaluation: { batchSize: 8 },
    ...{ device: 'cpu', precision: 'fp32', threads: 1 },
  });

describe('one step', () => {
  let cleanUp: (() => void)[] = [];
  beforeEach(() => {
    cleanUp = [];
  });
  afterEach(() => {
    for (const clean of cleanUp.toReversed()) clean();
  });

  async function begin(recipe: Recipe): Promise<{ network: Network; problem: AuxiliaryProblem; give: GiveBatch }> {
    const { train: source, normalization } = await dataset;
    const network = buildNetwork(recipe, 10, 'cpu');
    const images = new DeviceImages(source as never, 'cpu');
    const stage = buildStages(recipe, network)[1]!;
    const { testTransforms } = buildTransforms(recipe, normalization);
    const prefix = new FrozenPrefix(stage, { precision: 'fp32', transforms: testTransforms });
    const problem = new AuxiliaryProblem(stage, { recipe, device: 'cpu', precision: 'fp32' });
    problem.beginEpoch(0, { inItsMiddle: false });
    cleanUp.push(
      () => disposeNetwork(network),
      () => images.dispose(),
      () => prefix.dispose(),
      () => problem.dispose(),
    );
    const give = (start: number, length: number): StepBatch => {
      const part = images.slice(start, length);
      return { features: prefix.forward(part.images, noDraws), labels: part.labels };
    };
    return { network, problem, give };
  }

  const distance = (a: number[], b: number[]): number =>
    Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...b);

  /** Loss and hits of a step, and the gradients that it went by. */
  async function stepWith(recipe: Recipe): Promise<{ loss: number; correct: number; gradients: number[] }> {
    const { problem, give } = await begin(recipe);
    return scope(() => {
      const { loss, correct } = problem.step(COUNT, give);
      const gradients = problem.optimizer.parameters.flatMap(({ grad }) => [...grad!.toFloat32Array()]);
      return { loss: loss.item(), correct: correct.item(), gradients };
    });
  }

  it.each([1, 6, 10, 20, 500])('in parts of %i images is that of the whole batch, without batch norm', async (size) => {
    const whole = await stepWith(simcnn(1, null));
    const inParts = await stepWith(simcnn(1, size));
    expect(inParts.correct).toBe(whole.correct);
    expect(inParts.loss).toBeCloseTo(whole.loss, 6);
    // The same sums in another order.
    expect(distance(inParts.gradients, whole.gradients)).toBeLessThan(3e-6);
    expect(Math.hypot(...whole.gradients)).toBeGreaterThan(0);
  });

  it('in parts differs with batch norm', async () => {
    const whole = await stepWith(simcnn(2, null));
    const inParts = await stepWith(simcnn(2, 5));
    expect(distance(inParts.gradients, whole.gradients)).toBeGreaterThan(1e-3);
  });

  const IMAGE_BYTES = 2 ** 18;

  /** Refuses more than `most` images at once, as a device of that size would: when it has memory for each of them. */
  const limited = (give: GiveBatch, most: number, asked: number[] = []): GiveBatch => {
    return (start, length) => {
      asked.push(length);
      if (length > most) {
        empty([length, IMAGE_BYTES], { dtype: 'uint8' });
        throw new TensorError({ code: 'OUT_OF_MEMORY', operator: 'conv2d', message: "can't allocate memory" });
      }
      return give(start, length);
    };
  };

  it.each([
    [null, 19, 20, 15],
    [null, 14, 20, 10],
    [null, 7, 20, 7],
    [null, 1, 20, 1],
    [null, 0, 20, null],
    [8, 4, 8, 4],
  ])(
    'with parts of %s, where %i images fit: names the batch of %i and %s that fit',
    async (microBatch, most, batchSize, fitting) => {
      const { problem, give } = await begin(simcnn(2, microBatch));
      const before = problem.optimizer.parameters.map((parameter) => [...parameter.toFloat32Array()]);
      const asked: number[] = [];
      const error = new TensorError({ code: 'OUT_OF_MEMORY', operator: 'conv2d', message: 'no memory' });
      const failed = { count: COUNT, give: limited(give, most, asked), device: 'cpu', error } as const;
      const told = explainOutOfMemory(problem, failed);
      expect(told).toMatchObject({
        ...{ name: 'OutOfMemoryError', code: 'OUT_OF_MEMORY', cause: error },
        at: { layer: 1, device: 'cpu', batchSize, fittingBatchSize: fitting },
      });
      // Of the batch that failed, not of the smaller ones that were tried after it.
      expect(told.at.peakBytes).toBeGreaterThanOrEqual(batchSize * IMAGE_BYTES);
      expect(told.at.peakBytes).toBeLessThan((batchSize + 1) * IMAGE_BYTES);
      expect(asked[0]).toBe(batchSize);
      expect(told.message).toMatch(
        /^out of memory on cpu at layer 2, with a batch of (20|8) images, when tensors had .* GiB; /,
      );
      expect(told.message).toContain(
        fitting === null ? 'not even one image fits' : `take --batch-size ${fitting}, or --micro-batch ${fitting}`,
      );
      expect(problem.optimizer.parameters.map((parameter) => [...parameter.toFloat32Array()])).toEqual(before);
      expect(scope(() => problem.optimizer.parameters.every((parameter) => parameter.grad === null))).toBe(true);
    },
  );

  it('passes any other failure on', async () => {
    const { problem } = await begin(simcnn(2, null));
    const error = new TensorError({ code: 'OUT_OF_MEMORY', operator: 'conv2d', message: 'no memory' });
    const broken = (): never => {
      throw new Error('a broken disk');
    };
    expect(() => explainOutOfMemory(problem, { count: COUNT, give: broken, device: 'cpu', error })).toThrow(
      'a broken disk',
    );
  });
});

describe('a run in parts', () => {
  it('says that batch norm makes it another one, and only then', async () => {
    const notes = async (recipe: Recipe, name: string): Promise<readonly string[]> =>
      (await train({ recipe, out: at(name) })).result.notes ?? [];
    expect(await notes(simcnn(2, 5), 'with')).toEqual([
      expect.stringMatching(/^Batches of 20 images in parts of 5: batch norm takes its statistics of each part/),
    ]);
    expect(await notes(simcnn(1, 5), 'without')).toEqual([]);
    expect(await notes(simcnn(2, 20), 'whole')).toEqual([]);
  });

  it('of the size of the batch is the run itself, to the bit', async () => {
    const run = async (microBatchSize: number | null): Promise<object> => {
      const out = at(`size ${microBatchSize}`);
      await train({ recipe: smallRecipe({ training: { microBatchSize } }), out });
      return productOf(out);
    };
    expect(await run(16)).toEqual(await run(null));
  });
});
