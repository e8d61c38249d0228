// Grey image files of unequal sides through the whole of a run.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readImage } from '../../lib/data/image-file.js';
import { imageShapeOf, probeLayer, TrainedRun } from '../../lib/finished/index.js';
import { overrideRecipe, type Recipe } from '../../lib/recipe/index.js';
import { memoryStats, scope, tensor } from '../../lib/tensor/index.js';
import { planRecipe, resume, train } from '../../lib/training/index.js';
import { layerwise } from '../cli/cli.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';
import { gradient, greyOf, save } from './images.js';

const at = temporaryFolder();
const SIZE = [32, 48] as const;
let before: unknown;
let recipe: Recipe;
let dataDir: string;

/** Two classes, which are told apart by what is light. */
async function saveSet(folder: string, { classes = ['n01', 'n02'], add = 0 } = {}): Promise<string> {
  for (const [part, count] of [
    ['train', 8],
    ['val', 4],
  ] as const) {
    for (let i = 0; i < count; i++) {
      const picture = gradient(90 + i, 60 + 2 * i, { step: 2, blue: 10 * i + add });
      await save(folder, `${part}/${classes[0]}/${i}.png`, picture.clone());
      await save(folder, `${part}/${classes[1]}/${i}.png`, picture.negate());
    }
  }
  return folder;
}

beforeAll(async () => {
  dataDir = await saveSet(at('set'));
  recipe = smallRecipe({
    dataset: { name: 'imagenet', dataDir, imageSize: SIZE, channels: 1, testResize: 36 },
    augmentation: { cropPadding: 2, randomResizedCrop: true, horizontalFlip: true },
    training: { batchSize: 4 },
  });
  await train({ recipe, out: at('whole') });
});
beforeEach(() => {
  before = memoryStats();
});
afterEach(() => expect(memoryStats(), 'tensors are left').toEqual(before));

const configOf = (run: string) => JSON.parse(readFileSync(join(run, 'config.json'), 'utf8'));

it('is recorded with mean and deviation of the training images, as they are evaluated', async () => {
  const { recipe, normalization } = configOf(at('whole'));
  expect(recipe.dataset).toMatchObject({ imageSize: [32, 48], channels: 1, testResize: 36 });
  expect(recipe.dataset.inputShape).toBeUndefined();
  const files = ['n01', 'n02'].flatMap((name) =>
    Array.from({ length: 8 }, (_, i) => join(dataDir, `train/${name}/${i}.png`)),
  );
  const pixels = await Promise.all(files.map((file) => readImage(file, SIZE, { channels: 1, resize: 36 })));
  const all = pixels.flatMap((one) => [...one]);
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  const std = Math.sqrt(all.reduce((sum, value) => sum + (value - mean) ** 2, 0) / all.length);
  expect(normalization).toEqual({ mean: [expect.closeTo(mean / 255, 9)], std: [expect.closeTo(std / 255, 9)] });
});

it.each(['folder', 'imagenet'] as const)('ends with the same bits when it was interrupted: %s', async (name) => {
  const of =
    name === 'imagenet'
      ? recipe
      : overrideRecipe(recipe, { dataset: { name }, augmentation: { randomResizedCrop: false } });
  if (name === 'folder') await train({ recipe: of, out: at('whole folder') });
  await startAndStop({ recipe: of, out: at(name) }, ({ type }) => type === 'epoch');
  const { normalization } = configOf(at(name));
  await resume(at(name));
  expect(productOf(at(name))).toEqual(productOf(at(name === 'imagenet' ? 'whole' : 'whole folder')));
  expect(configOf(at(name)).normalization).toEqual(normalization);
});

it('goes on with the normalisation that is recorded, and not with one that is computed again', async () => {
  await startAndStop({ recipe, out: at('recorded') });
  const config = configOf(at('recorded'));
  const normalization = { mean: [0.25], std: [0.5] };
  writeFileSync(join(at('recorded'), 'config.json'), JSON.stringify({ ...config, normalization }));
  await resume(at('recorded'));
  expect(configOf(at('recorded')).normalization).toEqual(normalization);
  using run = await TrainedRun.open(at('recorded'), { device: 'cpu' });
  expect((await run.loadDataset({ testOnly: true })).normalization).toEqual(normalization);
});

