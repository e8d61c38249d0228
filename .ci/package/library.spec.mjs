// For Vitest, in its worker.
import { overrideRecipe, presetRecipe, train } from 'layerwise';
import { expect, test } from 'vitest';

test('trains', async () => {
  const preset = presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false });
  const recipe = overrideRecipe(preset, {
    model: { width: 8 },
    dataset: { trainLimit: 64, testLimit: 32 },
    training: { epochs: 1, milestones: [] },
  });
  expect((await train({ recipe })).result.layers).toHaveLength(8);
});
