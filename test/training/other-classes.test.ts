import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from './runs.js';

const at = temporaryFolder();

it('refuses to evaluate a run on a data set of other classes, also where there are as many', async () => {
  const recipe = smallRecipe({ model: { layers: 1 }, training: { epochs: 1, milestones: [] } });
  const { runDirectory } = await train({ recipe, out: at('run') });
  const grey = { create: { width: 32, height: 32, channels: 3, background: '#808080' } } as const;
  for (let c = 0; c < 10; c++) {
    for (const part of ['train', 'test']) {
      const folder = join(at('images'), part, `animal ${c}`);
      mkdirSync(folder, { recursive: true });
      await sharp(grey).png().toFile(join(folder, 'a.png'));
    }
  }
  using run = await TrainedRun.open(runDirectory);
  await expect(run.loadDataset({ name: 'folder', dataDir: at('images') })).rejects.toMatchObject({
    code: 'RUN_DIRECTORY',
    message: expect.stringMatching(
      /the run's 10 classes are not the 10 of the data set folder: classes missing: .*striped disc.* and 7 more; new classes: animal 0, animal 1, /,
    ),
  });
  expect((await run.loadDataset()).test.count).toBe(20);
});
