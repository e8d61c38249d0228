// Image files through the whole of training: what is drawn and decoded depends on no interruption.
import { existsSync } from 'node:fs';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { memoryStats } from '../../lib/tensor/index.js';
import { overrideRecipe, type Recipe, resume, TrainedRun, train } from '../../lib/training/index.js';
import { productOf, smallRecipe, temporaryFolder } from '../training/runs.js';
import { gradient, save } from './images.js';

const at = temporaryFolder();
let dataDir: string;
let recipe: Recipe;
let before: unknown;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'layerwise-files-'));
  for (const [part, count] of [
    ['train', 9],
    ['val', 4],
  ] as const) {
    for (let i = 0; i < count; i++) {
      await save(dataDir, `${part}/n01/${i}.JPEG`, gradient(70 + i, 50, { blue: 20 * i }).jpeg());
      await save(
        dataDir,
        `${part}/n02/${i}.JPEG`,
        gradient(50, 60 + i, { blue: 20 * i })
          .negate()
          .jpeg(),
      );
    }
  }
  recipe = smallRecipe({
    dataset: { name: 'imagenet', dataDir, imageSize: 32, testResize: 36 },
    augmentation: { cropPadding: 2, randomResizedCrop: true, horizontalFlip: true },
    training: { batchSize: 4 },
  });
  await train({ recipe, out: at('whole') });
});
afterAll(() => rm(dataDir, { recursive: true }));
beforeEach(() => {
  before = memoryStats();
});
afterEach(() => expect(memoryStats(), 'tensors are left').toEqual(before));

it('ends with the same bits when it was stopped in every step', async () => {
  const out = at('stopped');
  let runs = 0;
  for (let finished = false; !finished; runs++) {
    expect(runs).toBeLessThan(50);
    const controller = new AbortController();
    const options = {
      signal: controller.signal,
      onEvent: ({ type }: { type: string }) => type === 'step' && controller.abort(),
    };
    const run = runs === 0 ? train({ recipe, out, ...options }) : resume(out, options);
    await run.then(
      () => {
        finished = true;
      },
      (error: unknown) => expect(error).toMatchObject({ code: 'INTERRUPTED' }),
    );
  }
  expect(runs).toBeGreaterThan(20);
  expect(productOf(out)).toEqual(productOf(at('whole')));

  using run = await TrainedRun.open(at('whole'), { device: 'cpu' });
  const { test } = await run.loadDataset();
  const { layers } = productOf(at('whole')) as { layers: { testTop1: number }[] };
  expect(test).toMatchObject({ imageSize: 32, testResize: 36, count: 8 });
  expect((await run.evaluate(test, 1)).top1).toBe(layers[1]!.testTop1);
});

it('fails by the name of a file that cannot be decoded, and goes on, if told to, once it was replaced', async () => {
  const file = join(dataDir, 'train/n02/8.JPEG');
  const good = gradient(50, 68, { blue: 160 }).negate().jpeg();
  await truncate(file, 100);
  await expect(train({ recipe, out: at('bad') })).rejects.toMatchObject({
    code: 'DATA_CORRUPT',
    message: expect.stringContaining(file),
  });
  await save(dataDir, 'train/n02/8.JPEG', good);
  await expect(resume(at('bad'))).rejects.toThrow('train: images replaced in place: class n02');
  await resume(at('bad'), { acceptChangedData: true });
  const { notes, ...product } = productOf(at('bad')) as { notes: string[] };
  const { notes: before, ...whole } = productOf(at('whole')) as { notes: string[] };
  expect(product).toEqual(whole);
  expect(notes).toEqual([...before, expect.stringContaining('images replaced in place: class n02')]);
});

it('refuses random resized crops of what is in memory before a run directory is made', async () => {
  const shapes = overrideRecipe(smallRecipe(), { augmentation: { randomResizedCrop: true } });
  await expect(train({ recipe: shapes, out: at('shapes') })).rejects.toMatchObject({
    code: 'DATA_ARGUMENT',
    message: expect.stringContaining('augmentation.randomResizedCrop: expected false'),
  });
  expect(existsSync(at('shapes'))).toBe(false);
});
