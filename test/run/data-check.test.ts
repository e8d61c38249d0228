// A run's data when it is opened again: the same, moved, or changed in one way or another.
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import type { Recipe } from '../../lib/recipe/index.js';
import { resume, train } from '../../lib/training/index.js';
import { gradient, save } from '../data/images.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const CLASSES = ['ant', 'bee', 'cat'];
const RECIPE = { model: { layers: 1 }, training: { epochs: 1, batchSize: 4, milestones: [] } };

beforeAll(async () => {
  for (const [part, count] of [
    ['train', 4],
    ['val', 2],
  ] as const) {
    for (const [label, name] of CLASSES.entries()) {
      for (let i = 0; i < count; i++) {
        const picture = gradient(40 + i, 36 + label, { blue: 60 * label + i });
        await save(at('images'), `${part}/${name}/${i}.png`, picture.png());
      }
    }
  }
});

/** A run that was stopped after a step, on a copy of the images. `change` is then made to them. */
async function stopped(
  name: string,
  change: (images: string) => unknown,
  dataset: 'imagenet' | 'folder' = 'imagenet',
): Promise<string> {
  const dataDir = at(`${name} images`);
  cpSync(at('images'), dataDir, { recursive: true });
  const recipe = smallRecipe({
    ...RECIPE,
    dataset: { name: dataset, dataDir, imageSize: 32, trainLimit: null, testLimit: null },
  });
  const out = at(name);
  await startAndStop({ recipe, out });
  await change(dataDir);
  return out;
}

const configOf = (run: string) => JSON.parse(readFileSync(join(run, 'config.json'), 'utf8'));

describe.each(['imagenet', 'folder'] as const)('a change of the data of %s is refused, and told apart', (dataset) => {
  const PUT_BACK = 'put the images back as they were, or train a new run';
  const CLASSES_BACK = 'put the classes back as they were, or train a new run';
  const both = (images: string, change: (folder: string) => void): void => {
    for (const part of ['train', 'val']) change(join(images, part));
  };
  const cases: [string, (images: string) => unknown, string][] = [
    [
      'an image is missing',
      (images) => rmSync(join(images, 'train/bee/2.png')),
      `train: images missing: 1 of class bee; ${PUT_BACK}`,
    ],
    [
      'images are added',
      (images) => {
        for (const file of ['8.png', '9.png']) cpSync(join(images, 'val/cat/1.png'), join(images, 'val/cat', file));
      },
      `test: new images: 2 of class cat; ${PUT_BACK}`,
    ],
    [
      'images have moved to another class',
      (images) => renameSync(join(images, 'train/ant/0.png'), join(images, 'train/cat/9.png')),
      `train: images missing: 1 of class ant; new images: 1 of class cat; ${PUT_BACK}`,
    ],
    [
      'an image is replaced in place',
      (images) => save(images, 'train/ant/1.png', gradient(90, 90).png()),
      'train: images replaced in place: class ant; put the old images back, or go on with the new ones',
    ],
    [
      'a class is renamed, and sorts elsewhere',
      (images) => both(images, (part) => renameSync(join(part, 'ant'), join(part, 'zebra'))),
      `classes renamed: ant is now zebra; ${CLASSES_BACK}`,
    ],
    [
      'a class is missing',
      (images) => both(images, (part) => rmSync(join(part, 'cat'), { recursive: true })),
      `classes missing: cat; ${CLASSES_BACK}`,
    ],
    [
      'a class is new',
      (images) => both(images, (part) => cpSync(join(part, 'cat'), join(part, 'dog'), { recursive: true })),
      `new classes: dog; ${CLASSES_BACK}`,
    ],
    [
      'a class is split in two',
      (images) =>
        both(images, (part) => {
          mkdirSync(join(part, 'bat'));
          renameSync(join(part, 'cat/0.png'), join(part, 'bat/0.png'));
        }),
      `new classes: bat; ${CLASSES_BACK}`,
    ],
  ];

  it.each(cases)('%s', async (name, change, message) => {
    const run = await stopped(`${dataset}, ${name}`, change, dataset);
    const before = readFileSync(join(run, 'config.json'), 'utf8');
    await expect(resume(run)).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message: expect.stringContaining(`${run}: the data is not what the run was started with: ${message}`),
    });
    expect(readFileSync(join(run, 'config.json'), 'utf8')).toBe(before);
  });
});

