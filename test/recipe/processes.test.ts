// A recipe for several processes: what batch norm does, and which batches they can share.
import { describe, expect, it } from 'vitest';
import { forProcesses, overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';

const base = presetRecipe('simcnn-k3', { dataset: 'cifar10', onCuda: false });
const recipeOf = (training: object, trainCount = 50_000): Recipe =>
  overrideRecipe(base, { dataset: { trainCount }, training });

describe('for several processes', () => {
  it.each([
    [64, 2, 'off'],
    [62, 2, 'on'],
    [128, 4, 'off'],
    [128, 5, 'on'],
    // One has 32 images, the other 31.
    [63, 2, 'on'],
  ])('batches of %i on %i: statistics of all processes are %s', (batchSize, processes, expected) => {
    const recipe = recipeOf({ batchSize }, batchSize * 10);
    expect(forProcesses(recipe, processes).training.syncBatchNorm).toBe(expected);
  });

  it('what is asked for stays, and one process has no need to choose', () => {
    for (const syncBatchNorm of ['on', 'off'] as const) {
      expect(forProcesses(recipeOf({ syncBatchNorm, batchSize: 16 }), 2).training.syncBatchNorm).toBe(syncBatchNorm);
    }
    const recipe = recipeOf({ batchSize: 16 });
    expect(forProcesses(recipe, 1)).toEqual(recipe);
  });

  it.each([
    [{ batchSize: 4 }, 400, 5, '400 training images in batches of 4 leave a batch of 4'],
    [{ batchSize: 64 }, 131, 4, '131 training images in batches of 64 leave a batch of 3'],
    [
      { batchSize: 5, microBatchSize: 1 },
      50,
      2,
      'a batch of 5 images on 2 processes cannot be divided into parts of 1',
    ],
  ])('%j of %i images is refused on %i', (training, count, processes, message) => {
    expect(() => forProcesses(recipeOf(training, count), processes)).toThrow(message);
  });

  it('as many images as processes, and parts of 2, are enough', () => {
    forProcesses(recipeOf({ batchSize: 4 }, 400), 4);
    forProcesses(recipeOf({ batchSize: 5, microBatchSize: 2 }, 50), 2);
  });
});
