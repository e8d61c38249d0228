// Dropout in several layers draws on from layer to layer, also in a run that was killed between two of them.
import { cpSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { InMemoryVectorData } from '../../lib/data/index.js';
import { layeredNetwork, type NetworkBuilder } from '../../lib/models/index.js';
import { Dropout, defaultInit, Linear, ReLU, Sequential } from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { Generator } from '../../lib/tensor/index.js';
import { resume, train } from '../../lib/training/index.js';
import { positionOf, productOf, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const part = {
  vectors: Float32Array.from({ length: 96 }, (_, i) => Math.sin(7 * i)),
  labels: Array.from({ length: 32 }, (_, i) => i % 2),
};
const data: InMemoryVectorData = { classes: ['a', 'b'], vectorLength: 3, train: part, test: part };

const network: NetworkBuilder = ({ classes, inputShape, seed }) => {
  using generator = Generator.create({ seed });
  const init = defaultInit(generator);
  const linear = (inFeatures: number, outFeatures: number) => new Linear({ inFeatures, outFeatures, init });
  const block = (inputs: number) =>
    new Sequential([
      ['linear', linear(inputs, 8)],
      ['relu', new ReLU()],
      ['dropout', new Dropout({ p: 0.5 })],
    ]);
  return layeredNetwork({
    ...{ classes, inputShape },
    blocks: [block(3), block(8), block(8)],
    heads: [linear(8, classes), linear(8, classes), linear(8, classes)],
  });
};

const recipe = overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
  training: { epochs: 1, batchSize: 8, milestones: [], learningRate: 0.05 },
  augmentation: { cropPadding: 0, horizontalFlip: false },
  ...{ device: 'cpu', precision: 'fp32', threads: 1 },
});

it('a run that was killed between two layers ends with the same bits', async () => {
  const out = at('whole');
  const left: [position: string, directory: string][] = [];
  await train({
    ...{ recipe, network, data, out },
    onEvent: (event) => {
      if (event.type === 'done') return;
      const directory = at(`killed-${left.length}`);
      // Less the lock: that of a killed process names one that is gone, this one's names the living.
      cpSync(out, directory, { recursive: true, filter: (path) => !path.endsWith('run.lock') });
      left.push([positionOf(event), directory]);
    },
  });
  expect(left.filter(([position]) => position.startsWith('layer'))).toHaveLength(3);
  for (const [position, directory] of left) {
    await resume(directory, { network, data });
    expect(productOf(directory), `killed at ${position}`).toEqual(productOf(out));
  }
});