it('files under other names are told, images in memory have none', async () => {
  const rename = (images: string): void =>
    renameSync(join(images, 'train/ant/1.png'), join(images, 'train/ant/1b.png'));
  await expect(resume(await stopped('files renamed', rename))).rejects.toThrow(
    'train: as many images under other names: class ant; put the images back',
  );
  await expect(resume(await stopped('pixels renamed', rename, 'folder'))).resolves.toBeDefined();
});

it('goes on with images that were replaced in place where it may, and says so in its result', async () => {
  const replace = (images: string): Promise<string> => save(images, 'train/ant/1.png', gradient(90, 90).png());
  const run = await stopped('accepted', replace);
  const { result } = await resume(run, { acceptChangedData: true });
  expect(result.notes).toContain(
    'The data was changed while the run was interrupted: train: images replaced in place: class ant.',
  );
  using trained = await TrainedRun.open(run);
  expect(await trained.testChanges(await trained.loadDataset())).toBeNull();

  const fewer = await stopped('not accepted', (images) => rmSync(join(images, 'train/bee/2.png')));
  await expect(resume(fewer, { acceptChangedData: true })).rejects.toThrow('images missing: 1 of class bee');
});

it('classes in another order are told with the first label that moved', async () => {
  const run = await stopped('reordered', () => {});
  const config = configOf(run);
  config.classes = ['bee', 'ant', 'cat'];
  writeFileSync(join(run, 'config.json'), JSON.stringify(config));
  await expect(resume(run)).rejects.toThrow(
    'the classes are in another order: label 0 was bee, and is now ant; put the classes back',
  );
});

it('a run of an older version, which recorded nothing of its images, goes on with a note', async () => {
  const run = await stopped('older', () => {});
  const config = configOf(run);
  delete config.data;
  writeFileSync(join(run, 'config.json'), JSON.stringify(config));
  const { result } = await resume(run);
  expect(result.notes).toContain(
    'The run was started by a version that did not record which images it was made of: only their number was checked.',
  );
});

it('a record without the numbers of images is completed, and the run goes on', async () => {
  const run = await stopped('uncounted', () => {});
  const config = configOf(run);
  const { dataset } = config.recipe;
  for (const name of ['title', 'trainCount', 'testCount']) delete dataset[name];
  writeFileSync(join(run, 'config.json'), JSON.stringify(config));
  await resume(run);
  expect(configOf(run).recipe.dataset).toMatchObject({ title: 'ImageNet', trainCount: 12, testCount: 6 });
});

describe('data that has moved', () => {
  it('is not found without --data-dir, goes on with it, and is recorded; the run may move too', async () => {
    const run = await stopped('moved', (images) => renameSync(images, at('elsewhere')));
    await expect(resume(run)).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringContaining(
        `${run} was trained on data in ${at('moved images')}; if it has moved, say where to with --data-dir DIR`,
      ),
    });
    renameSync(run, at('moved run'));
    await resume(at('moved run'), { dataDir: relative(process.cwd(), at('elsewhere')) });
    expect(configOf(at('moved run')).recipe.dataset.dataDir).toBe(at('elsewhere'));
    using trained = await TrainedRun.open(at('moved run'));
    expect((await trained.loadDataset()).train.count).toBe(12);
    // Also after it has finished.
    renameSync(at('elsewhere'), at('elsewhere again'));
    await resume(at('moved run'), { dataDir: at('elsewhere again') });
    expect(configOf(at('moved run')).recipe.dataset.dataDir).toBe(at('elsewhere again'));
  });

  it('must be the same', async () => {
    const run = await stopped('moved to others', () => {});
    cpSync(at('images'), at('others'), { recursive: true });
    rmSync(join(at('others'), 'val/ant/0.png'));
    await expect(resume(run, { dataDir: at('others') })).rejects.toThrow('test: images missing: 1 of class ant');
    await expect(resume(run, { dataDir: at('nowhere') })).rejects.toMatchObject({ code: 'DATA_NOT_FOUND' });
    expect(configOf(run).recipe.dataset.dataDir).toBe(at('moved to others images'));
  });

  it('is refused for a data set that has no directory', async () => {
    const recipe = smallRecipe(RECIPE);
    const out = at('shapes');
    await startAndStop({ recipe, out });
    await expect(resume(out, { dataDir: at('images') })).rejects.toMatchObject({ code: 'INVALID_RECIPE' });
  });
});

