// What is known of a run before its first step, against measurements of real steps, the files of real runs, and figures from
// elsewhere.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { batchDraws, Draws } from '../../lib/data/index.js';
import { FrozenPrefix } from '../../lib/features/frozen-prefix.js';
import { disposeNetwork } from '../../lib/models/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import { overrideRecipe, presetRecipe, type Recipe, RecipeError } from '../../lib/recipe/index.js';
import type { Precision } from '../../lib/recipe/precision.js';
import { buildInfo, measurePeak, scope, zeros } from '../../lib/tensor/index.js';
import { AuxiliaryProblem } from '../../lib/training/auxiliary-problem.js';
import {
  type PlanRecipeOptions,
  planRecipe,
  type RunPlan,
  resume,
  type TrainingEvent,
  train,
} from '../../lib/training/index.js';
import { type PlanOptions, planRun } from '../../lib/training/plan.js';
import { measureStepTimes } from '../../lib/training/step-times.js';
import { libtorchAtLeast } from '../support/fixtures.js';
import { smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const NOTHING = { device: 0, host: 0, disk: 0 };

function withCounts(recipe: Recipe, trainCount: number, testCount = 20): Recipe {
  return overrideRecipe(recipe, { dataset: { trainCount, testCount } });
}

function planOf(recipe: Recipe, options: Partial<PlanOptions> = {}): RunPlan {
  const precision = recipe.precision as Precision;
  const shared = { classes: 10, device: 'cpu', precision, budget: NOTHING, imagesInMemory: true } as const;
  return planRun({ recipe, ...shared, ...options });
}

function recipeOf(preset: string, overrides: unknown, [train, test]: readonly [number, number] = [60, 20]): Recipe {
  const base = presetRecipe(preset, { dataset: 'shapes', onCuda: false });
  return withCounts(overrideRecipe(overrideRecipe(base, { precision: 'fp32' }), overrides), train, test);
}

describe.skipIf(!libtorchAtLeast('2.4'))('a plan', () => {
  it("has torchvision's parameters and multiply-adds of VGG-11 with batch norm", () => {
    const recipe = recipeOf('vgg11-end-to-end', { model: { width: 64 }, dataset: { imageSize: 224 } });
    const plan = planOf(recipe, { classes: 1000 });
    // torchvision.models.VGG11_BN_Weights.IMAGENET1K_V1: num_params, and _ops in G.
    expect(plan.parameters).toBe(132_868_840);
    expect(plan.multiplyAdds / 1e9).toBeCloseTo(7.609, 3);
    expect(plan.layers.map(({ layer, outputShape }) => ({ layer, outputShape }))).toEqual([
      { layer: 7, outputShape: [512, 14, 14] },
    ]);
  });

  it("has the paper's parameters of VGG-11's layers and heads", () => {
    const recipe = recipeOf('vgg11-layerwise', { model: { width: 64 }, dataset: { imageSize: 224 } });
    const { layers } = planOf(recipe, { classes: 1000 });
    expect(layers.map(({ parameters }) => parameters.block)).toEqual([
      1920, 74112, 295680, 590592, 1181184, 2360832, 2360832, 2360832,
    ]);
    expect(layers.map(({ parameters }) => parameters.head)).toEqual([
      734952, 1911272, 5591016, 5591016, 18258920, 18258920, 18258920, 123642856,
    ]);
  });

  it('counts the multiply-adds of frozen layers, block and head', () => {
    const recipe = recipeOf('simcnn-k2', {
      model: { width: 4, auxWidth: 6, layers: 2, downsampleAt: [1] },
      dataset: { imageSize: 8 },
    });
    const [first, second] = planOf(recipe).layers;
    const block = 4 * 64 * 27;
    expect(first!.multiplyAdds).toEqual({ frozen: 0, block, head: 6 * 64 * 36 + 24 * 10 });
    // 16 channels of 4 x 4 after the reordering; the widths double.
    expect(second!.multiplyAdds).toEqual({ frozen: block, block: 8 * 16 * 144, head: 12 * 16 * 72 + 48 * 10 });
    expect([first!.outputShape, second!.outputShape]).toEqual([
      [4, 8, 8],
      [8, 4, 4],
    ]);
  });

  it('tells the steps of the run', () => {
    const recipe = recipeOf('vgg11-layerwise', {
      model: { width: 2, layers: 3 },
      training: { batchSize: 16, epochs: 2 },
    });
    expect(planOf(recipe).steps).toBe(3 * 2 * 4);
    expect(planOf(recipe, { firstStage: 1 }).steps).toBe(2 * 2 * 4);
  });

  it('counts the operations of the steps, of frozen layers once a view where their features are kept', () => {
    const overrides = { model: { width: 2, layers: 3 }, training: { batchSize: 16, epochs: 2 } };
    const counted = planOf(recipeOf('vgg11-layerwise', overrides));
    const [one, two, three] = counted.layers.map(({ multiplyAdds: { block, head } }) => ({
      block,
      learnt: block + head,
    }));
    const learnt = 3 * 2 * (one!.learnt + two!.learnt + three!.learnt);
    const frozen = 2 * one!.block + 2 * (one!.block + two!.block);
    expect(counted.operations).toBe(2 * 60 * (learnt + frozen));
    const kept = planOf(recipeOf('vgg11-layerwise', { ...overrides, augmentation: { views: 1 } }), {
      budget: { device: 0, host: 1e9, disk: 0 },
    });
    expect(kept.layers.map(({ features }) => features !== null)).toEqual([false, true, true]);
    expect(kept.operations).toBe(2 * 60 * (learnt + one!.block + two!.block));
    const later = planOf(recipeOf('vgg11-layerwise', overrides), { firstStage: 2 });
    expect(later.operations).toBe(2 * 60 * (3 * 2 * three!.learnt + 2 * (one!.block + two!.block)));
    // Nothing is kept of layers that come from another run.
    const keptLater = planOf(recipeOf('vgg11-layerwise', { ...overrides, augmentation: { views: 1 } }), {
      ...{ firstStage: 2, budget: { device: 0, host: 1e9, disk: 0 } },
    });
    expect(keptLater.operations).toBe(2 * 60 * (3 * 2 * three!.learnt + one!.block + two!.block));
  });

  it('takes no memory for the network', () => {
    const recipe = recipeOf('vgg19-layerwise', { model: { width: 64 }, dataset: { imageSize: 224 } });
    expect(measurePeak(() => planOf(recipe, { classes: 1000 })).peakBytes).toBeLessThan(2 ** 20);
  });

  it('has no memory of layers that are not trained', () => {
    const recipe = recipeOf('simcnn-k2', { model: { width: 2, auxWidth: 2 } });
    const { layers } = planOf(recipe, { firstStage: 2 });
    expect(layers.map(({ isTrained, memory }) => [isTrained, memory !== null])).toEqual([
      [false, false],
      [false, false],
      [true, true],
      [true, true],
    ]);
  });
});

/** The peak of a first step of each stage on the CPU, with the network and the stage's momentum. */
function measured(recipe: Recipe): number[] {
  const { batchSize } = recipe.training;
  const precision = recipe.precision as Precision;
  const network = buildNetwork(recipe, 10, 'cpu');
  const { trainTransforms: transforms } = buildTransforms(recipe, { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2] });
  const bytesOf = (tensors: Iterable<{ byteLength: number }>): number =>
    [...tensors].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const own = [...network.blocks, ...network.heads].reduce((sum, m) => sum + bytesOf(m.stateDict().values()), 0);
  const draws = new Draws({ seed: 1 });
  const peaks = buildStages(recipe, network).map((stage) => {
    const problem = new AuxiliaryProblem(stage, { recipe, device: 'cpu', precision });
    const prefix = new FrozenPrefix(stage, { precision, transforms });
    problem.beginEpoch(0, { inItsMiddle: false });
    const { peakBytes } = measurePeak(() =>
      scope(() => {
        problem.step(batchSize, (start, length) => ({
          features: prefix.forward(
            zeros([length, ...network.inputShape], { dtype: 'uint8' }),
            batchDraws(
              draws,
              0,
              Int32Array.from({ length }, (_, i) => start + i),
            ),
          ),
          labels: zeros([length], { dtype: 'int64' }),
        }));
      }),
    );
    const momentum = bytesOf(problem.optimizer.state.tensors.values());
    problem.dispose();
    prefix.dispose();
    return own + momentum + peakBytes;
  });
  disposeNetwork(network);
  return peaks;
}

