import { copyFile, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkDataset } from '../../lib/data/check.js';
import { gradient, save } from './images.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-check-'));
  for (const [part, count] of [
    ['train', 4],
    ['test', 2],
  ] as const) {
    for (let i = 0; i < count; i++) {
      const blue = part === 'train' ? i : 100 + i;
      await save(dir, `${part}/a/${i}.jpg`, gradient(60, 50 + i, { blue }).jpeg());
      await save(dir, `${part}/b/${i}.png`, gradient(30, 20, { blue: 200 - blue }).png());
    }
  }
});
afterEach(() => rm(dir, { recursive: true }));

const check = (options: Partial<Parameters<typeof checkDataset>[0]> = {}) =>
  checkDataset({ name: 'folder', dataDir: dir, ...options });

describe('checking a data set', () => {
  it('counts a good one, decoding every file once', async () => {
    const seen: { done: number; total: number }[] = [];
    await writeFile(join(dir, 'train/a/Thumbs.db'), 'x');
    const found = await check({ onProgress: (at) => seen.push(at) });
    expect(found).toMatchObject({ problems: [], duplicates: [], passedOver: 1 });
    expect(found.parts).toEqual([
      {
        part: 'train',
        images: 8,
        perClass: new Map([
          ['a', 4],
          ['b', 4],
        ]),
      },
      {
        part: 'test',
        images: 4,
        perClass: new Map([
          ['a', 2],
          ['b', 2],
        ]),
      },
    ]);
    expect(found.smallest).toMatchObject({ width: 30, height: 20 });
    expect(found.largest).toEqual({ path: join(dir, 'train/a/3.jpg'), width: 60, height: 53 });
    expect(seen).toEqual(Array.from({ length: 12 }, (_, i) => ({ doing: 'decoding', done: i + 1, total: 12 })));
  });

  it('lists all that is wrong, of folders and of contents, with paths', async () => {
    await writeFile(join(dir, 'train/a/0.jpg'), '');
    await truncate(join(dir, 'train/a/2.jpg'), 300);
    await save(dir, 'test/b/9.png', gradient(9, 9).webp());
    await save(dir, 'train/b/big.png', gradient(100, 100));
    await writeFile(join(dir, 'train/notes.txt'), 'x');
    await mkdir(join(dir, 'test/c'));
    await symlink('loop.jpg', join(dir, 'test/a/loop.jpg'));
    const { problems, parts } = await check({ maxPixels: 9999 });
    const path = (name: string) => join(dir, name);
    expect(problems.map((problem) => [problem.code, problem.path])).toEqual([
      ['DATA_UNSUPPORTED', path('train/notes.txt')],
      ['DATA_CORRUPT', path('test')],
      ['DATA_UNREADABLE', path('test/a/loop.jpg')],
      ['DATA_UNSUPPORTED', path('test/b/9.png')],
      ['DATA_CORRUPT', path('train/a/0.jpg')],
      ['DATA_CORRUPT', path('train/a/2.jpg')],
      ['DATA_UNSUPPORTED', path('train/b/big.png')],
    ]);
    expect(parts.map(({ images }) => images)).toEqual([9, 5]);
  });

  it('finds test images among the training images by their contents', async () => {
    await copyFile(join(dir, 'test/a/1.jpg'), join(dir, 'train/b/copy.jpg'));
    const { duplicates, problems } = await check();
    expect(duplicates).toEqual([{ test: join(dir, 'test/a/1.jpg'), train: join(dir, 'train/b/copy.jpg') }]);
    expect(problems).toEqual([]);
  });

  it('has a folder that is not there as what is wrong', async () => {
    const { parts, problems } = await check({ dataDir: join(dir, 'none') });
    expect(parts).toEqual([]);
    expect(problems).toMatchObject([{ code: 'DATA_NOT_FOUND', path: join(dir, 'none') }]);
  });

  it('takes ImageNet with its validation images in one folder, and CIFAR-10', async () => {
    await rm(join(dir, 'test'), { recursive: true });
    await save(dir, 'val/ILSVRC2012_val_00000001.JPEG', gradient(20, 20).jpeg());
    await writeFile(join(dir, 'val.txt'), 'ILSVRC2012_val_00000001.JPEG b\n');
    const { parts, problems } = await check({ name: 'imagenet' });
    expect(problems).toEqual([]);
    expect(parts[1]).toEqual({ part: 'test', images: 1, perClass: new Map([['b', 1]]) });
    const cifar = await check({ name: 'cifar10' });
    expect(cifar).toMatchObject({ parts: [], problems: [{ code: 'DATA_NOT_FOUND' }] });
  });

  it('refuses a limit of pixels where there are no image files', async () => {
    await expect(check({ name: 'cifar10', maxPixels: 5 })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: 'cifar10 has no image files: expected no maxPixels (--max-pixels), got 5',
    });
  });

  it('stops when it is cancelled', async () => {
    const controller = new AbortController();
    let decoded = 0;
    const onProgress = () => void (++decoded === 3 && controller.abort());
    await expect(check({ signal: controller.signal, onProgress })).rejects.toMatchObject({
      code: 'DATA_CANCELLED',
      message: 'checking the data set was cancelled',
    });
    expect(decoded).toBeLessThan(12);
  });
});