describe('what a run records', () => {
  const record = async (overrides: object, name: string) => {
    const recipe: Recipe = smallRecipe({ ...RECIPE, ...overrides });
    await startAndStop({ recipe, out: at(name) });
    return configOf(at(name));
  };

  it('is the same for the same images, wherever they are, and another for others', async () => {
    const [a, b, c] = [
      await record({}, 'a'),
      await record({}, 'b'),
      await record({ dataset: { trainLimit: 59 } }, 'c'),
    ];
    expect(a.data).toEqual(b.data);
    expect(a.data.train).toMatchObject({ count: 60, digest: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(a.data.train.images.reduce((sum: number, one: number) => sum + one)).toBe(60);
    expect(c.data.test).toEqual(a.data.test);
    expect(c.data.train.digest).not.toBe(a.data.train.digest);
  });

  it('is the precision and the device that auto stood for, and the whole path of the data', async () => {
    const dataDir = relative(process.cwd(), at('images'));
    const dataset = { name: 'imagenet', dataDir, imageSize: 32, trainLimit: 5, testLimit: 3 };
    const config = await record({ precision: 'auto', device: 'auto', dataset }, 'auto');
    expect(config.precision).toMatch(/^(fp32|bf16)$/);
    expect(config.recipe.precision).toBe(config.precision);
    expect(config.device).toMatch(/^(cpu|cuda:0)$/);
    expect(config.recipe.dataset.dataDir).toBe(at('images'));
    expect(config.data.train).toMatchObject({ count: 5, images: [2, 2, 1] });
    expect(config.data.test).toMatchObject({ count: 3, images: [1, 1, 1] });
  });
});

describe('a finished run', () => {
  let run: string;
  beforeAll(async () => {
    run = await stopped('finished', () => {});
    await resume(run);
  });

  it('evaluates in the precision that it was trained in, or in another that is asked for', async () => {
    const config = configOf(run);
    // As a machine with bfloat16 would have recorded it.
    writeFileSync(
      join(run, 'config.json'),
      JSON.stringify({
        ...config,
        recipe: { ...config.recipe, precision: 'bf16' },
        precision: 'bf16',
        device: 'cuda:7',
      }),
    );
    try {
      using own = await TrainedRun.open(run);
      expect(own.precision).toBe('bf16');
      expect(own.device).toMatch(/^(cpu|cuda:0)$/);
      using other = await TrainedRun.open(run, { precision: 'fp32', device: 'cpu' });
      expect([other.precision, other.device]).toEqual(['fp32', 'cpu']);
      await expect(TrainedRun.open(run, { device: 'cuda:7' })).rejects.toMatchObject({ code: 'INVALID_RECIPE' });
    } finally {
      writeFileSync(join(run, 'config.json'), JSON.stringify(config));
    }
  });

  it('needs its test images alone to be evaluated, and tells whether they are the same', async () => {
    const images = at('finished images');
    using trained = await TrainedRun.open(run, { device: 'cpu' });
    const whole = await trained.evaluate((await trained.loadDataset()).test, 0);
    renameSync(join(images, 'train'), join(images, 'away'));
    const dataset = await trained.loadDataset({ testOnly: true });
    expect(dataset.train.count).toBe(0);
    expect(await trained.evaluate(dataset.test, 0)).toEqual(whole);
    expect(await trained.testChanges(dataset)).toBeNull();
    await expect(trained.loadDataset()).rejects.toMatchObject({ code: 'DATA_NOT_FOUND' });
    rmSync(join(images, 'val/bee/0.png'));
    expect(await trained.testChanges(await trained.loadDataset({ testOnly: true }))).toBe(
      'test: images missing: 1 of class bee',
    );
    rmSync(join(images, 'val/bee'), { recursive: true });
    await expect(trained.loadDataset({ testOnly: true })).rejects.toThrow('classes missing: bee');
  });
});

it('ends with the bits of a run that was not interrupted', async () => {
  const run = await stopped('same', () => {});
  await resume(run);
  expect(existsSync(join(run, 'checkpoint'))).toBe(false);
  const { recipe } = configOf(run);
  await train({ recipe, out: at('uninterrupted') });
  expect(productOf(run)).toEqual(productOf(at('uninterrupted')));
});