describe.skipIf(!libtorchAtLeast('2.4'))('the planned memory is that of the real step, within 15 %:', () => {
  const size = (imageSize: number, batchSize: number) => ({ dataset: { imageSize }, training: { batchSize } });
  const cases: [string, string, object][] = [
    ['VGG-11 at 32', 'vgg11-layerwise', { ...size(32, 64), model: { width: 16 } }],
    ['VGG-11 at 32, narrow maps of much weight', 'vgg11-layerwise', { ...size(32, 16), model: { width: 32 } }],
    ['VGG-11 at 224', 'vgg11-layerwise', { ...size(224, 4), model: { width: 8, layers: 4 } }],
    ['VGG-11 end to end', 'vgg11-end-to-end', { ...size(32, 32), model: { width: 8 } }],
    ['VGG-11, all layers at once', 'vgg11-simultaneous', { ...size(32, 64), model: { width: 16 } }],
    ['SimCNN k = 3', 'simcnn-k3', { ...size(32, 32), model: { width: 16, auxWidth: 16 } }],
    [
      'VGG-11 with AdamW and label smoothing',
      'vgg11-layerwise',
      { ...size(32, 16), model: { width: 16 }, training: { batchSize: 16, optimizer: 'adamw', labelSmoothing: 0.1 } },
    ],
    [
      'VGG-11 with Muon',
      'vgg11-layerwise',
      { ...size(32, 16), model: { width: 16 }, training: { batchSize: 16, optimizer: 'muon' } },
    ],
    ['SimCNN k = 1', 'simcnn-k1', { ...size(32, 32), model: { width: 16 } }],
    [
      'micro-batches',
      'simcnn-k2',
      { model: { width: 8, auxWidth: 8 }, training: { batchSize: 32, microBatchSize: 12 }, dataset: { imageSize: 32 } },
    ],
  ];
  for (const [name, preset, overrides] of cases) {
    it.each(['fp32', 'bf16'] as const)(`${name}, %s`, (precision) => {
      const recipe = overrideRecipe(recipeOf(preset, overrides), { precision });
      const planned = planOf(recipe).layers.flatMap(({ memory }) => (memory === null ? [] : [memory.step]));
      const real = measured(recipe);
      expect(planned.length).toBe(real.length);
      for (const [i, bytes] of real.entries()) {
        expect(planned[i]! / bytes, `layer ${i + 1} of ${real.length}`).toBeGreaterThan(0.85);
        expect(planned[i]! / bytes, `layer ${i + 1} of ${real.length}`).toBeLessThan(1.15);
      }
    });
  }

  it('of Muon in fp16 has what its update takes', () => {
    const of = (optimizer: string): number => {
      const training = { batchSize: 2, optimizer };
      const recipe = recipeOf('vgg11-layerwise', { ...size(32, 4), model: { width: 64 }, training }, [64, 20]);
      return planOf(overrideRecipe(recipe, { precision: 'fp16' })).layers.at(-1)!.memory!.step;
    };
    // More than the passes take at their most.
    expect(of('muon') - of('sgd')).toBeGreaterThan(1024 * 4096);
  });

  it('and grows with the batch', () => {
    const of = (batchSize: number): number =>
      planOf(recipeOf('simcnn-k2', { model: { width: 4, auxWidth: 4 }, training: { batchSize } }, [64, 20])).largest!
        .bytes;
    expect(of(64)).toBeGreaterThan(1.5 * of(16));
  });
});

