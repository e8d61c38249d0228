// From flags and a file to a recipe.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { resolveRecipe } from '../../lib/cli/recipe.js';
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

it('values that have no effect together are refused, whichever of them is a flag', async () => {
  const config = configOf('milestones', { training: { milestones: [2] } });
  await expect(resolveRecipe({ config, rateSchedule: 'one-cycle' } as object)).rejects.toThrow(
    'training.milestones: expected none with training.rateSchedule cosine or one-cycle, or training.rateSchedule multi-step, got [2]',
  );
});
