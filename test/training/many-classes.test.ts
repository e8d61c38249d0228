// More classes than a file has room for pairs of.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type InMemoryVectorData, inMemoryDataset } from '../../lib/data/index.js';
import { TrainedRun } from '../../lib/finished/index.js';
import { layeredNetwork, type NetworkBuilder } from '../../lib/models/index.js';
import { Linear } from '../../lib/nn/index.js';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { train } from '../../lib/training/index.js';
import { temporaryFolder } from './runs.js';

const at = temporaryFolder();

const network: NetworkBuilder = ({ classes }) =>
  layeredNetwork({
    ...{ classes, inputShape: [1] },
    blocks: [new Linear({ inFeatures: 1, outFeatures: 2 })],
    heads: [new Linear({ inFeatures: 2, outFeatures: classes })],
  });

it.each([
  [2_048, true],
  [2_049, false],
])('a run of %i classes ends, with confusions: %s', async (count, hasConfusions) => {
  const part = { vectors: Float32Array.of(1, 2, 3), labels: [0, 1, count - 1] };
  const classes = Array.from({ length: count }, (_, i) => `class ${i}`);
  const data: InMemoryVectorData = { classes, vectorLength: 1, train: part, test: part };
  const recipe = overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
    training: { epochs: 1, batchSize: 3, milestones: [] },
    augmentation: { cropPadding: 0, horizontalFlip: false },
    ...{ device: 'cpu', precision: 'fp32', threads: 1 },
  });
  const out = at(String(count));
  const { result } = await train({ recipe, network, data, out });
  const written = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'));
  expect(written.confusion?.length).toBe(hasConfusions ? count : undefined);
  const note = `Confusions are not recorded: there are ${count} classes, more than 2048.`;
  expect(result.notes!.includes(note)).toBe(!hasConfusions);
  using run = await TrainedRun.open(out, { network });
  const { confusion, top5 } = await run.evaluate(inMemoryDataset(data).test, 0);
  expect([confusion?.length, top5]).toEqual([hasConfusions ? count : undefined, result.layers[0]!.testTop5]);
});