/** Runs `train` and gives what it planned. */
async function plannedBy(run: Promise<unknown>, events: readonly TrainingEvent[]): Promise<RunPlan> {
  await run;
  const start = events.find((event) => event.type === 'start')!;
  expect(JSON.parse(JSON.stringify(start.plan))).toEqual(start.plan);
  return start.plan!;
}

describe.skipIf(!libtorchAtLeast('2.4'))('the files of a real run', () => {
  it.each([{}, { optimizer: 'adamw' }, { optimizer: 'muon' }])(
    'are as large as its plan says, kept features too: %j',
    async (others) => {
      const recipe = smallRecipe({ augmentation: { views: 2 }, model: { layers: 3 }, training: others });
      const out = at(`files-${Object.values(others).join()}`);
      const events: TrainingEvent[] = [];
      const files: Record<string, number> = {};
      const onEvent = (event: TrainingEvent): void => {
        events.push(event);
        if (event.type !== 'checkpoint' && event.type !== 'layer') return;
        for (const name of ['layer-00', 'training-1']) {
          const file = join(out, 'checkpoint', `${name}.safetensors`);
          if (existsSync(file)) files[name] = statSync(file).size;
        }
      };
      const plan = await plannedBy(train({ recipe, out, onEvent, cache: { host: 2 ** 30 } }), events);
      const { finished, training } = plan.layers[0]!.checkpoint;
      // Beside the tensors a file has its header, and the state of the generator.
      for (const [name, planned] of [
        ['layer-00', finished],
        ['training-1', training],
      ] as const) {
        expect(files[name]! - planned, name).toBeGreaterThanOrEqual(0);
        expect(files[name]! - planned, name).toBeLessThan(16 * 1024);
      }
      const kept = [1, 2].map((layer) =>
        events.reduce((sum, event) => sum + (event.type === 'view' && event.layer === layer ? event.bytes : 0), 0),
      );
      expect(plan.layers.map(({ features }) => features?.bytes ?? 0)).toEqual([0, ...kept]);
    },
  );
});

