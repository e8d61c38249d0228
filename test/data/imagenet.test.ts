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
    expect(train).toMatchObject({ channels: 3, height: 224, width: 224, testResize: 224 });
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
    expect(test).toMatchObject({ count: 3, height: 64, width: 64, testResize: 73 });
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

describe('validation images in one folder', () => {
  const image = (number: number, extension = '.JPEG') =>
    `ILSVRC2012_val_${String(number).padStart(8, '0')}${extension}`;
  const TRAIN = { 'train/n02119789': ['a.JPEG'], 'train/n01440764': ['a.JPEG'], 'train/n02100735': ['a.JPEG'] };
  const [tench, setter, fox] = [0, 1, 2]; // In the order of the WordNet ids.
  const write = async (path: string, text: string | Uint8Array): Promise<void> => {
    await mkdir(join(dir, path, '..'), { recursive: true });
    await writeFile(join(dir, path), text);
  };
  /** The label of each image by its number. */
  const labels = async (options: { dataDir?: string } = {}): Promise<number[]> => {
    const { classes, test } = await list(options);
    expect(classes).toEqual(['n01440764', 'n02100735', 'n02119789']);
    expect(test.folders).toEqual(['.', '.', '.']);
    const found: number[] = [];
    for (const [at, name] of test.names.entries()) found[Number(name.slice(15, 23))] = test.labels[at]!;
    return found.slice(1);
  };

  it.each([
    // Kaggle's, with one box or more.
    [
      'LOC_val_solution.csv',
      `ImageId,PredictionString\n${image(1, '')},n02119789 85 1 499 272 \n${image(2, '')},n01440764 0 0 9 9 n01440764 1 1 2 2\n${image(3, '')},n02119789 1 2 3 4\n`,
    ],
    ['val.csv', `filename,wnid\r\n${image(1)},n02119789\r\n${image(2)},n01440764\r\n${image(3)},n02119789\r\n`],
    [
      'val.csv',
      Buffer.from(
        `\ufeff${[1, 2, 3].map((n) => `${image(n)},${n === 2 ? 'n01440764' : 'n02119789'}`).join('\n')}`,
        'utf16le',
      ),
    ],
    // Caffe's: indices into the sorted ids.
    ['val.txt', `val/${image(1)} 2\nval/${image(2)} 0\nval/${image(3)} 2\n`],
    ['imagenet_2012_validation_synset_labels.txt', 'n02119789\nn01440764\nn02119789\n'],
  ])('have their classes from %s', async (name, contents) => {
    await lay({ ...TRAIN, val: [image(3), image(1), image(2)] });
    await write(name, contents);
    expect(await labels()).toEqual([fox, tench, fox]);
  });

  it("have their classes from the development kit's numbers, which are not in the order of the ids", async () => {
    await lay({ ...TRAIN, val: [image(1), image(2), image(4)] });
    const truth = 'ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt';
    await write(truth, '2\n1\n1\n3\n');
    await write('synset_words.txt', 'n01440764 tench, Tinca tinca\nn02100735 English setter\nn02119789 kit fox\n');
    await expect(list()).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringMatching(
        /ILSVRC2012_validation_ground_truth\.txt holds numbers.*meta\.mat is not read: expected map_clsloc\.txt/,
      ),
    });
    await write(
      'ILSVRC2012_devkit_t12/data/map_clsloc.txt',
      'n02119789 1 kit_fox\nn02100735 2 English_setter\nn01440764 3 tench\n',
    );
    const byNumber = await labels();
    expect([byNumber[0], byNumber[1], byNumber[3]]).toEqual([setter, fox, tench]);
  });

  it('come in the order that class folders give', async () => {
    await lay({ ...TRAIN, val: [image(1), image(2), image(3), image(4)] });
    await write('val.txt', `${image(4)} 0\n${image(3)} 2\n${image(2)} 1\n${image(1)} 0\n`);
    const flat = (await list()).test;
    await rm(join(dir, 'val'), { recursive: true });
    await lay({ 'val/n01440764': [image(1), image(4)], 'val/n02100735': [image(2)], 'val/n02119789': [image(3)] });
    const inFolders = (await list()).test;
    expect([flat.names, flat.labels]).toEqual([inFolders.names, inFolders.labels]);
  });

  it("count an index into a list of ids that lies there, as for a part of ImageNet's classes", async () => {
    await lay({ 'train/n02119789': ['a.JPEG'], 'train/n02100735': ['a.JPEG'], val: [image(1), image(2)] });
    await write('val.txt', `${image(1)} 2\n${image(2)} 1\n`);
    await expect(list()).rejects.toThrow(/00000001\.JPEG has the index 2, expected 0 to 1 \(the classes of train\/\)/);
    await write('synsets.txt', 'n01440764\nn02100735\nn02119789\n');
    const { test } = await list();
    expect([test.names, Array.from(test.labels)]).toEqual([
      [image(2), image(1)],
      [0, 1],
    ]);
  });

  it("may lie as Kaggle's archive unpacks, from its root or from within", async () => {
    const inside = 'ILSVRC/Data/CLS-LOC';
    await lay(Object.fromEntries(Object.entries(TRAIN).map(([path, names]) => [`${inside}/${path}`, names])));
    await lay({ [`${inside}/val`]: [image(1), image(2)], [`${inside}/test`]: ['ILSVRC2012_test_00000001.JPEG'] });
    await write(
      'LOC_val_solution.csv',
      `ImageId,PredictionString\n${image(2, '')},n01440764 1 1 1 1\n${image(1, '')},n02100735 2 2 2 2\n`,
    );
    // Kaggle's list of images has numbers of images, not of classes, in a second column.
    await write('ILSVRC/ImageSets/CLS-LOC/val.txt', `${image(1, '')} 1\n${image(2, '')} 2\n`);
    expect(await labels()).toEqual([setter, tench]);
    expect(await labels({ dataDir: join(dir, inside) })).toEqual([setter, tench]);
    expect((await list()).train.root).toBe(join(dir, inside, 'train'));
  });

  it('keep their numbers where a line is empty: nothing behind it moves up', async () => {
    await lay({ ...TRAIN, val: [image(1), image(3)] });
    await write('imagenet_2012_validation_synset_labels.txt', 'n02119789\n\nn01440764\n\n');
    const { test } = await list();
    expect([test.names, Array.from(test.labels)]).toEqual([
      [image(3), image(1)],
      [tench, fox],
    ]);
    await lay({ val: [image(2)] });
    await expect(list()).rejects.toThrow(`has no class for ${image(2)} of`);
  });

  it('are refused with what was looked for where', async () => {
    await lay({ ...TRAIN, val: [image(1), image(2)] });
    const looked = ['LOC_val_solution.csv', 'val.csv', 'val.txt', 'imagenet_2012_validation_synset_labels.txt'];
    await expect(list()).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: expect.stringMatching(
        new RegExp(
          `val has no class folders.*${looked.join(', ')}, ILSVRC2012_validation_ground_truth\\.txt.* in ${dir}, or in`,
        ),
      ),
    });
    for (const [contents, words] of [
      [`${image(1)} n01440764\n`, `val\\.txt has no class for ${image(2)} of .*val`],
      [`${image(1)} n01440764\n${image(2)} n09999999\n`, 'val\\.txt has the class n09999999, which train/ lacks'],
      [`${image(1)}\n`, `val\\.txt, line 1: expected an image and its class, got "${image(1)}"`],
      [`${image(1)} 0\n${image(1)} 1\n`, 'line 2: .* was of another class before'],
      [`${image(1)} 0\n\n\n${image(2)}\n`, 'line 4: expected an image and its class'],
      [Buffer.from('\n\ncaf\xe9 1', 'latin1'), 'val\\.txt:3:4: expected UTF-8, got other bytes'],
    ] as const) {
      await write('val.txt', contents);
      await expect(list()).rejects.toMatchObject({ code: 'DATA_CORRUPT', message: expect.stringMatching(words) });
    }
    await rm(join(dir, 'val.txt'));
    await lay({ val: ['photo.JPEG'] });
    await write('imagenet_2012_validation_synset_labels.txt', 'n01440764\nn01440764\n');
    await expect(list()).rejects.toThrow(
      'goes by numbers: expected images such as ILSVRC2012_val_00000001.JPEG, got photo.JPEG',
    );
  });
});

