// docs/recipe.md is what the schema of recipes makes of it, and what it says of presets holds.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { overrideRecipe, presetNames, presetRecipe } from '../../lib/recipe/index.js';
import { recipeDocument } from '../../scripts/recipe-document.mjs';

const text = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'recipe.md'), 'utf8');

/** The cells of a value's row: its values, the three data sets, its flag, its meaning. */
function rowOf(key: string): string[] {
  const row = text.split('\n').find((line) => line.startsWith(`| \`${key}\` `))!;
  return row
    .split('|')
    .map((cell) => cell.trim())
    .slice(2, -1);
}

it('is up to date: node scripts/recipe-document.mjs writes it', () => {
  expect(text).toBe(recipeDocument());
});

it('says range, defaults and flag of values as they are', () => {
  expect(rowOf('training.learningRate').slice(0, 5)).toEqual([
    'more than 0',
    '`0.05`',
    '`0.1`',
    '`0.1`',
    '`--learning-rate`',
  ]);
  expect(rowOf('training.milestones').slice(1, 4)).toEqual(['`[4,5]`', '`[15,30,45]`', '`[20,40]`']);
  expect(rowOf('training.decay')[0]).toBe('more than 0, at most 1');
  expect(rowOf('training.momentum')[0]).toBe('from 0, less than 1');
  expect(rowOf('dataset.testLimit')[0]).toBe('1 to 100,000,000, null');
  expect(rowOf('model.downsampling')[0]).toBe('`invertible`, `stride`, `average`, `max`');
});

it('gives ranges that are kept', () => {
  const recipe = presetRecipe('simcnn-k3', { dataset: 'imagenet', onCuda: false });
  expect(rowOf('training.batchSize')[0]).toBe('1 to 65,536');
  for (const batchSize of [1, 65_536]) {
    expect(overrideRecipe(recipe, { training: { batchSize } }).training.batchSize).toBe(batchSize);
  }
  for (const batchSize of [0, 65_537]) {
    expect(() => overrideRecipe(recipe, { training: { batchSize } })).toThrow('training.batchSize');
  }
});

it.each(['shapes', 'cifar10', 'imagenet'] as const)('presets of %s share what its tables say', (dataset) => {
  const shared = (preset: string): ReturnType<typeof presetRecipe> => {
    const recipe = presetRecipe(preset, { dataset, onCuda: false });
    return {
      ...recipe,
      preset: '',
      model: { name: 'own', options: {} },
      training: { ...recipe.training, schedule: 'layerwise' },
    };
  };
  for (const preset of presetNames) {
    // What the document lists for the preset, where it lists something.
    const line = text.split('\n').find((one) => one.startsWith(`- \`${preset}\`, whatever`)) ?? '';
    const listed = [...line.matchAll(/`(\w+)\.(\w+)` `([^`]*)`/g)].map(([, group, key, value]) => ({
      [group!]: { [key!]: JSON.parse(value!) },
    }));
    expect(shared(preset), preset).toEqual(overrideRecipe(shared('vgg11-layerwise'), ...listed));
    expect(listed.length > 0, preset).toBe(preset.startsWith('cifar10-fast'));
  }
});

it('folder has the values of cifar10', () => {
  const of = (dataset: 'folder' | 'cifar10'): unknown => {
    const { dataset: data, ...others } = presetRecipe('vgg11-layerwise', { dataset, onCuda: false });
    return { ...others, data: { ...data, name: null } };
  };
  expect(of('folder')).toEqual(of('cifar10'));
});
