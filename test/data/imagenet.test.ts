import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listImageNet } from '../../lib/data/imagenet.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-imagenet-'));
});
afterEach(() => rm(dir, { recursive: true }));

/** Empty files: only their names are read. */
async function lay(files: Record<string, readonly string[]>): Promise<void> {
  for (const [folder, names] of Object.entries(files)) {
    await mkdir(join(dir, folder), { recursive: true });
    for (const name of names) await writeFile(join(dir, folder, name), '');
  }
}

const SET = {
  'train/n02000000': ['n02000000_10.JPEG', 'n02000000_9.JPEG', '.n02000000_1.JPEG'],
  'train/n01000000': ['a.JPEG', 'c.JPEG', 'b.JPEG'],
  'val/n01000000': ['ILSVRC2012_val_00000002.JPEG'],
  'val/n02000000': ['ILSVRC2012_val_00000001.JPEG', 'ILSVRC2012_val_00000003.JPEG'],
};

const list = (options: Partial<Parameters<typeof listImageNet>[0]> = {}) => listImageNet({ dataDir: dir, ...options });

describe('the files of ImageNet', () => {
  it('are listed by name, turn by turn over the classes, and none is opened', async () => {
    await lay(SET);
    const { name, title, classes, train, test, normalization } = await list();
    expect([name, title]).toEqual(['imagenet', 'ImageNet']);
    expect(classes).toEqual(['n01000000', 'n02000000']);
    expect(train).toMatchObject({ root: join(dir, 'train'), folders: classes, count: 5 });
    expect(train).toMatchObject({ imageSize: 224, testResize: 224 });
    expect(train.names).toEqual(['a.JPEG', 'n02000000_10.JPEG', 'b.JPEG', 'n02000000_9.JPEG', 'c.JPEG']);
    expect(Array.from(train.labels)).toEqual([0, 1, 0, 1, 0]);
    expect(test.names.map((file) => Number(file.slice(15, 23)))).toEqual([2, 1, 3]);
    expect(normalization).toEqual({ mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] });
  });

  it('are limited to the first, which are of all classes', async () => {
    await lay(SET);
    const { train, test } = await list({ trainLimit: 3, testLimit: 99, imageSize: 64, testResize: 73 });
    expect(train).toMatchObject({ count: 3, names: ['a.JPEG', 'n02000000_10.JPEG', 'b.JPEG'] });
    expect(Array.from(train.labels)).toEqual([0, 1, 0]);
    expect(test).toMatchObject({ count: 3, imageSize: 64, testResize: 73 });
  });

  it('have labels beyond 255 where there are more classes', async () => {
    const folders = Array.from({ length: 257 }, (_, i) => `n${String(i).padStart(8, '0')}`);
    await lay(Object.fromEntries(folders.flatMap((f) => ['train', 'val'].map((part) => [`${part}/${f}`, ['x.JPEG']]))));
    const { train } = await list();
    expect(Array.from(train.labels)).toEqual(folders.map((_, i) => i));
  });

  it('are taken from val/ where there is test/ too, and from test/ where there is no val/', async () => {
    await lay({ ...SET, test: ['ILSVRC2012_test_00000001.JPEG'] });
    expect((await list()).test.count).toBe(3);
    await rm(join(dir, 'val'), { recursive: true });
    await rm(join(dir, 'test'), { recursive: true });
    await lay({ 'test/n01000000': ['x.jpg'], 'test/n02000000': ['x.jpg'] });
    expect((await list()).test.count).toBe(2);
  });

  it('may lie in linked folders', async () => {
    await lay(SET);
    await symlink(join(dir, 'train/n01000000'), join(dir, 'train/n03000000'));
    await symlink(join(dir, 'val/n01000000'), join(dir, 'val/n03000000'));
    expect((await list()).classes).toHaveLength(3);
  });

  it('are refused in words where the layout is another', async () => {
    await expect(list()).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringContaining('has no folder val/ (or test/)'),
    });
    await lay({ ...SET, val: ['ILSVRC2012_val_00000009.JPEG'] });
    await expect(list()).rejects.toMatchObject({
      code: 'DATA_UNSUPPORTED',
      message: expect.stringMatching(/ILSVRC2012_val_00000009\.JPEG is no folder: expected one folder a class/),
    });
    await rm(join(dir, 'val/ILSVRC2012_val_00000009.JPEG'));
    for (let i = 3; i < 8; i++) await lay({ [`train/n0${i}000000`]: ['x.JPEG'] });
    await expect(list()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/lacks the class 'n03000000', 'n04000000', 'n05000000' and 2 more/),
    });
  });

  it('are refused at sizes out of range, and not listed once cancelled', async () => {
    await lay(SET);
    await expect(list({ imageSize: 224, testResize: 100 })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: 'testResize must be at least the image size, 224 pixels, got 100',
    });
    await expect(list({ imageSize: 0.5 })).rejects.toMatchObject({ code: 'DATA_ARGUMENT' });
    await expect(list({ testResize: Number.NaN })).rejects.toMatchObject({ code: 'DATA_ARGUMENT' });
    await expect(list({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
  });
});
