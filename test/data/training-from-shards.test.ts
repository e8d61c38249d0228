// Shards through the whole of training: the same bits as from the folders they were made of.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { prepareImages } from '../../lib/data/prepare-images.js';
import { TrainedRun } from '../../lib/finished/index.js';
import type { Recipe } from '../../lib/recipe/index.js';
import { decodingThreads, setDecodingThreads } from '../../lib/tensor/decoding.js';
import { memoryStats } from '../../lib/tensor/index.js';
import { resume, train } from '../../lib/training/index.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';
import { gradient, save } from './images.js';
import { serveShards } from './shards.js';

const at = temporaryFolder();
let root: string;
let folders: string;
let shards: string;
let before: unknown;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'layerwise-trained-shards-'));
  folders = join(root, 'folders');
  shards = join(root, 'shards');
  for (const [part, count] of [
    ['train', 9],
    ['val', 4],
  ] as const) {
    for (let i = 0; i < count; i++) {
      await save(folders, `${part}/n01/${i}.JPEG`, gradient(70 + i, 50, { blue: 20 * i }).jpeg());
      const negative = gradient(50, 60 + i, { blue: 20 * i }).negate();
      await save(folders, `${part}/n02/${i}.JPEG`, negative.jpeg());
    }
  }
  // Byte for byte.
  await prepareImages({ from: folders, to: shards, side: 64, shardImages: 5 });
  await train({ recipe: recipeOf(folders), out: at('folders') });
});
afterAll(() => rm(root, { recursive: true }));
beforeEach(() => {
  before = memoryStats();
});
afterEach(() => expect(memoryStats(), 'tensors are left').toEqual(before));

const recipeOf = (dataDir: string): Recipe =>
  smallRecipe({
    dataset: { name: 'imagenet', dataDir, imageSize: 32, testResize: 36 },
    augmentation: { cropPadding: 2, randomResizedCrop: true, horizontalFlip: true },
    training: { batchSize: 4 },
  });

it('ends with the bits of the folders, on one decoding thread and on four', async () => {
  const threads = decodingThreads();
  try {
    for (const count of [1, 4]) {
      setDecodingThreads(count);
      await train({ recipe: recipeOf(shards), out: at(`threads-${count}`) });
      expect(productOf(at(`threads-${count}`))).toEqual(productOf(at('folders')));
    }
  } finally {
    setDecodingThreads(threads);
  }
  using run = await TrainedRun.open(at('threads-4'), { device: 'cpu' });
  expect(run.classes).toEqual(['n01', 'n02']);
  const { test } = await run.loadDataset({ testOnly: true });
  const { layers } = productOf(at('folders')) as { layers: { testTop1: number }[] };
  expect((await run.evaluate(test, 1)).top1).toBe(layers[1]!.testTop1);
});

let steps = 0;

it('goes on, interrupted, to the same bits: on the same shards, from a web server, and on the folders', async () => {
  await using server = await serveShards(shards);
  const isThird = ({ type }: { type: string }) => type === 'step' && ++steps === 3;
  for (const [name, next] of [
    ['shards', shards],
    ['web', server.url],
    ['loose', folders],
  ] as const) {
    steps = 0;
    await startAndStop({ recipe: recipeOf(shards), out: at(name) }, isThird);
    await resume(at(name), { dataDir: next });
    expect(productOf(at(name))).toEqual(productOf(at('folders')));
  }
  await train({ recipe: recipeOf(server.url), out: at('all-web') });
  expect(productOf(at('all-web'))).toEqual(productOf(at('folders')));
});
it('refuses to go on with shards that have changed', async () => {
  const other = join(root, 'other');
  await prepareImages({ from: folders, to: other, side: 40 });
  await startAndStop({ recipe: recipeOf(shards), out: at('changed') });
  await expect(resume(at('changed'), { dataDir: other })).rejects.toThrow(
    'train: images replaced in place: class n01, class n02',
  );
  await resume(at('changed'), { dataDir: other, acceptChangedData: true });
});
