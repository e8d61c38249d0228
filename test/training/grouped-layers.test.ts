// Consecutive layers in blocks that are trained as one: the same network, fewer stages and heads.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { compressRun, TrainedRun } from '../../lib/finished/index.js';
import {
  type Blocks,
  disposeNetwork,
  layeredNetwork,
  type Network,
  type NetworkBuilder,
  torchvisionStateDict,
} from '../../lib/models/index.js';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  defaultInit,
  Flatten,
  Linear,
  type Module,
  ReLU,
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
import { readRunRecord } from '../../lib/run/index.js';
import { canRehearse, Generator, noGrad, randn, scope, type Tensor } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const grouped = (recipe: Recipe, blocks: Blocks | null): Recipe => overrideRecipe(recipe, { training: { blocks } });

const RECIPES: readonly (readonly [string, Recipe])[] = [
  ['VGG-11', smallRecipe({ model: { width: 2, layers: 5 } })],
  ['SimCNN', smallRecipe({ model: { width: 4, auxWidth: 4, layers: 5, downsampleAt: [1, 2] } }, 'simcnn-k2')],
];

async function withNetworks(recipes: readonly Recipe[], test: (...networks: Network[]) => void): Promise<void> {
  const networks = recipes.map((recipe) => buildNetwork(recipe, 10, 'cpu'));
  try {
    test(...networks);
  } finally {
    networks.forEach(disposeNetwork);
  }
}

const values = (tensor: Tensor): number[] => [...(tensor.to({ dtype: 'float32' }).toTypedArray() as Float32Array)];

describe.each(RECIPES)('%s in two blocks', (name, recipe) => {
  const blocks = grouped(recipe, 2);

  it('is the same network with the heads of the last layers', () =>
    withNetworks([recipe, blocks], (layers, network) => {
      // Of five layers the first two, and the other three.
      expect([network.blocks.length, network.heads.length]).toEqual([2, 2]);
      expect([...network.stateDict().keys()]).toEqual([...layers.stateDict().keys()]);
      for (const [name, tensor] of network.stateDict()) {
        scope(() => expect(values(tensor), name).toEqual(values(layers.stateDict().get(name)!)));
      }
      const auxiliary = [...network.auxiliaryStateDict().keys()];
      expect(auxiliary.length).toBeGreaterThan(0);
      expect(auxiliary.every((name) => name.startsWith('auxiliary.1.'))).toBe(true);
      scope(() =>
        noGrad(() => {
          let ungrouped = randn([2, ...network.inputShape]);
          let features = ungrouped;
          for (const [i, end] of [2, 5].entries()) {
            features = network.blocks[i]!.eval().forward(features);
            for (const block of layers.blocks.slice([0, 2][i], end)) ungrouped = block.eval().forward(ungrouped);
            expect(values(features)).toEqual(values(ungrouped));
            const [own, other] = [network.heads[i]!, layers.heads[end - 1]!].map((head) =>
              head.eval().forward(features),
            );
            expect(values(own!)).toEqual(values(other!));
          }
        }),
      );
      expect(network.notes.at(-1)).toBe(
        'The 5 layers are trained as 2 blocks (1 to 2, 3 to 5), which count as layers here.',
      );
    }));

  it('is trained, stopped, resumed to the same bits, opened and tested', async () => {
    const whole = at(`${name}-whole`);
    const { result } = await train({ recipe: blocks, out: whole });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    const stopped = at(`${name}-stopped`);
    await startAndStop({ recipe: blocks, out: stopped }, ({ type }) => type === 'layer');
    await resume(stopped);
    expect(productOf(stopped)).toEqual(productOf(whole));
    using run = await TrainedRun.open(whole);
    expect(run.layers).toBe(2);
    const { test } = await run.loadDataset();
    for (const layer of [0, 1]) {
      const { top1 } = await run.evaluate(test, layer);
      expect(top1).toBeCloseTo(result.layers[layer]!.testTop1!, 6);
    }
    const { top1 } = await run.evaluate(test, 'ensemble');
    expect(top1).toBeCloseTo(result.layers[1]!.ensembleTop1!, 6);
  });

  it.runIf(canRehearse())('has a plan: a row a block', async () => {
    const [layers, two] = await Promise.all(
      [recipe, blocks].map(async (one) => (await planRecipe({ recipe: one, measured: false })).plan),
    );
    expect(two!.layers.length).toBe(2);
    expect(two!.multiplyAdds).toBe(layers!.multiplyAdds);
    expect(two!.layers[1]!.multiplyAdds.block).toBe(
      layers!.layers.slice(2).reduce((sum, { multiplyAdds }) => sum + multiplyAdds.block, 0),
    );
  });
});

