// Image files through the whole of training: what is drawn and decoded depends on no interruption.
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, cp, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import { overrideRecipe, type Recipe } from '../../lib/recipe/index.js';
import { memoryStats } from '../../lib/tensor/index.js';
import { resume, train } from '../../lib/training/index.js';
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
  expect(test).toMatchObject({ height: 32, width: 32, testResize: 36, count: 8 });
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

it('ends without a run directory when it is cancelled while the data set is listed', async () => {
  const signal = AbortSignal.abort();
  await expect(train({ recipe, out: at('cancelled'), signal })).rejects.toMatchObject({
    code: 'INTERRUPTED',
    message: 'training was interrupted before anything was written: there is nothing to resume',
    runDirectory: null,
  });
  expect(existsSync(at('cancelled'))).toBe(false);
});

describe('with one bad image in a hundred', () => {
  let withBad: string;
  /** The same set with the files in place of the bad ones that stand in for them. */
  let withStandIns: string;
  const bad = ['train/n01/20.JPEG', 'val/n02/49.JPEG'];

  beforeAll(async () => {
    withBad = await mkdtemp(join(tmpdir(), 'layerwise-bad-'));
    withStandIns = await mkdtemp(join(tmpdir(), 'layerwise-stand-ins-'));
    for (const part of ['train', 'val']) {
      for (let i = 0; i < 50; i++) {
        // Two digits, so that the order of names is that of numbers.
        const name = `${String(i + 10)}.JPEG`;
        await save(withBad, `${part}/n01/${name}`, gradient(40, 40, { blue: 5 * i }).jpeg());
        await save(
          withBad,
          `${part}/n02/${name}`,
          gradient(40, 40, { blue: 5 * i })
            .negate()
            .jpeg(),
        );
      }
    }
    await cp(withBad, withStandIns, { recursive: true });
    await copyFile(join(withStandIns, 'train/n01/21.JPEG'), join(withStandIns, bad[0]!));
    await copyFile(join(withStandIns, 'val/n02/50.JPEG'), join(withStandIns, bad[1]!));
    await writeFile(join(withBad, bad[0]!), 'no image');
    await truncate(join(withBad, bad[1]!), 300);
  });
  afterAll(() => Promise.all([withBad, withStandIns].map((folder) => rm(folder, { recursive: true }))));

  const recipeFor = (name: 'folder' | 'imagenet', dataDir: string, onBadImage: 'fail' | 'skip' = 'fail'): Recipe =>
    smallRecipe({
      dataset: { name, dataDir, imageSize: 32, onBadImage, trainLimit: null, testLimit: null },
      augmentation: { randomResizedCrop: name === 'imagenet' },
      training: { batchSize: 32, epochs: 1 },
      model: { layers: 1 },
    });
  const listed = (run: string) =>
    readFileSync(join(run, 'bad-images.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { path: string; reason: string })
      .sort((a, b) => (a.path < b.path ? -1 : 1));
  const withoutNotes = (run: string) => ({ ...productOf(run), notes: null });

  it.each(['folder', 'imagenet'] as const)(
    '%s: skip trains as on a set where others stand in, and lists them',
    async (name) => {
      const run = at(`${name} skip`);
      const outcome = await train({ recipe: recipeFor(name, withBad, 'skip'), out: run });
      await train({ recipe: recipeFor(name, withStandIns), out: at(`${name} stand-ins`) });
      expect(withoutNotes(run)).toEqual(withoutNotes(at(`${name} stand-ins`)));
      expect(listed(run)).toEqual([
        { path: join(withBad, bad[0]!), reason: expect.stringContaining('is text: expected a JPEG or PNG image') },
        { path: join(withBad, bad[1]!), reason: expect.stringContaining('(JPEG) cannot be decoded') },
      ]);
      expect(outcome.result.notes).toContain('2 image files could not be used, and others stood in: bad-images.jsonl');
      expect(existsSync(join(at(`${name} stand-ins`), 'bad-images.jsonl'))).toBe(false);

      using trained = await TrainedRun.open(run, { device: 'cpu' });
      const { test } = await trained.loadDataset();
      const { layers } = productOf(run) as { layers: { testTop1: number }[] };
      expect((await trained.evaluate(test, 0)).top1).toBe(layers[0]!.testTop1);
    },
  );

  it('a run that failed goes on with skip, to the same bits, and says so in its recipe', async () => {
    const out = at('failed');
    await expect(train({ recipe: recipeFor('imagenet', withBad), out })).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/20\.JPEG is text.*put a good file in its place and go on .*--on-bad-image skip/),
    });
    let interruptions = 0;
    for (;;) {
      const controller = new AbortController();
      const onEvent = ({ type }: { type: string }) => type === 'step' && controller.abort();
      const options = {
        onEvent,
        signal: controller.signal,
        ...(interruptions === 0 ? { onBadImage: 'skip' as const } : {}),
      };
      try {
        await resume(out, options);
        break;
      } catch (error) {
        expect(error).toMatchObject({ code: 'INTERRUPTED' });
        expect(++interruptions).toBeLessThan(20);
      }
    }
    expect(interruptions).toBeGreaterThan(2);
    await train({ recipe: recipeFor('imagenet', withBad), out: at('from the start'), onBadImage: 'skip' });
    expect(productOf(out)).toEqual(productOf(at('from the start')));
    expect(listed(out).map(({ path }) => path)).toEqual(listed(at('from the start')).map(({ path }) => path));
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')) as { recipe: Recipe };
    expect(config.recipe.dataset.onBadImage).toBe('skip');
  });

  it.each(['folder', 'imagenet'] as const)('%s: refuses to skip more', async (name) => {
    const file = join(withBad, 'train/n02/30.JPEG');
    const good = readFileSync(file);
    await writeFile(file, '');
    try {
      await expect(train({ recipe: recipeFor(name, withBad, 'skip'), out: at(`${name} more`) })).rejects.toMatchObject({
        code: 'DATA_CORRUPT',
        message: expect.stringMatching(
          /^2 of the 100 images in .*train cannot be used, and at most 1 % may be skipped/,
        ),
      });
    } finally {
      await writeFile(file, good);
    }
  });
});
