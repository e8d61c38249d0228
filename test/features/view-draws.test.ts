// What the views of an epoch are drawn from, by a recipe.
import { expect, it } from 'vitest';
import { batchDraws, drawFlips } from '../../lib/data/augmentation.js';
import { viewDraws } from '../../lib/features/features.js';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';

const INDICES = Int32Array.from({ length: 64 }, (_, i) => i);

function flipsOf(augmentation: object, layer: number, epoch: number): number[] {
  const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false }), {
    augmentation,
  });
  const { draws, view } = viewDraws(recipe, layer, epoch);
  return [...drawFlips(batchDraws(draws, view, INDICES))];
}

const opposite = (flips: readonly number[]): number[] => flips.map((flip) => 1 - flip);

it('flips are drawn for each epoch and layer; those that alternate for each layer alone', () => {
  const random = { horizontalFlip: true };
  expect(flipsOf(random, 0, 1)).not.toEqual(opposite(flipsOf(random, 0, 0)));
  const alternating = { horizontalFlip: 'alternating' };
  const first = flipsOf(alternating, 0, 0);
  expect(flipsOf(alternating, 0, 1)).toEqual(opposite(first));
  expect(flipsOf(alternating, 0, 2)).toEqual(first);
  expect(flipsOf(alternating, 1, 0)).not.toEqual(first);
});

it('with a number of views every other view has the mirror images', () => {
  const kept = { horizontalFlip: 'alternating', views: 2 };
  const first = flipsOf(kept, 0, 0);
  expect(flipsOf(kept, 3, 1)).toEqual(opposite(first));
  expect(flipsOf(kept, 3, 2)).toEqual(first);
});
