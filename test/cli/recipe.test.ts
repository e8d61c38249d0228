// From flags and a file to a recipe.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { resolveRecipe } from '../../lib/cli/recipe.js';
import { presetRecipe } from '../../lib/recipe/index.js';
import { layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();

function configOf(name: string, value: object): string {
  const file = at(`${name}.json`);
  writeFileSync(file, JSON.stringify(value));
  return file;
}

it('the flags of optimiser, loss and rates are recorded with the run', async () => {
  const out = at('run');
  const flags = [
    '--optimizer',
    'adamw',
    '--label-smoothing',
    '0.1',
    '--rate-schedule',
    'cosine',
    '--warmup-epochs',
    '1',
  ];
  const { code, stderr } = await layerwise(['train', ...TINY, '--epochs', '2', ...flags, '--out', out]);
  expect([code, stderr]).toEqual([0, '']);
  const { recipe } = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
  expect(recipe.training).toMatchObject({
    ...{ optimizer: 'adamw', learningRate: 1e-3, weightDecay: 1e-2, momentum: 0, labelSmoothing: 0.1 },
    ...{ rateSchedule: 'cosine', warmupEpochs: 1, milestones: [] },
  });
});

it('a rate that a file gives holds beside a flag for another optimiser', async () => {
  const config = configOf('rate', { training: { learningRate: 3e-4 } });
  const { training } = await resolveRecipe({ config, optimizer: 'adamw' } as object);
  expect(training).toMatchObject({ optimizer: 'adamw', learningRate: 3e-4, weightDecay: 1e-2 });
});

/** As `config.json` has it, by a version that did not know some values. */
function recordOf(name: string, preset: string, training: object): string {
  const recipe = presetRecipe(preset, { onCuda: false });
  const { cropPaddingMode, ...augmentation } = recipe.augmentation;
  const { sgdLearningRate, sgdWeightDecay, ...others } = recipe.training;
  return configOf(name, {
    package: 'layerwise',
    recipe: { ...recipe, augmentation, training: { ...others, ...training } },
  });
}

it("a run's record of an older version is what it was then, and not as its preset is now", async () => {
  const training = { optimizer: 'sgd', learningRate: 1.5, momentum: 0.9 };
  const config = recordOf('older', 'cifar10-fast', training);
  const recipe = await resolveRecipe({ config } as object);
  expect(recipe.preset).toBe('cifar10-fast');
  expect(recipe.training).toMatchObject(training);
  expect(recipe.augmentation).toMatchObject({ cropPadding: 2, cropPaddingMode: 'zeros' });
});

it("another optimiser than that of a run's record brings its own values", async () => {
  const ofSgd = recordOf('of-sgd', 'simcnn-k1', { learningRate: 0.3 });
  expect((await resolveRecipe({ config: ofSgd, optimizer: 'muon' } as object)).training).toMatchObject({
    ...{ optimizer: 'muon', learningRate: 0.05, weightDecay: 0.03, momentum: 0.9, nesterov: true },
  });
  expect((await resolveRecipe({ config: ofSgd } as object)).training.learningRate).toBe(0.3);
  const ofMuon = recordOf('of-muon', 'cifar10-fast', { sgdLearningRate: 1.5 });
  expect((await resolveRecipe({ config: ofMuon, optimizer: 'sgd' } as object)).training).toMatchObject({
    ...{ optimizer: 'sgd', learningRate: 0.1, momentum: 0.9, nesterov: false, sgdLearningRate: 0.1 },
  });
});

it('values that have no effect together are refused, whichever of them is a flag', async () => {
  const config = configOf('milestones', { training: { milestones: [2] } });
  await expect(resolveRecipe({ config, rateSchedule: 'one-cycle' } as object)).rejects.toThrow(
    'training.milestones: expected none with training.rateSchedule cosine or one-cycle, or training.rateSchedule multi-step, got [2]',
  );
});
