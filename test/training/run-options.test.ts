// Options of what trains: a misspelled one is refused, instead of being silently its default.
import { expect, it } from 'vitest';
import { loadDataset } from '../../lib/data/index.js';
import { compressRun, importWeights, TrainedRun } from '../../lib/finished/index.js';
import { presetRecipe } from '../../lib/recipe/index.js';
import { canRehearse } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { smallRecipe } from './runs.js';

const recipe = smallRecipe();
/** As a caller without types gives them. */
const options = (given: object): never => given as never;

it.each([
  ['startform', 'train: unknown option startform, expected ', { startform: { runDirectory: 'a' } }],
  ['startFrom.layer', 'train: unknown key startFrom.layer', { startFrom: { runDirectory: 'a', layer: 2 } }],
  [
    'startFrom.head',
    'train: startFrom.head: expected one of "new"|"taken", got "x"',
    { startFrom: { runDirectory: 'a', head: 'x' } },
  ],
  ['out', 'train: out: expected string, got 5', { out: 5 }],
  ['onEvent', 'train: onEvent: expected a function, got "x"', { onEvent: 'x' }],
  ['signal', 'train: signal: expected an AbortSignal, got true', { signal: true }],
  ['checkpointSeconds', 'train: checkpointSeconds: ', { checkpointSeconds: 'x' }],
  ['checkpointSeconds', 'train: checkpointSeconds: ', { checkpointSeconds: -1 }],
  ['cudaGraph', 'train: cudaGraph: ', { cudaGraph: 'yes' }],
])('train refuses %s: %s', async (_, message, given) => {
  const error: unknown = await train(options({ recipe, ...given })).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: 'RecipeError', message: expect.stringContaining(message) });
});

it('so do the others', async () => {
  const refused = { name: 'RecipeError' };
  await expect(train(options([]))).rejects.toMatchObject({ ...refused, message: expect.stringContaining('an array') });
  await expect(resume('anywhere', options({ datadir: '/' }))).rejects.toMatchObject(refused);
  await expect(planRecipe(options({ recipe, measured: false, out: 'a' }))).rejects.toMatchObject(refused);
  await expect(TrainedRun.open('anywhere', options({ presicion: 'fp32' }))).rejects.toMatchObject(refused);
  await expect(compressRun(options({ runDirectory: 'a', filter: 2, out: 'b' }))).rejects.toMatchObject(refused);
  await expect(importWeights(options({ form: 'a' }))).rejects.toMatchObject({ name: 'WeightsError' });
  expect(() => presetRecipe('vgg11-layerwise', options({ onCuda: false, datset: 'cifar10' }))).toThrow(
    'unknown option datset',
  );
  await expect(loadDataset(options({ name: 'shapes', trainLimt: 5 }))).rejects.toMatchObject({
    code: 'DATA_ARGUMENT',
    message: expect.stringContaining('unknown option trainLimt, expected name, dataDir, trainLimit'),
  });
});

it.runIf(canRehearse())('an option that is undefined is one that is left out', async () => {
  const { plan } = await planRecipe({ recipe, measured: false, startFrom: undefined, cache: undefined } as never);
  expect(plan.layers.length).toBe(2);
});