describe.skipIf(!libtorchAtLeast('2.4'))('a batch norm that would see one value a channel', () => {
  /** VGG at 32 x 32 has maps of 1 x 1 in the heads of its last two stages. */
  const vgg = (count: number, training: object, model: object = {}): Recipe =>
    recipeOf('vgg11-layerwise', { model: { width: 2, ...model }, training }, [count, 20]);

  it.each([
    [
      'a last batch of one image',
      9,
      { batchSize: 8 },
      /layer 7 .*9 training images in batches of 8 leave one image alone; take --batch-size 7 or 9/,
    ],
    ['batches of one image', 9, { batchSize: 1 }, /layer 7 .*batches of 1 leave one image alone; take --batch-size 3/],
    [
      'a rest of a micro-batch',
      16,
      { batchSize: 8, microBatchSize: 7 },
      /layer 7 .*batches of 8 in parts of 7 leave one image alone; take --batch-size 7 or 9/,
    ],
    [
      'micro-batches of one image',
      16,
      { batchSize: 8, microBatchSize: 1 },
      /parts of 1 leave one image alone; take another --micro-batch/,
    ],
    [
      'a single image',
      1,
      { batchSize: 8 },
      /1 training images in batches of 8 leave one image alone; take more training images/,
    ],
  ] as const)('is refused before the run: %s', (_, count, training, message) => {
    expect(() => planOf(vgg(count, training))).toThrow(RecipeError);
    expect(() => planOf(vgg(count, training))).toThrow(message);
  });

  it('is none with the sizes that are named', () => {
    for (const batchSize of [7, 9]) expect(planOf(vgg(9, { batchSize })).layers.length).toBe(8);
    for (const batchSize of [7, 9]) expect(planOf(vgg(16, { batchSize, microBatchSize: 7 })).layers.length).toBe(8);
  });

  it('is none where maps are larger, where there is no batch norm, and in layers that are not trained', () => {
    expect(planOf(vgg(9, { batchSize: 8 }, { layers: 6 })).layers.length).toBe(6);
    const without = recipeOf('simcnn-k1', { model: { width: 2 }, training: { batchSize: 1 } }, [3, 20]);
    expect(planOf(without).layers.length).toBe(5);
    expect(planOf(vgg(9, { batchSize: 8 }), { firstStage: 7 }).layers.length).toBe(8);
  });

  it('is refused by train() before there is a run directory', async () => {
    const recipe = smallRecipe({
      model: { layers: 8 },
      dataset: { trainLimit: 9 },
      training: { batchSize: 8 },
    });
    await expect(train({ recipe, out: at('one-value') })).rejects.toThrow(/layer 7/);
    expect(existsSync(at('one-value'))).toBe(false);
  });
});

