// The paper's proposition of progressive improvement: a layer with the identity for its downsampling, the
// identity kernel for its weights and the previous head for its own has exactly the previous loss, for ReLU of ReLU is
// ReLU. Greedy training that starts there cannot start worse than the layer below ended.
import { beforeAll, describe, expect, it } from 'vitest';
import { type Dataset, DeviceImages, type LabelledImages, loadDataset, noDraws } from '../../lib/data/index.js';
import { FrozenPrefix } from '../../lib/features/frozen-prefix.js';
import { disposeNetwork, type Network } from '../../lib/models/index.js';
import type { BatchNorm2d, Conv2d, Module } from '../../lib/nn/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { noGrad, scope, tensor } from '../../lib/tensor/index.js';
import { AuxiliaryProblem, type StepBatch } from '../../lib/training/auxiliary-problem.js';
import { expectNumbersClose } from '../support/fixtures.js';

const COUNT = 16;
const WIDTH = 6;
const EPS = 1e-5; // of batch norm

let dataset: Dataset<LabelledImages>;
beforeAll(async () => {
  dataset = await loadDataset({ name: 'shapes', trainLimit: COUNT, testLimit: 1 });
});

const recipeOf = (k: number): Recipe =>
  overrideRecipe(presetRecipe(`simcnn-k${k}`, { dataset: 'shapes', onCuda: false }), {
    model: { layers: 2, width: WIDTH, auxWidth: WIDTH, downsampleAt: [] },
    augmentation: { cropPadding: 0, horizontalFlip: false },
    training: { learningRate: 0.02, momentum: 0, weightDecay: 0 },
  });

interface Progress {
  readonly network: Network;
  /** Trains a layer on all images, so many steps; returns the loss of each. */
  readonly train: (layer: number, steps: number) => number[];
  /** A layer's logits of all images, and their loss, in evaluation mode. */
  readonly evaluate: (layer: number) => { logits: number[]; loss: number };
}

function withLayers(k: number, body: (progress: Progress) => void): void {
  const recipe = recipeOf(k);
  const network = buildNetwork(recipe, 10, 'cpu');
  const images = new DeviceImages(dataset.train, 'cpu');
  const { testTransforms } = buildTransforms(recipe, dataset.normalization);
  const inProblem = <T>(layer: number, use: (problem: AuxiliaryProblem, batch: () => StepBatch) => T): T => {
    const stage = buildStages(recipe, network)[layer]!;
    const problem = new AuxiliaryProblem(stage, { recipe, device: 'cpu', precision: 'fp32' });
    const prefix = new FrozenPrefix(stage, { precision: 'fp32', transforms: testTransforms });
    try {
      return use(problem, () => {
        const all = images.batch(indices);
        return { features: prefix.forward(all.images, noDraws), labels: all.labels };
      });
    } finally {
      prefix.dispose();
      problem.dispose();
    }
  };
  const indices = Int32Array.from({ length: COUNT }, (_, i) => i);
  try {
    body({
      network,
      train: (layer, steps) =>
        inProblem(layer, (problem, batch) => {
          problem.beginEpoch(0, { inItsMiddle: false });
          return Array.from({ length: steps }, () => scope(() => problem.step(COUNT, batch).loss.item()));
        }),
      evaluate: (layer) =>
        inProblem(layer, (problem, batch) => {
          problem.endEpoch();
          return noGrad(() =>
            scope(() => {
              const { features, labels } = batch();
              const logits = problem.predict(features);
              const loss = logits.crossEntropy(labels).item();
              return { logits: Array.from(logits.toTypedArray() as Float32Array), loss };
            }),
          );
        }),
    });
  } finally {
    images.dispose();
    disposeNetwork(network);
  }
}

/** W[o, i] is 1 at the centre where o is i, else 0. */
function setIdentityKernel(conv: Conv2d): void {
  const kernel = new Float32Array(WIDTH * WIDTH * 9);
  for (let channel = 0; channel < WIDTH; channel++) kernel[(channel * WIDTH + channel) * 9 + 4] = 1;
  conv.weight.copy_(tensor(kernel, { shape: [WIDTH, WIDTH, 3, 3] }));
  conv.bias?.fill_(0);
}

/** (x - 0) / sqrt(1 - eps + eps) * 1 + 0. */
function setIdentityStatistics(bn: BatchNorm2d): void {
  bn.runningMean.fill_(0);
  bn.runningVar.fill_(1 - EPS);
  bn.weight.fill_(1);
  bn.bias.fill_(0);
}

/** Starts layer 1 where the proposition does. */
function startAtPrevious({ blocks, heads }: Network): void {
  const part = <M extends Module>(name: string) => blocks[1]!.children.get(name) as M | undefined;
  noGrad(() =>
    scope(() => {
      setIdentityKernel(part<Conv2d>('conv')!);
      const bn = part<BatchNorm2d>('bn');
      if (bn !== undefined) setIdentityStatistics(bn);
    }),
  );
  heads[1]!.loadStateDict(heads[0]!.stateDict());
}

describe('a layer that starts at the identity kernel and the previous head', () => {
  // Without batch norm x * 1 + 0 is x to the bit, unless the convolution transforms its input first (Winograd's).
  it.each([
    [1, 1e-6],
    [2, 1e-5],
    [3, 1e-5],
  ])('has the logits and the loss of the layer below: k = %i, to %d', (k, relative) => {
    withLayers(k, ({ network, train, evaluate }) => {
      train(0, 5);
      const previous = evaluate(0);
      const untouched = evaluate(1);
      expect(Math.abs(untouched.loss - previous.loss)).toBeGreaterThan(1e-3);
      startAtPrevious(network);
      const { logits, loss } = evaluate(1);
      expectNumbersClose(logits, previous.logits, 'logits', { relative, ofLargest: true });
      expectNumbersClose([loss], [previous.loss], 'loss', { relative });
    });
  });

  it('starts training there and improves on it: k = 1', () => {
    withLayers(1, ({ network, train, evaluate }) => {
      train(0, 5);
      const previous = evaluate(0).loss;
      startAtPrevious(network);
      const losses = train(1, 5);
      expectNumbersClose(losses.slice(0, 1), [previous], 'first loss of layer 1', { relative: 1e-6 });
      expect(evaluate(1).loss).toBeLessThan(previous);
    });
  });
});
