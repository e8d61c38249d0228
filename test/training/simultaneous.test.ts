// Layers that train at once, each by its own head: against layerwise training, and against the gradients by hand.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import { disposeNetwork, layeredNetwork, type NetworkBuilder, type Stage } from '../../lib/models/index.js';
import {
  AdaptiveAvgPool2d,
  Conv2d,
  defaultInit,
  Flatten,
  Linear,
  ReLU,
  readSafetensors,
  Sequential,
} from '../../lib/nn/index.js';
import {
  buildNetwork,
  buildStages,
  overrideRecipe,
  presetRecipe,
  type Recipe,
  RecipeError,
} from '../../lib/recipe/index.js';
import {
  canRehearse,
  Generator,
  manualSeed,
  measurePeak,
  noGrad,
  randn,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/tensor/index.js';
import { AuxiliaryProblem } from '../../lib/training/auxiliary-problem.js';
import { NonFiniteLossError, planRecipe, resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { positionOf, productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const atOnce = (recipe: Recipe, changes: unknown = {}): Recipe =>
  overrideRecipe(recipe, { training: { schedule: 'simultaneous' } }, changes);

const RECIPES: readonly (readonly [string, Recipe])[] = [
  ['VGG-11', smallRecipe({ model: { width: 2, layers: 3 } })],
  ['SimCNN', smallRecipe({ model: { width: 4, auxWidth: 4, layers: 3, downsampleAt: [0, 2] } }, 'simcnn-k2')],
];

const values = (one: Tensor): number[] =>
  scope(() => [...(one.to({ dtype: 'float32' }).toTypedArray() as Float32Array)]);

/** The tensors of a finished run, blocks and all heads. */
async function tensorsOf(run: string): Promise<Map<string, number[]>> {
  const all = new Map<string, number[]>();
  for (const file of ['model', 'auxiliary-heads']) {
    const { tensors } = await readSafetensors(`${run}/${file}.safetensors`);
    for (const [name, one] of tensors) {
      all.set(name, values(one));
      one.dispose();
    }
  }
  return all;
}

describe.each(RECIPES)('%s', (name, recipe) => {
  it('learns in its first layer what layerwise training learns, to the bit, whatever learns above', async () => {
    await train({ recipe, out: at(`${name}-layerwise`) });
    const { result } = await train({ recipe: atOnce(recipe), out: at(`${name}-at-once`) });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
    using layerwise = await TrainedRun.open(at(`${name}-layerwise`));
    using together = await TrainedRun.open(at(`${name}-at-once`));
    for (const part of ['blocks', 'heads'] as const) {
      const expected = layerwise.network[part][0]!.stateDict();
      for (const [key, one] of together.network[part][0]!.stateDict()) {
        expect(values(one), `${part} ${key}`).toEqual(values(expected.get(key)!));
      }
    }
    const [other] = layerwise.network.blocks[1]!.stateDict().values();
    const [own] = together.network.blocks[1]!.stateDict().values();
    expect(values(own!)).not.toEqual(values(other!));
  });

  it('gives each layer the gradient of its own loss alone', () => {
    const network = buildNetwork(recipe, 10, 'cpu');
    const [stage] = buildStages(atOnce(recipe), network) as [Stage];
    const problem = new AuxiliaryProblem(stage, { recipe, device: 'cpu', precision: 'fp32' });
    manualSeed(3);
    scope(() => {
      problem.beginEpoch(0, { inItsMiddle: false });
      const images = randn([6, ...network.inputShape]);
      const labels = tensor([0, 1, 2, 3, 4, 5], { dtype: 'int64' });
      let features = stage.frozen.reduce((x, module) => module.forward(x), images);
      problem.tryBatch(6, () => ({ features, labels }));
      // By hand: the output of each block without its history is what the next one reads.
      const expected: (readonly [string, number[] | null])[] = [];
      const losses: number[] = [];
      const gradientsOf = (): (readonly [string, number[] | null])[] =>
        stage.local!.flatMap(({ layer, trained, head }) =>
          [...trained, head].flatMap((module, part) =>
            [...module.namedParameters()].map(([key, weights]) => {
              const gradient = weights.grad;
              return [`${layer}.${part}.${key}`, gradient === null ? null : values(gradient)] as const;
            }),
          ),
        );
      for (const { trained, head } of stage.local!) {
        const output = trained.reduce((x, module) => module.forward(x), features);
        const loss = head.forward(output).crossEntropy(labels);
        losses.push(loss.item());
        loss.backward();
        features = output.detach();
      }
      expected.push(...gradientsOf());
      problem.optimizer.zeroGrad();
      // Batch norm in training mode gives the same for the same batch.
      features = stage.frozen.reduce((x, module) => module.forward(x), images);
      const before = problem.optimizer.parameters.map(values);
      const { loss, correct } = problem.step(6, () => ({ features, labels }));
      expect([loss.shape, correct.shape]).toEqual([[3], [3]]);
      values(loss).forEach((one, i) => void expect(one).toBeCloseTo(losses[i]!, 6));
      expect(gradientsOf().map(([key]) => key)).toEqual(expected.map(([key]) => key));
      for (const [i, [key, gradient]] of gradientsOf().entries()) {
        expect(gradient, key).not.toBeNull();
        gradient!.forEach((one, j) => void expect(one, key).toBeCloseTo(expected[i]![1]![j]!, 6));
      }
      expect(problem.optimizer.parameters.some((one, i) => values(one).join() !== before[i]!.join())).toBe(true);
    });
    problem.dispose();
    disposeNetwork(network);
  });

  it('resumes to the same bits from wherever it was stopped', async () => {
    const whole = at(`${name}-whole`);
    await train({ recipe: atOnce(recipe), out: whole });
    const stops: ((event: TrainingEvent) => boolean)[] = [
      ({ type }) => type === 'start',
      (event) => event.type === 'step' && event.epoch === 0 && event.step === 2,
      (event) => event.type === 'epoch' && event.layer === 1,
      (event) => event.type === 'step' && event.epoch === 1 && event.step === 3,
    ];
    for (const [i, when] of stops.entries()) {
      const out = at(`${name}-stopped-${i}`);
      await startAndStop({ recipe: atOnce(recipe), out, checkpointSeconds: 0 }, when);
      await resume(out);
      expect(productOf(out), `stopped ${i}`).toEqual(productOf(whole));
    }
  });

  it('tests every layer, and the ensemble of each with those below it, in every epoch', async () => {
    const events: TrainingEvent[] = [];
    const out = at(`${name}-tested`);
    const { result } = await train({ recipe: atOnce(recipe), out, onEvent: (event) => events.push(event) });
    const epochs = events.filter(({ type }) => type === 'epoch').map(positionOf);
    expect(epochs).toEqual(
      [0, 1].flatMap((epoch) => [0, 1, 2].map((layer) => `epoch at layer ${layer}, epoch ${epoch}`)),
    );
    expect(events.filter(({ type }) => type === 'layer').length).toBe(3);
    using run = await TrainedRun.open(out);
    const { test } = await run.loadDataset();
    for (const { layer, testTop1, testLoss } of result.layers) {
      const { top1, loss } = await run.evaluate(test, layer);
      expect(top1).toBeCloseTo(testTop1!, 6);
      expect(loss).toBeCloseTo(testLoss!, 4);
    }
    const { top1 } = await run.evaluate(test, 'ensemble');
    expect(top1).toBeCloseTo(result.layers[2]!.ensembleTop1!, 6);
    expect(result.layers[0]!.ensembleTop1).toBe(result.layers[0]!.testTop1);
    const report = readFileSync(`${out}/report.html`, 'utf8');
    expect(report).toContain('Top-1 accuracy by depth');
    expect(report).toContain('Three layers, trained at once, each against an auxiliary head of its own.');
  });

  it.runIf(canRehearse())('has a plan: a row a layer, the memory of all in the last', async () => {
    const { plan } = await planRecipe({ recipe: atOnce(recipe), measured: false });
    const { plan: layerwise } = await planRecipe({ recipe, measured: false });
    expect(plan.layers.map(({ memory }) => memory !== null)).toEqual([false, false, true]);
    expect(plan.layers.map(({ multiplyAdds }) => multiplyAdds)).toEqual(
      layerwise.layers.map(({ multiplyAdds }) => ({ ...multiplyAdds, frozen: 0 })),
    );
    expect([plan.multiplyAdds, plan.parameters]).toEqual([layerwise.multiplyAdds, layerwise.parameters]);
    expect(plan.steps).toBe(layerwise.steps / 3);
    const learnt = plan.layers.reduce((sum, { multiplyAdds: { block, head } }) => sum + block + head, 0);
    expect(plan.operations).toBe(2 * 60 * 3 * 2 * learnt);
    // A checkpoint of all, and the one before it.
    const out = at(`${name}-checkpoint`);
    await startAndStop({ recipe: atOnce(recipe), out });
    const files = readdirSync(`${out}/checkpoint`).filter((file) => file.endsWith('.safetensors'));
    expect(files.length).toBe(1);
    const { size } = statSync(`${out}/checkpoint/${files[0]}`);
    expect(2 * size).toBeGreaterThan(plan.checkpointBytes);
    expect(2 * size).toBeLessThan(1.3 * plan.checkpointBytes + 50_000);
    expect((await planRecipe({ recipe: atOnce(recipe), measured: true })).times!.map(({ layer }) => layer)).toEqual([
      2,
    ]);
  });
});

/** Three layers without batch norm; the head of layer `huge`, from 0, begins with weights that make its loss infinite. */
const plainLayers =
  (huge = -1): NetworkBuilder =>
  ({ classes, inputShape }) => {
    const filled = (value: number) => (weight: Tensor) => void noGrad(() => weight.fill_(value));
    const blocks = [3, 4, 4].map((inChannels, seed) => {
      using generator = Generator.create({ seed });
      const init = defaultInit(generator);
      return new Sequential([
        ['conv', new Conv2d({ inChannels, outChannels: 4, kernelSize: 3, padding: 1, stride: 2, init })],
        ['relu', new ReLU()],
      ]);
    });
    const heads = [0, 1, 2].map((layer) => {
      using generator = Generator.create({ seed: 10 + layer });
      const linear = new Linear({ inFeatures: 4, outFeatures: classes, init: defaultInit(generator) });
      if (layer === huge) scope(() => filled(3e38)(linear.parameters()[0]!.narrow(0, 0, 1)));
      return new Sequential([
        ['pool', new AdaptiveAvgPool2d({ outputSize: 1 })],
        ['flatten', new Flatten()],
        ['linear', linear],
      ]);
    });
    return layeredNetwork({ name: 'plain layers', classes, inputShape, blocks, heads });
  };

const own = atOnce(
  overrideRecipe(presetRecipe('own', { dataset: 'shapes', onCuda: false }), {
    dataset: { trainLimit: 60, testLimit: 20 },
    training: { epochs: 1, batchSize: 16, milestones: [] },
    ...{ device: 'cpu', precision: 'fp32', threads: 1 },
  }),
);

it('sums micro-batches to the batch: the last is smaller than the others', async () => {
  const network = plainLayers();
  const whole = await train({ recipe: own, network, out: at('whole') });
  const parts = overrideRecipe(own, { training: { microBatchSize: 5 } });
  const summed = await train({ recipe: parts, network, out: at('parts') });
  const losses = ({ result }: typeof whole) => result.layers.map(({ trainLoss }) => trainLoss!);
  losses(summed).forEach((loss, layer) => void expect(loss).toBeCloseTo(losses(whole)[layer]!, 5));
  const expected = await tensorsOf(at('whole'));
  for (const [name, weights] of await tensorsOf(at('parts'))) {
    weights.forEach((weight, i) => void expect(weight, name).toBeCloseTo(expected.get(name)![i]!, 5));
  }
});

it('micro-batches take less memory: of the layers below only what the next one reads is kept', () => {
  const model = { width: 8, layers: 6, downsampleAt: [] };
  const recipe = atOnce(smallRecipe({ model, training: { batchSize: 32 } }, 'simcnn-k1'));
  const network = buildNetwork(recipe, 10, 'cpu');
  const [stage] = buildStages(recipe, network) as [Stage];
  const peakOf = (microBatchSize: number | null): number => {
    const context = { device: 'cpu', precision: 'fp32' } as const;
    const problem = new AuxiliaryProblem(stage, {
      ...context,
      recipe: overrideRecipe(recipe, { training: { microBatchSize } }),
    });
    problem.beginEpoch(0, { inItsMiddle: false });
    const give = (_: number, length: number) => ({
      features: zeros([length, ...network.inputShape]),
      labels: zeros([length], { dtype: 'int64' }),
    });
    const { peakBytes } = measurePeak(() => scope(() => problem.tryBatch(32, give)));
    problem.dispose();
    return peakBytes;
  };
  const [whole, parts] = [peakOf(null), peakOf(8)];
  expect(parts).toBeLessThan(0.35 * whole);
  disposeNetwork(network);
});

it.each([0, 1, 2])('names layer %i where its loss is not finite', async (layer) => {
  const failed = train({ recipe: own, network: plainLayers(layer), out: at(`infinite-${layer}`) });
  await expect(failed).rejects.toThrow(NonFiniteLossError);
  await expect(failed).rejects.toMatchObject({ at: { layer } });
});

describe('is refused', () => {
  it('with kept views, which are features of frozen layers', () => {
    const asked = () => atOnce(RECIPES[0]![1], { augmentation: { views: 2 } });
    expect(asked).toThrow(RecipeError);
    expect(asked).toThrow('augmentation.views: expected none with training.schedule simultaneous');
  });

  it('for layers of another run', async () => {
    const source = at('source');
    await train({ recipe: RECIPES[0]![1], out: source });
    const asked = train({ recipe: atOnce(RECIPES[0]![1]), startFrom: { runDirectory: source }, out: at('taken') });
    await expect(asked).rejects.toThrow(
      'training.schedule: expected layerwise for a run that starts from trained layers',
    );
  });
});

it('goes with blocks', async () => {
  const recipe = atOnce(RECIPES[0]![1], { training: { blocks: 2 } });
  const { result } = await train({ recipe, out: at('blocks') });
  expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
});