describe.skipIf(!libtorchAtLeast('2.4'))('a run that needs more memory than it may use', () => {
  const recipe = recipeOf('simcnn-k2', { model: { width: 8, auxWidth: 8 }, training: { batchSize: 60 } });

  it('is refused, naming layer, images, memory, and a size that fits', () => {
    const { largest, imageBytes } = planOf(recipe);
    const needed = largest!.bytes + imageBytes;
    expect(planOf(recipe, { usableBytes: needed }).layers.length).toBe(4);
    const usableBytes = Math.floor(needed * 0.6);
    const refused: RunPlan[] = [];
    const onRefused = (plan: RunPlan): void => void refused.push(plan);
    const refusal = new RegExp(
      `layer ${largest!.layer + 1} with 60 images at once needs about .* GiB of memory, but this process may use .* GiB; (\\d+) images fit: take --batch-size \\1, or --micro-batch \\1`,
    );
    let message = '';
    try {
      planOf(recipe, { usableBytes, onRefused });
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(refusal);
    expect(refused, 'it can be shown all the same').toEqual([planOf(recipe)]);
    const fitting = Number(refusal.exec(message)![1]);
    for (const training of [{ batchSize: fitting }, { microBatchSize: fitting }]) {
      expect(planOf(overrideRecipe(recipe, { training }), { usableBytes }).layers.length).toBe(4);
    }
  });

  it('is told so where no batch fits, or where the evaluation is what takes it', () => {
    expect(() => planOf(recipe, { usableBytes: 2 ** 18 })).toThrow(/no smaller batch fits/);
    const evaluating = withCounts(overrideRecipe(recipe, { training: { batchSize: 4 } }), 60, 500);
    const { layers, imageBytes } = planOf(evaluating);
    const step = Math.max(...layers.map(({ memory }) => memory!.step));
    expect(() => planOf(evaluating, { usableBytes: step + imageBytes })).toThrow(
      /evaluation\.batchSize: evaluating 500 images at once at layer/,
    );
  });
});

describe.skipIf(!libtorchAtLeast('2.4'))('what a run begins with', () => {
  it('is in the start event, after an interruption too', async () => {
    const recipe = smallRecipe();
    const events: TrainingEvent[] = [];
    const onEvent = (event: TrainingEvent): void => void events.push(event);
    await startAndStop({ recipe, out: at('interrupted'), onEvent }, ({ type }) => type === 'layer');
    const plan = await plannedBy(Promise.resolve(), events);
    expect(plan.layers.map(({ isTrained }) => isTrained)).toEqual([true, true]);

    const after: TrainingEvent[] = [];
    const resumed = await plannedBy(resume(at('interrupted'), { onEvent: (event) => after.push(event) }), after);
    expect(resumed.layers.map(({ isTrained }) => isTrained)).toEqual([false, true]);

    const more: TrainingEvent[] = [];
    const deeper = smallRecipe({ model: { layers: 3 } });
    // The last layer has the classifier as its head.
    const out = at('deeper');
    const grown = train({
      ...{ recipe: deeper, out, startFrom: { runDirectory: at('interrupted'), layers: 1 } },
      onEvent: (event) => more.push(event),
    });
    expect((await plannedBy(grown, more)).layers.map(({ isTrained }) => isTrained)).toEqual([false, true, true]);
  });
});

describe.skipIf(!libtorchAtLeast('2.4'))('the plan of a recipe is refused as the training would be', () => {
  const most = buildInfo().mostThreads;
  const small = smallRecipe();
  it.each<[string, Partial<PlanRecipeOptions>, string]>([
    ['threads', { recipe: { ...small, threads: most + 1 } }, `threads: expected at most ${most} on this machine`],
    ['CUDA graphs on the CPU', { cudaGraph: true }, 'cudaGraph (--cuda-graph): needs a CUDA device'],
    ['a cache of another machine', { cache: { device: 10 } }, 'cache.device: expected nothing for cpu'],
    ['bad images where there are no files', { onBadImage: 'skip' }, 'shapes has no image files'],
  ])('for its %s', async (name, options, message) => {
    const recipe = { recipe: small, ...options };
    await expect(planRecipe({ ...recipe, measured: false })).rejects.toThrow(message);
    await expect(train({ ...recipe, out: at(name) })).rejects.toThrow(message);
    expect(existsSync(at(name))).toBe(false);
  });
});

describe.skipIf(!libtorchAtLeast('2.4'))('the time of a run', () => {
  it('is measured for each layer that is trained, and scaled to all its epochs', () => {
    const recipe = withCounts(smallRecipe(), 60);
    const options = { classes: 10, device: 'cpu', precision: 'fp32', isKept: false } as const;
    const times = measureStepTimes({ recipe, ...options });
    expect(times.map(({ layer }) => layer)).toEqual([0, 1]);
    for (const { seconds, stepSeconds, imagesTimed } of times) {
      expect(imagesTimed).toBeGreaterThanOrEqual(2);
      expect(imagesTimed).toBeLessThanOrEqual(16);
      // Two epochs of 60 images are at least 7.5 steps of 16.
      expect(seconds).toBeGreaterThan(7.4 * stepSeconds);
      expect(stepSeconds).toBeGreaterThan(0);
    }
    expect(measureStepTimes({ recipe, ...options, firstStage: 1 }).map(({ layer }) => layer)).toEqual([1]);
  });

  it('is that of weights as they begin: learnt by heart, a few random images give gradients that are slow to compute', () => {
    const step = vi.spyOn(AuxiliaryProblem.prototype, 'step');
    try {
      measureStepTimes({
        recipe: withCounts(smallRecipe(), 60),
        classes: 10,
        device: 'cpu',
        precision: 'fp32',
        isKept: false,
      });
      const rates = step.mock.contexts.map((problem) => (problem as AuxiliaryProblem).optimizer.learningRate);
      expect(rates.length).toBeGreaterThan(5);
      expect(rates.every((rate) => rate === 0)).toBe(true);
    } finally {
      step.mockRestore();
    }
  });

  it('has what reading image files takes, of training and of test images', () => {
    const recipe = withCounts(smallRecipe({ model: { layers: 3 } }), 60);
    const shared = { classes: 10, device: 'cpu', precision: 'fp32', readPerSecond: 10 } as const;
    const readingOf = (options: { isKept: boolean; testFeatureBytes?: number }, views: number | null = null) =>
      measureStepTimes({ recipe: overrideRecipe(recipe, { augmentation: { views } }), ...shared, ...options });
    const seconds = (times: ReturnType<typeof readingOf>) => times.map(({ readingSeconds }) => readingSeconds);
    // Two epochs of 60 training images and 20 test images.
    expect(seconds(readingOf({ isKept: false }))).toEqual([16, 16, 16]);
    // The test images of the first layer are no features of frozen layers.
    // Those of the third are made of those of the second.
    expect(seconds(readingOf({ isKept: false, testFeatureBytes: 1e9 }))).toEqual([16, 14, 12]);
    // One view is made of the images, and from then on of what is kept.
    const kept = readingOf({ isKept: true, testFeatureBytes: 1e9 }, 1);
    expect(seconds(kept)).toEqual([16, 8, 0]);
    expect(kept.map(({ imagesPerSecond }) => imagesPerSecond !== null)).toEqual([true, true, false]);
    for (const { seconds, readingSeconds } of kept) expect(seconds).toBeGreaterThan(readingSeconds);
    const atHand = measureStepTimes({ recipe, ...shared, isKept: false, readPerSecond: null });
    expect(seconds(atHand)).toEqual([0, 0, 0]);
    // Beside the steps, at least two images of which were timed.
    for (const { imagesPerSecond, stepSeconds } of atHand) expect(imagesPerSecond).toBeCloseTo(16 / stepSeconds, 5);
  });

  it('comes with the plan of a recipe where it is asked for', async () => {
    const recipe = smallRecipe();
    const planned = await planRecipe({ recipe, measured: true });
    expect(planned.times?.length).toBe(2);
    expect(planned.recipe.dataset).toMatchObject({ trainCount: 60, testCount: 20 });
    expect((await planRecipe({ recipe, measured: false })).times).toBe(null);
  });
});