it('fixed modules that open a block are frozen, also within its first layer', () =>
  withNetworks([grouped(RECIPES[1]![1], 2)], (network) => {
    const [, second] = buildStages(grouped(RECIPES[1]![1], 2), network);
    // Layer 3 halves the resolution before its convolution.
    expect(second!.frozen.length).toBe(2);
    expect(second!.frozen.at(-1)!.parameterCount()).toBe(0);
    const trained = second!.trained.reduce((sum, module) => sum + module.parameterCount(), 0);
    expect(trained).toBe(network.blocks[1]!.parameterCount());
  }));

describe('blocks of given sizes', () => {
  const recipe = RECIPES[0]![1];

  it('are those of a number where they are as that divides the layers', async () => {
    await train({ recipe: grouped(recipe, 2), out: at('of-a-number') });
    await train({ recipe: grouped(recipe, [2, 3]), out: at('of-sizes') });
    expect(productOf(at('of-sizes'))).toEqual(productOf(at('of-a-number')));
  });

  it('are any that have all layers, and a run of them is opened by its record', async () => {
    const { result } = await train({ recipe: grouped(recipe, [3, 1, 1]), out: at('3-1-1') });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
    using run = await TrainedRun.open(at('3-1-1'));
    expect([run.layers, run.recipe.training.blocks]).toEqual([3, [3, 1, 1]]);
    expect(run.network.notes.at(-1)).toBe(
      'The 5 layers are trained as 3 blocks (1 to 3, 4, 5), which count as layers here.',
    );
    expect(await readFile(path.join(at('3-1-1'), 'report.html'), 'utf8')).toContain('3, 1, 1');
    // A record whose layers do not fit its blocks is refused.
    const file = path.join(at('3-1-1'), 'config.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace(/"blocks": \[[^\]]*\]/, '"blocks": [3, 2]'));
    await expect(readRunRecord(at('3-1-1'))).rejects.toThrow(
      'result.json: the last layer: expected 1, of recipe.training.blocks, got 2',
    );
  });
});

it('as many blocks as layers are the layers', async () => {
  const recipe = RECIPES[0]![1];
  await train({ recipe, out: at('layers') });
  await train({ recipe: grouped(recipe, 5), out: at('five') });
  expect(productOf(at('five'))).toEqual(productOf(at('layers')));
});

/** Three layers, given one by one, or the last two of them as one block. */
const builder =
  (isGrouped: boolean): NetworkBuilder =>
  ({ classes, inputShape }) => {
    const layer = (inChannels: number, seed: number): Module => {
      using generator = Generator.create({ seed });
      const init = defaultInit(generator);
      return new Sequential([
        ['conv', new Conv2d({ inChannels, outChannels: 4, kernelSize: 3, padding: 1, stride: 2, init })],
        ['norm', new BatchNorm2d({ features: 4 })],
        ['relu', new ReLU()],
      ]);
    };
    const head = (seed: number): Module => {
      using generator = Generator.create({ seed });
      return new Sequential([
        ['pool', new AdaptiveAvgPool2d({ outputSize: 1 })],
        ['flatten', new Flatten()],
        ['linear', new Linear({ inFeatures: 4, outFeatures: classes, init: defaultInit(generator) })],
      ]);
    };
    const [one, two, three] = [layer(3, 0), layer(4, 1), layer(4, 2)] as const;
    const last = new Sequential([
      ['0', two],
      ['1', three],
    ]);
    const blocks = isGrouped ? [one, last] : [one, two, three];
    const heads = isGrouped ? [head(10), head(12)] : [head(10), head(11), head(12)];
    return layeredNetwork({ name: 'three layers', classes, inputShape, blocks, heads });
  };

it("a network of one's own learns as the one whose blocks were given", async () => {
  const own = overrideRecipe(presetRecipe('own', { dataset: 'shapes', onCuda: false }), {
    dataset: { trainLimit: 60, testLimit: 20 },
    training: { epochs: 2, batchSize: 16, milestones: [1] },
    ...{ device: 'cpu', precision: 'fp32', threads: 1 },
  });
  const given = await train({ recipe: own, network: builder(true), out: at('given') });
  const made = await train({ recipe: grouped(own, 2), network: builder(false), out: at('made') });
  const figures = ({ result }: typeof given) => result.layers.map(({ testLoss, trainLoss }) => [testLoss, trainLoss]);
  expect(figures(made)).toEqual(figures(given));
});

it('of VGG goes to torchvision as it does without', () => {
  const whole = smallRecipe({ model: { width: 64, layers: 8 } });
  return withNetworks([whole, grouped(whole, 3)], (layers, blocks) => {
    using expected = torchvisionStateDict(layers);
    using given = torchvisionStateDict(blocks);
    expect([...given.tensors.keys()]).toEqual([...expected.tensors.keys()]);
    for (const [name, tensor] of given.tensors) {
      scope(() =>
        expect(tensor.eq(expected.tensors.get(name)!).to({ dtype: 'int64' }).sum().item(), name).toBe(tensor.numel),
      );
    }
  });
});

describe('blocks are refused', () => {
  const recipe = RECIPES[0]![1];
  it('where there are more than layers', async () => {
    const asked = train({ recipe: grouped(recipe, 6), out: at('six') });
    await expect(asked).rejects.toThrow('training.blocks: expected at most the 5 layers of vgg11, got 6 (--blocks)');
  });

  it.each([
    [[2, 2], '2, 2, whose sum is 4'],
    [[2, 4], '2, 4, whose sum is 6'],
  ])('where their layers are not all: %j', async (blocks, got) => {
    const asked = train({ recipe: grouped(recipe, blocks), out: at('other-sum') });
    await expect(asked).rejects.toThrow(
      `training.blocks: expected numbers whose sum is the 5 layers of vgg11, got ${got} (--blocks)`,
    );
  });

  const kinds =
    'expected a number of blocks from 1 to 1024, or a list with the number of layers, from 1 to 512, of each';
  it.each([
    [[], 'training.blocks: expected at least 1 item, got []'],
    [[0, 5], 'training.blocks.0: expected at least 1, got 0'],
    [0, 'training.blocks: expected at least 1, got 0'],
    ['2', `training.blocks: ${kinds}, got "2"`],
    [[2, '3'], `training.blocks: ${kinds}, got [2,"3"]`],
  ])('for what is neither a number nor a list of layers: %j', (blocks, message) => {
    expect(() => overrideRecipe(recipe, { training: { blocks } })).toThrow(message);
  });

  it('end to end', () => {
    const endToEnd = smallRecipe({}, 'vgg11-end-to-end');
    expect(() => grouped(endToEnd, 2)).toThrow(RecipeError);
    expect(() => grouped(endToEnd, 2)).toThrow('training.blocks: expected none with training.schedule end-to-end');
  });

  it('for compression, and for layers of a run with other blocks', async () => {
    const out = at('source');
    await train({ recipe: grouped(RECIPES[1]![1], 2), out });
    const compressed = compressRun({ runDirectory: out, filters: 1, out: at('compressed') });
    await expect(compressed).rejects.toThrow('training.blocks: expected none for a run that is compressed, got 2');
    const others = train({ recipe: RECIPES[1]![1], startFrom: { runDirectory: out, layers: 1 }, out: at('others') });
    await expect(others).rejects.toThrow('cannot start from this run: layer 1: ');
  });
});
