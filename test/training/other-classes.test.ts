import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, it } from 'vitest';
import { overrideRecipe, presetRecipe, TrainedRun, train } from '../../lib/training/index.js';

const root = mkdtempSync(join(tmpdir(), 'layerwise-classes-'));
afterAll(() => rmSync(root, { recursive: true }));

it('refuses to evaluate a run on a data set of other classes, also where there are as many', async () => {
  const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { onCuda: false }), {
    model: { width: 2, layers: 1 },
    dataset: { trainLimit: 20, testLimit: 10 },
    training: { epochs: 1, batchSize: 20, milestones: [] },
    evaluation: { batchSize: 10 },
    precision: 'fp32',
  });
  const { runDirectory } = await train({ recipe, out: join(root, 'run') });
  const grey = { create: { width: 32, height: 32, channels: 3, background: '#808080' } } as const;
  for (let c = 0; c < 10; c++) {
    for (const part of ['train', 'test']) {
      const folder = join(root, 'images', part, `animal ${c}`);
      mkdirSync(folder, { recursive: true });
      await sharp(grey).png().toFile(join(folder, 'a.png'));
    }
  }
  using run = await TrainedRun.open(runDirectory);
  await expect(run.loadDataset({ name: 'folder', dataDir: join(root, 'images') })).rejects.toMatchObject({
    code: 'RUN_DIRECTORY',
    message: expect.stringMatching(
      /the run's 10 classes are not the 10 of the data set folder: classes missing: .*striped disc.* and 7 more; new classes: animal 0, animal 1, /,
    ),
  });
  expect((await run.loadDataset()).test.count).toBe(10);
});
