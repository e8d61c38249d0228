// What every declared model must do, whatever it is: the tests run over the catalogue.
import { describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import {
  disposeNetwork,
  localProblems,
  MODEL_NAMES,
  MODEL_PRESETS,
  modelTitle,
  type Network,
} from '../../lib/models/index.js';
import { FrozenBlocks, loadInto, readSafetensors, writeSafetensors } from '../../lib/nn/index.js';
import { buildNetwork, buildStages, overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { canRehearse, manualSeed, noGrad, randn, scope, type Tensor } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

/** A few images, two epochs of two steps a layer, the second of fewer images. */
function smallRecipe(preset: string, overrides: unknown = {}): Recipe {
  const recipe = overrideRecipe(presetRecipe(preset, { dataset: 'shapes', onCuda: false }), {
    dataset: { trainLimit: 20, testLimit: 10 },
    // Not the schedules and rates of presets for many steps.
    training: { epochs: 2, batchSize: 12, rateSchedule: 'multi-step', milestones: [1], learningRate: 0.05 },
    ...{ device: 'cpu', precision: 'fp32', threads: 1 },
  });
  return overrideRecipe(recipe, overrides);
}

const CLASSES = 10;

/** Runs `test` on a new network of a preset. */
async function withNetwork(
  preset: string,
  test: (network: Network) => void | Promise<void>,
  overrides?: unknown,
): Promise<void> {
  const network = buildNetwork(smallRecipe(preset, overrides), CLASSES, 'cpu');
  try {
    await test(network);
  } finally {
    disposeNetwork(network);
  }
}

const norm = (tensor: Tensor): number => scope(() => Math.sqrt(tensor.to({ dtype: 'float64' }).pow(2).sum().item()));
const distance = (a: Tensor, b: Tensor): number => scope(() => norm(a.sub(b)));

const tensorsOf = (network: Network): [string, Tensor][] => [...network.stateDict(), ...network.auxiliaryStateDict()];

/** In the order of the catalogue, but for that of networks of one's own, which have tests of their own. */
const presets = MODEL_PRESETS.map(({ preset }) => preset.name).filter((name) => name !== 'own');

it('every model name is a variant of a preset, and has a title of its own', () => {
  const variants = presets.map((preset) => smallRecipe(preset).model.name);
  expect(new Set([...variants, 'own'])).toEqual(new Set(MODEL_NAMES));
  expect(new Set(MODEL_NAMES.map(modelTitle)).size).toBe(MODEL_NAMES.length);
  for (const name of MODEL_NAMES) expect(modelTitle(name)).not.toBe(name);
});

describe.each(presets)('%s', (preset) => {
  it('has a head for each block, whose shapes chain down to the classes', () =>
    withNetwork(preset, (network) => {
      expect(network.heads.length).toBe(network.blocks.length);
      expect(buildStages(smallRecipe(preset), network).at(-1)!.layer).toBe(network.blocks.length - 1);
      scope(() =>
        noGrad(() => {
          let x = randn([2, ...network.inputShape]);
          network.blocks.forEach((block, layer) => {
            x = block.eval().forward(x);
            expect(network.heads[layer]!.eval().forward(x).shape, `head ${layer + 1}`).toEqual([2, CLASSES]);
          });
        }),
      );
    }));

  it('gives the same when its layers are frozen', () =>
    withNetwork(preset, (network) => {
      manualSeed(1);
      scope(() =>
        noGrad(() => {
          // Batch norm folds statistics that are not those of a new network.
          for (const block of network.blocks) {
            for (const [name, value] of block.stateDict()) {
              if (name.endsWith('running_var')) value.copy_(randn(value.shape).abs().add(0.5));
            }
          }
          const x = randn([4, ...network.inputShape]);
          const expected = network.blocks.reduce((features, block) => block.eval().forward(features), x);
          const frozen = new FrozenBlocks(network.blocks, 'float32');
          expect(distance(frozen.forward(x), expected) / norm(expected)).toBeLessThan(1e-4);
          frozen.dispose();
        }),
      );
    }));

  it('has the same weights for the same seed, and others for another', () =>
    withNetwork(preset, (network) =>
      withNetwork(preset, (again) =>
        withNetwork(
          preset,
          (other) => {
            const [own, same, seeded] = [network, again, other].map(tensorsOf) as [string, Tensor][][] & { length: 3 };
            expect(same!.map(([name]) => name)).toEqual(own!.map(([name]) => name));
            own!.forEach(([name, tensor], i) => void expect(distance(tensor, same![i]![1]), name).toBe(0));
            expect(own!.some(([, tensor], i) => distance(tensor, seeded![i]![1]) > 0)).toBe(true);
          },
          { seed: 2 },
        ),
      ),
    ));

  it('has all of its tensors in its state dicts, which go through a file into another network', () =>
    withNetwork(preset, (network) =>
      withNetwork(
        preset,
        async (other) => {
          const own = new Map(tensorsOf(network));
          const modules = [...network.blocks, ...network.heads];
          expect(own.size).toBe(modules.reduce((sum, module) => sum + module.stateDict().size, 0));
          const file = at(`${preset}.safetensors`);
          await writeSafetensors(file, own);
          const { tensors } = await readSafetensors(file);
          loadInto(new Map(tensorsOf(other)), tensors);
          for (const tensor of tensors.values()) tensor.dispose();
          for (const [name, tensor] of tensorsOf(other)) expect(distance(tensor, own.get(name)!), name).toBe(0);
        },
        { seed: 2 },
      ),
    ));

  it.runIf(canRehearse())('has a plan: a row a stage', async () => {
    const recipe = smallRecipe(preset);
    const { plan } = await planRecipe({ recipe, measured: false });
    await withNetwork(preset, (network) => {
      expect(plan.layers.map(({ layer }) => layer)).toEqual(
        buildStages(recipe, network).flatMap((stage) => localProblems(stage).map(({ layer }) => layer)),
      );
    });
  });
});

/** Of each kind of network: the variants of one differ in their number of layers alone. */
const trained = presets.filter((preset) => {
  const { model } = MODEL_PRESETS.find((one) => one.preset.name === preset)!;
  return model.names.length === 1 || smallRecipe(preset).model.name === model.names[0];
});

describe.each(trained)('a run of %s', (preset) => {
  it('that is stopped and resumed ends with the bits of one that was not; it opens, evaluates and predicts', async () => {
    const recipe = smallRecipe(preset);
    const whole = at(`${preset}-whole`);
    await train({ recipe, out: whole });
    const stopped = at(`${preset}-stopped`);
    await startAndStop({ recipe, out: stopped }, ({ type }) => type === 'step');
    await resume(stopped);
    expect(productOf(stopped)).toEqual(productOf(whole));

    using run = await TrainedRun.open(whole);
    const dataset = await run.loadDataset();
    const { top1, loss } = await run.evaluate(dataset.test, run.layers - 1);
    expect(loss).toBeGreaterThan(0);
    expect(top1).toBeGreaterThanOrEqual(0);
  });

  it.each(['bf16', 'fp32'] as const)('takes a step in %s', async (precision) => {
    const recipe = smallRecipe(preset, {
      dataset: { trainLimit: 12 },
      training: { epochs: 1, milestones: [] },
      precision,
    });
    const { result } = await train({ recipe, out: at(`${preset}-${precision}`) });
    for (const { testLoss } of result.layers) expect(testLoss).toBeGreaterThan(0);
  });
});
