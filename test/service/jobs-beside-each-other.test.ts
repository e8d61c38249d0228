// Runs in one process do not change each other: each ends with the bits of a run alone.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';

// A worker is started from the built file.
const SERVICE = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'service', 'index.js')).href;
const { TrainingJob } = (await import(SERVICE)) as typeof import('../../lib/service/index.js');

const at = temporaryFolder();

it('jobs at once draw their dropout as if alone, also when one is interrupted and resumed beside them', async () => {
  const recipe = smallRecipe({ model: { dropout: 0.5 } }, 'vgg11-end-to-end');
  await TrainingJob.train({ recipe, out: at('alone') }).outcome;
  const alone = productOf(at('alone'));

  const jobs = [0, 1, 2].map((i) => TrainingJob.train({ recipe, out: at(`beside-${i}`) }));
  const other = TrainingJob.train({ recipe: { ...recipe, seed: recipe.seed + 1 }, out: at('other') });
  const interrupted = TrainingJob.train({ recipe, out: at('interrupted') });
  interrupted.on('event', (event) => {
    if (event.type === 'step' && event.step === 2) void interrupted.cancel();
  });
  await expect(interrupted.outcome).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const resumed = TrainingJob.resume({ runDirectory: at('interrupted') });
  await Promise.all([...jobs, other, resumed].map(({ outcome }) => outcome));

  for (const name of ['beside-0', 'beside-1', 'beside-2', 'interrupted'])
    expect(productOf(at(name)), name).toEqual(alone);
  expect(productOf(at('other'))).not.toEqual(alone);
});
