// The paper's networks in training, against PyTorch from its initial weights on the same batches: layer 0 with its
// auxiliary head, a drop of the rate with a new optimiser, then layer 1 on the frozen layer 0.
import { expect, it } from 'vitest';
import { DeviceImages, noDraws } from '../../lib/data/index.js';
import { FrozenPrefix } from '../../lib/features/frozen-prefix.js';
import { disposeNetwork, type Network } from '../../lib/models/index.js';
import type { Module } from '../../lib/nn/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { noGrad, scope } from '../../lib/tensor/index.js';
import { AuxiliaryProblem } from '../../lib/training/auxiliary-problem.js';
import {
  decode,
  type EncodedTensor,
  expectClose,
  expectNumbersClose,
  hashValues,
  readFixture,
} from '../support/fixtures.js';

/** Each tensor with the last part of its name. */
type EncodedState = readonly (readonly [name: string, tensor: EncodedTensor])[];

interface Case {
  readonly name: string;
  readonly preset: string;
  readonly imageSize: number;
  readonly model: Partial<Recipe['model']>;
  readonly training: Partial<Recipe['training']>;
  readonly layers: readonly {
    readonly initial: { readonly block: EncodedState; readonly head: EncodedState };
    readonly losses: readonly number[];
    readonly block: EncodedState;
    readonly head: EncodedState;
  }[];
}

interface Fixture {
  readonly classes: number;
  readonly batch: number;
  readonly epochs: number;
  readonly stepsOfAnEpoch: number;
  readonly imageSalt: number;
  readonly labelSalt: number;
  readonly normalization: { readonly mean: readonly number[]; readonly std: readonly number[] };
  readonly cases: readonly Case[];
}

const fixture = readFixture<Fixture>('faithfulness.json');
const { classes, batch, epochs, stepsOfAnEpoch } = fixture;

const casesByName = fixture.cases.map((of) => [of.name, of] as const);

/**
 * Relative to a tensor's largest element. The absolute part is for biases, which begin at 0 or have gradients that are
 * all rounding (a convolution's before batch norm): they are added to values of about 1.
 */
const TOLERANCE = { relative: 1e-5, absolute: 1e-6, ofLargest: true };

const recipeOf = ({ preset, imageSize, model, training }: Case): Recipe =>
  overrideRecipe(presetRecipe(preset, { dataset: 'cifar10', onCuda: false }), {
    model,
    dataset: { imageSize },
    augmentation: { cropPadding: 0, horizontalFlip: false },
    training: { ...training, epochs, batchSize: batch, milestones: [1], resetMomentumAtDrops: true },
  });

function hashedImages(imageSize: number): DeviceImages {
  const count = batch * epochs * stepsOfAnEpoch;
  const pixels = hashValues(count * 3 * imageSize ** 2, fixture.imageSalt);
  const source = {
    images: Uint8Array.from(pixels, (value) => (value + 0.5) * 256),
    labels: Uint8Array.from(hashValues(count, fixture.labelSalt), (value) => (value + 0.5) * classes),
  };
  return new DeviceImages({ ...source, count, channels: 3, height: imageSize, width: imageSize }, 'cpu');
}

const lastPart = (name: string): string => name.slice(name.lastIndexOf('.') + 1);
const namesOf = (module: Module): string[] => [...module.stateDict().keys()].map(lastPart);

function load(module: Module, state: EncodedState): void {
  expect(namesOf(module)).toEqual(state.map(([name]) => name));
  const targets = [...module.stateDict().values()];
  noGrad(() => scope(() => state.forEach(([, encoded], i) => void targets[i]!.copy_(decode(encoded)))));
}

interface Training {
  readonly network: Network;
  /** Trains one layer as the recipe says; returns the loss of every step. */
  readonly trainLayer: (layer: number) => number[];
}

function withTraining(of: Case, body: (training: Training) => void): void {
  const recipe = recipeOf(of);
  const network = buildNetwork(recipe, classes, 'cpu');
  const images = hashedImages(of.imageSize);
  const trainLayer = (layer: number): number[] => {
    const stage = buildStages(recipe, network)[layer]!;
    const problem = new AuxiliaryProblem(stage, { recipe, device: 'cpu', precision: 'fp32' });
    const { trainTransforms } = buildTransforms(recipe, fixture.normalization);
    const prefix = new FrozenPrefix(stage, { precision: 'fp32', transforms: trainTransforms });
    const losses: number[] = [];
    for (let epoch = 0; epoch < epochs; epoch++) {
      problem.beginEpoch(epoch, { inItsMiddle: false });
      for (let step = 0; step < stepsOfAnEpoch; step++) {
        const first = (epoch * stepsOfAnEpoch + step) * batch;
        const indices = Int32Array.from({ length: batch }, (_, i) => first + i);
        const give = () => {
          const { images: pixels, labels } = images.batch(indices);
          return { features: prefix.forward(pixels, noDraws), labels };
        };
        losses.push(scope(() => problem.step(batch, give).loss.item()));
      }
      problem.endEpoch();
    }
    prefix.dispose();
    problem.dispose();
    return losses;
  };
  try {
    of.layers.forEach(({ initial }, j) => {
      load(network.blocks[j]!, initial.block);
      load(network.heads[j]!, initial.head);
    });
    body({ network, trainLayer });
  } finally {
    images.dispose();
    disposeNetwork(network);
  }
}

function expectState(module: Module, expected: EncodedState, what: string): void {
  const tensors = [...module.stateDict()];
  for (const [i, [name, value]] of tensors.entries()) {
    expectClose(value, expected[i]![1], `${what} ${name}`, TOLERANCE);
  }
}

it.each(casesByName)('%s trains two layers to the losses, weights and running statistics of PyTorch', (_, of) => {
  withTraining(of, ({ network, trainLayer }) => {
    for (const [j, expected] of of.layers.entries()) {
      expectNumbersClose(trainLayer(j), expected.losses, `losses of layer ${j}`, { relative: 1e-5 });
      expectState(network.blocks[j]!, expected.block, `block ${j}`);
      expectState(network.heads[j]!, expected.head, `head ${j}`);
    }
  });
});

function bytesOf(module: Module): Map<string, Buffer> {
  return new Map(
    [...module.stateDict()].map(([name, tensor]) => {
      const { buffer, byteOffset, byteLength } = tensor.toTypedArray();
      return [name, Buffer.from(buffer, byteOffset, byteLength)];
    }),
  );
}

it.each(casesByName)('%s leaves every byte of layer 0 as it is while layer 1 trains', (_, of) => {
  withTraining(of, ({ network, trainLayer }) => {
    const [block, head] = [network.blocks[0]!, network.heads[0]!];
    const initial = bytesOf(block);
    trainLayer(0);
    const before = [bytesOf(block), bytesOf(head)];
    for (const [name, bytes] of before[0]!) expect(bytes.equals(initial.get(name)!), name).toBe(false);
    const next = bytesOf(network.blocks[1]!);
    trainLayer(1);
    expect([bytesOf(block), bytesOf(head)]).toEqual(before);
    for (const [name, bytes] of bytesOf(network.blocks[1]!)) expect(bytes.equals(next.get(name)!), name).toBe(false);
  });
});
