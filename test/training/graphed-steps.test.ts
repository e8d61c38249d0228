// A training step as one CUDA graph, against the same step made kernel by kernel.
import { describe, expect, it } from 'vitest';
import { disposeNetwork } from '../../lib/models/index.js';
import { buildNetwork, buildStages } from '../../lib/recipe/build.js';
import { overrideRecipe, presetRecipe, type Recipe, requireGraphs } from '../../lib/recipe/index.js';
import { buildInfo, type Device, manualSeed, rand, randn, scope } from '../../lib/tensor/index.js';
import { AuxiliaryProblem } from '../../lib/training/auxiliary-problem.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from './runs.js';

const at = temporaryFolder();

it.each([
  ['cpu', 'bf16', null, 'cudaGraph (--cuda-graph): needs a CUDA device, this run is on the cpu'],
  ['cuda:0', 'fp16', null, 'cudaGraph (--cuda-graph): cannot be used with fp16, whose loss scale is looked at'],
  ['cuda:0', 'bf16', 4, 'cudaGraph (--cuda-graph): cannot be used with micro-batches'],
] as const)('is refused on %s in %s with micro-batches of %s', (device, precision, microBatchSize, message) => {
  const recipe = overrideRecipe(presetRecipe('simcnn-k2', { dataset: 'shapes', onCuda: true }), {
    training: { microBatchSize },
  });
  expect(() => requireGraphs(recipe, device, precision)).toThrow(message);
});

it.each([
  [{ optimizer: 'adamw' }, 'cudaGraph (--cuda-graph): cannot be used with training.optimizer adamw; use sgd'],
  [
    { rateSchedule: 'cosine' },
    'cudaGraph (--cuda-graph): cannot be used with a learning rate that changes from step to',
  ],
  [{ warmupEpochs: 1 }, 'cudaGraph (--cuda-graph): cannot be used with a learning rate that changes from step to step'],
])('is refused with %j', (training, message) => {
  const recipe = overrideRecipe(presetRecipe('simcnn-k2', { dataset: 'shapes', onCuda: true }), { training });
  expect(() => requireGraphs(recipe, 'cuda:0', 'bf16')).toThrow(message);
});

it('a run on the CPU is refused before its directory is made', async () => {
  await expect(train({ recipe: smallRecipe({}), out: at('none'), cudaGraph: true })).rejects.toMatchObject({
    code: 'INVALID_RECIPE',
  });
});

describe.runIf(buildInfo().cudaAvailable)('on a GPU', () => {
  const device: Device = 'cuda:0';
  const recipe: Recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'cifar10', onCuda: true }), {
    model: { width: 16, auxWidth: 16 },
    training: { batchSize: 32, epochs: 2, learningRate: 0.05, milestones: [1] },
    precision: 'fp32',
    device,
  });

  /** Losses of two epochs of seven steps, whose last is smaller, with a drop of the rate between; and the weights. */
  function lossesAndWeights(cudaGraph: boolean): number[] {
    manualSeed(1);
    const network = buildNetwork(recipe, 10, device);
    const problem = new AuxiliaryProblem(buildStages(recipe, network)[0]!, {
      ...{ recipe, device, precision: 'fp32' as const, cudaGraph },
    });
    const values: number[] = [];
    for (const epoch of [0, 1]) {
      problem.beginEpoch(epoch, { inItsMiddle: false });
      for (const count of [32, 32, 32, 32, 32, 32, 20]) {
        scope(() => {
          const features = randn([count, 3, 32, 32], { device });
          const labels = rand([count], { device }).mul(10).to({ dtype: 'int64' });
          values.push(problem.step(count, () => ({ features, labels })).loss.item());
        });
      }
    }
    for (const weights of problem.optimizer.parameters) values.push(scope(() => weights.abs().sum().item()));
    problem.dispose();
    disposeNetwork(network);
    return values;
  }

  it('gives the losses and weights of ordinary steps', () => {
    const ordinary = lossesAndWeights(false);
    const graphed = lossesAndWeights(true);
    graphed.forEach((value, i) => {
      expect(Math.abs(value - ordinary[i]!), `value ${i}`).toBeLessThanOrEqual(1e-5 * Math.abs(ordinary[i]!));
    });
  });
});
