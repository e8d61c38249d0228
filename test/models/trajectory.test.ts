// Algorithm 1 of the paper for two layers, step by step against PyTorch: layer 0 trains with its auxiliary head, then
// layer 1 trains on the frozen layer 0.
import { expect, it } from 'vitest';
import { disposeNetwork, Vgg } from '../../lib/models/index.js';
import type { Module } from '../../lib/nn/index.js';
import { Sgd } from '../../lib/optim/index.js';
import { noGrad, scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import {
  type EncodedTensor,
  expectClose,
  expectNumbersClose,
  fillByHash,
  hashed,
  hashValues,
  readFixture,
} from '../support/fixtures.js';

interface TrainingFixture {
  readonly classes: number;
  readonly batch: number;
  readonly width: number;
  readonly imageSize: number;
  readonly steps: number;
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly imageSalt: number;
  readonly labelSalt: number;
  readonly layers: readonly {
    readonly losses: readonly number[];
    readonly block: readonly EncodedTensor[];
    readonly head: readonly EncodedTensor[];
  }[];
  readonly frozenAfterwards: readonly EncodedTensor[];
}

const fixture = readFixture<TrainingFixture>('layerwise-training.json');
const TOLERANCE = { relative: 1e-5, ofLargest: true };

function batchOf(step: number): { images: Tensor; labels: Tensor } {
  const { batch, imageSize, classes, imageSalt, labelSalt } = fixture;
  const labels = Array.from(hashValues(batch, labelSalt + step), (value) => Math.floor((value + 0.5) * classes));
  return {
    images: hashed([batch, 3, imageSize, imageSize], imageSalt + step).mul_(4),
    labels: tensor(labels, { dtype: 'int64' }),
  };
}

/** Trains block and head on what the frozen blocks make of each batch; returns the losses. */
function trainLayer(frozen: readonly Module[], block: Module, head: Module): number[] {
  for (const module of frozen) module.eval();
  const { learningRate, momentum, weightDecay } = fixture;
  const parameters = [...block.train().parameters(), ...head.train().parameters()];
  const optimizer = new Sgd(parameters, { learningRate, momentum, weightDecay });
  const losses = Array.from({ length: fixture.steps }, (_, step) =>
    scope(() => {
      const { images, labels } = batchOf(step);
      const features = noGrad(() => frozen.reduce((x, module) => module.forward(x), images));
      optimizer.zeroGrad();
      const loss = head.forward(block.forward(features)).crossEntropy(labels);
      loss.backward();
      optimizer.step();
      return loss.item();
    }),
  );
  optimizer.zeroGrad();
  optimizer.dispose();
  return losses;
}

function expectState(module: Module, expected: readonly EncodedTensor[], what: string): void {
  const state = [...module.stateDict()];
  expect(state.length, `${what}: tensors`).toBe(expected.length);
  for (const [i, [name, value]] of state.entries()) expectClose(value, expected[i]!, `${what} ${name}`, TOLERANCE);
}

it('trains two layers greedily to the losses, weights and running statistics of PyTorch', () => {
  const network = new Vgg({ name: 'vgg11', ...fixture, layers: 2, seed: 0 });
  try {
    const { blocks, heads } = network;
    blocks.forEach((block, j) => {
      fillByHash(block.stateDict(), 1000 * j);
      fillByHash(heads[j]!.stateDict(), 1000 * j + 500);
    });
    fixture.layers.forEach((expected, j) => {
      const losses = trainLayer(blocks.slice(0, j), blocks[j]!, heads[j]!);
      expectNumbersClose(losses, expected.losses, `losses of layer ${j}`, { relative: 1e-5 });
      expectState(blocks[j]!, expected.block, `block ${j}`);
      expectState(heads[j]!, expected.head, `head ${j}`);
    });
    expectState(blocks[0]!, fixture.frozenAfterwards, 'frozen block 0');
  } finally {
    disposeNetwork(network);
  }
});