it('is planned on what the network sees', async () => {
  const { plan } = await planRecipe({ recipe, measured: false });
  const [first] = plan.layers;
  expect(first!.outputShape).toEqual([2, 32, 48]);
  // Two kernels of 3 x 3 over one channel.
  expect(first!.multiplyAdds.block).toBe(2 * 9 * 32 * 48);
});

describe('the finished run', () => {
  const open = () => TrainedRun.open(at('whole'), { device: 'cpu' });
  const lastTop1 = (): number => (productOf(at('whole')) as { layers: { testTop1: number }[] }).layers[1]!.testTop1;

  it('is evaluated on its own images as in training', async () => {
    using run = await open();
    const dataset = await run.loadDataset({ testOnly: true });
    expect(dataset.test).toMatchObject({ channels: 1, height: 32, width: 48, testResize: 36, count: 8 });
    expect((await run.evaluate(dataset.test, 1)).top1).toBe(lastTop1());
  });

  it('is evaluated and probed on another data set, whose files are made what its network sees', async () => {
    using run = await open();
    const other = { name: 'folder', dataDir: await saveSet(at('other'), { add: 40 }) } as const;
    const dataset = await run.loadDataset(other);
    expect(dataset.normalization).toEqual(run.normalization);
    expect(dataset.train).toMatchObject({ channels: 1, height: 32, width: 48, count: 16 });
    // Equal files are equal images.
    const same = await run.loadDataset({ name: 'folder', dataDir, testOnly: true });
    expect((await run.evaluate(same.test, 1)).top1).toBe(lastTop1());
    const { train } = await probeLayer(run, dataset, 0);
    expect(train.top1).toBeGreaterThanOrEqual(50);
    await expect(run.loadDataset({ name: 'shapes' }, { anyClasses: true })).rejects.toThrow(
      'shapes has images of 32 x 32 only, got imageSize 32 x 48',
    );
  });

  it('predicts what its logits say of a file that is made grey', async () => {
    using run = await open();
    const file = await save(at('predicted'), 'x.jpg', gradient(150, 70, { step: 1, blue: 30 }).jpeg());
    expect(imageShapeOf(run)).toEqual({ channels: 1, height: 32, width: 48 });
    const { stdout, code } = await layerwise(['predict', '--run', at('whole'), '--device', 'cpu', '--json', file]);
    expect(code).toBe(0);
    const [{ class: best, probability }] = (
      JSON.parse(stdout) as { predictions: [{ class: string; probability: number }] }
    ).predictions;
    // The image once more, by sharp alone: 36 x 54 is covered by 77.14 x 36, of which the middle is seen.
    const covered = sharp(file).resize(54, 36, { fit: 'cover', position: 'centre', kernel: 'linear' });
    const cut = await covered.extract({ top: 2, left: 3, height: 32, width: 48 }).raw().toBuffer();
    const expected = scope(() => {
      const image = tensor(greyOf(cut), { shape: [1, 1, 32, 48] });
      return [...run.logits(image).softmax(1).toFloat32Array()];
    });
    expect(probability).toBeCloseTo(Math.max(...expected), 4);
    expect(best).toBe(run.classes[expected.indexOf(Math.max(...expected))]);
  });
});

it('is asked for by flags', async () => {
  const flags = ['--data-dir', dataDir, '--image-size', '32x48', '--channels', '1', '--device', 'cpu'];
  const small = join(at('set'), 'small.json');
  writeFileSync(small, JSON.stringify({ model: { width: 2, layers: 2 }, training: { epochs: 1, milestones: [] } }));
  const command = ['train', '--dataset', 'folder', ...flags, '--config', small];
  const { code, stderr } = await layerwise([...command, '--out', at('flags')]);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  expect(configOf(at('flags')).recipe.dataset).toMatchObject({ name: 'folder', imageSize: [32, 48], channels: 1 });
  const refused = await layerwise([...command, '--image-size', '32,48']);
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('Expected pixels a side such as 64') });
  const grey = await layerwise(['train', '--dataset', 'cifar10', ...flags]);
  expect(grey.stderr).toContain('dataset.channels: expected 3 for cifar10, which has no image files, got 1');
});