describe('a file of labels beside a folder of images', () => {
  /** The class of each image in val/, by its name; a message where they are refused. */
  async function read(classes: readonly string[], images: readonly string[], file: string, text: string) {
    for (const part of ['train', 'val']) await rm(join(dir, part), { recursive: true, force: true });
    await lay({ ...Object.fromEntries(classes.map((name) => [`train/${name}`, ['1.png']])), val: images });
    await writeFile(join(dir, file), text);
    return list().then(
      ({ classes: names, test }) => Object.fromEntries(test.names.map((name, at) => [name, names[test.labels[at]!]])),
      (error: Error) => error.message,
    );
  }

  it.each([
    ['a comma', 'a.png,sea lion\nb.png,sea\n'],
    ['a comma and a column more', 'image,class,box\na.png,sea lion,7 8\nb.png,sea,1 2\n'],
    ['a semicolon', 'a.png;sea lion\nb.png;sea\n'],
    ['a tab', 'a.png\tsea lion\t0\nb.png\tsea\t0\n'],
    ['a space', 'a.png sea lion\nb.png sea\n'],
    ['quotes', '"file","class"\n"a.png","sea lion"\n"b.png" , sea , 1\n'],
  ])('may name classes of more than one word, after %s', async (_what, text) => {
    expect(await read(['sea', 'sea lion'], ['a.png', 'b.png'], 'val.csv', text)).toEqual({
      'a.png': 'sea lion',
      'b.png': 'sea',
    });
  });

  it('may have separators and quotes in quoted names', async () => {
    const text = '"my, photo.png","say ""x"", y"\nmy photo.png,cat\n';
    expect(await read(['say "x", y', 'cat'], ['my, photo.png', 'my photo.png'], 'val.csv', text)).toEqual({
      'my, photo.png': 'say "x", y',
      'my photo.png': 'cat',
    });
  });

  it.each(['a.png,\n', 'a.png,,x\n', '"a.png,x\n', '"a.png"b,x\n', 'b.png,x\na.png x\n'])(
    'is refused with the line that is none of it: %j',
    async (text) => {
      expect(await read(['x', 'y'], ['a.png'], 'val.csv', text)).toMatch(
        /val\.csv, line [12]: expected an image and its class, got "/,
      );
    },
  );

  const images = (count: number) => Array.from({ length: count }, (_, i) => `${i}.png`);
  const lines = (labels: readonly (string | number)[]) => labels.map((label, i) => `${i}.png ${label}\n`).join('');

  it.each([
    // An index that is no class makes all of them indices.
    [
      ['1', '2', '3'],
      [0, 1, 2],
      ['1', '2', '3'],
    ],
    [
      ['0', '1', '10', '2'],
      [0, 1, 2, 3],
      ['0', '1', '10', '2'],
    ],
    // A name that is no index makes all of them names.
    [
      ['1', '2', '3'],
      [3, 1, 2],
      ['3', '1', '2'],
    ],
    // Either way the same.
    [
      ['0', '1', '2'],
      [2, 0, 1],
      ['2', '0', '1'],
    ],
  ])('has names or indices, not both: classes %j, labels %j', async (classes, labels, expected) => {
    expect(await read(classes, images(labels.length), 'val.txt', lines(labels))).toEqual(
      Object.fromEntries(expected.map((name, i) => [`${i}.png`, name])),
    );
  });

  it('is refused where numbers may be names or indices, and where they are mixed', async () => {
    const found = await read(['0', '1', '10', '2'], images(4), 'val.txt', lines([0, 1, 2, 1]));
    expect(found).toMatch(
      /val\.txt: 2\.png is 2: the name of a class, and the index of the class 10 \(the classes of train\/\): expected the one or the other/,
    );
    expect(await read(['x', 'y', 'z'], images(2), 'val.txt', lines(['x', 0]))).toMatch('has the class 0, which train/');
  });

  it('is compared in composed Unicode, whichever form it, the folders and the images have', async () => {
    const [composed, decomposed] = ['caf\u00e9', 'cafe\u0301'];
    const text = `${composed}.png,${decomposed}\n${decomposed}2.png,${composed}\n`;
    expect(await read([decomposed, 'y'], [`${decomposed}.png`, `${composed}2.png`], 'val.csv', text)).toEqual({
      [`${decomposed}.png`]: composed,
      [`${composed}2.png`]: composed,
    });
  });

  it('names images with the extension that they have, or without any', async () => {
    expect(await read(['x', 'y'], ['a.b.png', 'a.c.png'], 'val.csv', 'a.b,x\na.c,y\n')).toEqual({
      'a.b.png': 'x',
      'a.c.png': 'y',
    });
    expect(await read(['x', 'y'], ['a.png', 'a.jpg'], 'val.csv', 'a.png,x\n')).toMatch(/no class for a\.jpg of/);
    expect(await read(['x', 'y'], ['a.png', 'a.jpg'], 'val.csv', 'a.png,x\na.jpg,y\n')).toEqual({
      'a.png': 'x',
      'a.jpg': 'y',
    });
    expect(await read(['x', 'y'], ['a.png', 'a.jpg'], 'val.csv', 'a,x\n')).toMatch(
      /val\.csv: a stands for a\.jpg and a\.png: expected one image/,
    );
  });
});
