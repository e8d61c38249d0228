// Images of the caller's own, in each form that they may be at hand.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type BadImage,
  type Dataset,
  type DatasetPart,
  DeviceImages,
  Draws,
  type EncodedImage,
  type ImageSource,
  identifyDataset,
  type LabelledImages,
  type LoadOwnDataOptions,
  loadOwnData,
  type OwnData,
  type OwnImageData,
  openImages,
  readImage,
  type StoredImages,
} from '../../lib/data/index.js';
import { scope } from '../../lib/tensor/index.js';
import { gradient, save } from './images.js';

const SIZE = 8;
const classes = ['one', 'two', 'three'];
let folder: string;
let files: string[];
/** What `readImage` makes of the files: [6, 3, 8, 8]. */
let pixels: Uint8Array;
const labels = [0, 1, 2, 0, 1, 2];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'layerwise-own-'));
  files = await Promise.all(
    labels.map((_, i) => save(folder, `${i}.png`, gradient(20, 16, { blue: 30 * i, step: 2 + i }))),
  );
  pixels = Buffer.concat(await Promise.all(files.map((file) => readImage(file, SIZE))));
});
afterAll(() => rmSync(folder, { recursive: true }));

const load = (data: OwnData, options: Partial<LoadOwnDataOptions> = {}): Promise<Dataset> =>
  loadOwnData(data, { imageSize: SIZE, ...options });
const encodedOf = (i: number): EncodedImage => ({ image: readFileSync(files[i]!), label: labels[i]! });
const inMemory = (): OwnData => {
  const part = { images: pixels, labels };
  return { classes, imageShape: [3, SIZE, SIZE], train: part, test: part };
};
async function* encoded(count = files.length): AsyncGenerator<EncodedImage> {
  for (let i = 0; i < count; i++) yield encodedOf(i % files.length);
}

/** All pixels of a part in its order, and of an order of three with two a batch. */
async function shown(part: DatasetPart): Promise<{ whole: number[]; drawn: number[]; labels: number[] }> {
  const source = openImages(part, { device: 'cpu' });
  const read = async (
    batches: AsyncIterable<{ tensors(): { images: import('../../lib/tensor/index.js').Tensor } }>,
  ) => {
    const all: number[] = [];
    for await (const batch of batches)
      all.push(...scope(() => [...batch.tensors().images.contiguous().toTypedArray()].map(Number)));
    return all;
  };
  try {
    const order = Int32Array.from([4, 0, 5]);
    const draws = new Draws({ seed: 1, layer: 0 });
    return {
      whole: await read(source.batches(4)),
      drawn: await read(source.trainingBatches({ epoch: 0, order, batchSize: 2, firstStep: 0, draws })),
      labels: [...source.labels.toTypedArray()].map(Number),
    };
  } finally {
    source.dispose();
  }
}

describe('one set of images', () => {
  it('is the same as pixels, as files, as encoded images in memory or in a file, and from a source', async () => {
    const known = await load(inMemory());
    const expected = await shown(known.train);
    expect(expected.whole).toEqual([...pixels]);
    const inFile = await load(
      { classes, train: encoded(), test: encoded(), keep: 'file' },
      { folder: join(folder, 'kept') },
    );
    const sets: Record<string, Dataset> = {
      files: await load({
        classes,
        train: { files, labels },
        test: { files, labels: ['one', 'two', 'three', 0, 1, 2] },
      }),
      encoded: await load({ classes, train: encoded(), test: files.map((_, i) => encodedOf(i)) }),
      'encoded by name': await load({
        classes,
        train: encoded(),
        test: files.map((_, i) => ({ ...encodedOf(i), label: classes[labels[i]!]! })),
      }),
      'in a file': inFile,
    };
    for (const [name, { train, test, normalization }] of Object.entries(sets)) {
      expect({ name, ...(await shown(train)) }).toEqual({ name, ...expected });
      expect({ name, ...(await shown(test)) }).toEqual({ name, ...expected });
      expect(normalization).toEqual(known.normalization);
    }
    expect((await identifyDataset(inFile)).train).toEqual((await identifyDataset(known)).train);
    expect((inFile.train as StoredImages).file).toBe(join(folder, 'kept', 'train.pixels'));

    const source = new DeviceImages(known.train as LabelledImages, 'cpu');
    const own = { classes, imageShape: [3, SIZE, SIZE] as const, train: source, test: source };
    const ofSource = await load(own);
    expect(await shown(ofSource.train)).toEqual(expected);
    expect(ofSource.normalization).toEqual(known.normalization);
    // It is its owner's, who disposes it.
    expect(source.labels.shape).toEqual([6]);
    source.dispose();
  });

  it('is normalised as one says, or as its training images are', async () => {
    const part = { images: Uint8Array.from([0, 10, 100, 200, 40, 30, 100, 200]), labels: [0, 1] };
    const data = { classes, imageShape: [2, 1, 2] as const, train: part, test: part };
    const { mean, std } = (await load(data)).normalization;
    // Channel 0: 0, 10, 40, 30; channel 1: 100, 200 twice.
    expect(mean).toEqual([20 / 255, 150 / 255]);
    expect(std[0]).toBeCloseTo(Math.sqrt((400 + 100 + 400 + 100) / 4) / 255, 12);
    expect(std[1]).toBeCloseTo(50 / 255, 12);
    const given = { mean: [0.5, 0.5], std: [1, 2] };
    expect((await load({ ...data, normalization: given })).normalization).toEqual(given);
    expect((await load(data, { normalization: given })).normalization).toEqual(given);
  });
});

describe('encoded images', () => {
  it('are gone through once, and no further than asked for', async () => {
    let asked = 0;
    let isClosed = false;
    async function* counted(): AsyncGenerator<EncodedImage> {
      try {
        for (;;) {
          asked++;
          yield encodedOf(asked % 6);
        }
      } finally {
        isClosed = true;
      }
    }
    const { train } = await load({ classes, train: counted(), test: encoded() }, { trainLimit: 3 });
    expect([train.count, asked, isClosed]).toEqual([3, 3, true]);
  });

  it('in a file are used again where they are whole', async () => {
    const kept = { folder: join(folder, 'again') };
    const never = (): OwnImageData => ({
      ...{ classes, keep: 'file' },
      train: (async function* () {
        yield* [];
        throw new Error('was asked for again');
      })(),
      test: encoded(),
    });
    await load({ ...never(), train: encoded() }, kept);
    const { train } = await load(never(), kept);
    expect((await shown(train)).whole).toEqual([...pixels]);
    truncateSync(join(kept.folder, 'train.pixels'), 100);
    await expect(load(never(), kept)).rejects.toThrow('was asked for again');
    expect(existsSync(join(kept.folder, 'train.pixels.partial'))).toBe(false);
  });

  it.each<[string, (file: string) => void]>([
    [
      'a label beyond the classes',
      (file) => {
        const bytes = readFileSync(file);
        bytes.writeInt32LE(99, 6 * 3 * SIZE * SIZE);
        writeFileSync(file, bytes);
      },
    ],
    [
      'one image fewer, so that pixels are read as labels',
      (file) => truncateSync(file, readFileSync(file).length - 3 * SIZE * SIZE - 4),
    ],
    ['a few bytes fewer', (file) => truncateSync(file, readFileSync(file).length - 7)],
    [
      'a directory in its place',
      (file) => {
        rmSync(file);
        mkdirSync(file);
      },
    ],
  ])('in a file are read again where that has %s', async (_, damage) => {
    const kept = { folder: mkdtempSync(join(folder, 'damaged-')) };
    const data = (): OwnData => ({ classes, keep: 'file', train: encoded(), test: encoded() });
    await load(data(), kept);
    damage(join(kept.folder, 'train.pixels'));
    expect((await shown((await load(data(), kept)).train)).whole).toEqual([...pixels]);
  });

  it('may share one piece of memory, which its owner fills again for the next', async () => {
    async function* reused(): AsyncGenerator<EncodedImage> {
      const memory = Buffer.alloc(4096);
      for (let i = 0; i < files.length; i++) {
        const { image, label } = encodedOf(i);
        memory.fill(0).set(image);
        yield { image: memory.subarray(0, image.length), label };
      }
    }
    const { train } = await load({ classes, train: reused(), test: encoded() });
    expect((await shown(train)).whole).toEqual([...pixels]);
  });

  it('that do not come are not waited for after the reading was cancelled', async () => {
    const controller = new AbortController();
    let isClosed = false;
    const hanging: AsyncIterable<EncodedImage> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => {}),
        return: async () => {
          isClosed = true;
          return { done: true, value: undefined };
        },
      }),
    };
    const kept = join(folder, 'hanging');
    const data = { classes, keep: 'file', train: encoded(), test: hanging } as const;
    const cancelled = load(data, { signal: controller.signal, folder: kept });
    setTimeout(() => controller.abort(), 50);
    await expect(cancelled).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
    expect([isClosed, readdirSync(kept)]).toEqual([true, []]);
  });

  it('and sources are known by their methods, whatever fields they have', async () => {
    class Rows {
      files = 3;
      images = 'table';
      *[Symbol.iterator]() {
        for (let i = 0; i < files.length; i++) yield encodedOf(i);
      }
    }
    const { train } = await load({ classes, train: new Rows() as unknown as EncodedImage[], test: encoded() });
    expect((await shown(train)).whole).toEqual([...pixels]);
  });

  const broken = (i: number): EncodedImage => ({ image: Buffer.from('no image'), label: labels[i % 6]! });
  const withBroken = (count: number, ...at: number[]) =>
    Array.from({ length: count }, (_, i) => (at.includes(i) ? broken(i) : encodedOf(i % 6)));

  it('that cannot be decoded end the reading with the first of them', async () => {
    await expect(load({ classes, train: withBroken(40, 31, 7, 20), test: encoded() })).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/^data\.train: image 7 is .*: expected a JPEG or PNG image; or skip such images/),
    });
  });

  it.each(['memory', 'file'] as const)('in %s may have another of their class stand in, at most 1 %', async (keep) => {
    const told: BadImage[] = [];
    const options: Partial<LoadOwnDataOptions> = {
      ...{ onBadImage: 'skip' as const, folder: join(folder, `skip-${keep}`) },
      reportBadImage: (bad: BadImage) => told.push(bad),
    };
    const { train } = await load({ classes, train: withBroken(300, 7, 299, 2), test: encoded(), keep }, options);
    const { whole } = await shown(train);
    const length = 3 * SIZE * SIZE;
    const image = (i: number) => whole.slice(i * length, (i + 1) * length);
    // 7, 299 and 2 are of classes 1, 2 and 2: the next good ones are 10, 5 (after the end) and 5.
    for (const [at, other] of [
      [7, 10],
      [299, 5],
      [2, 5],
    ] as const)
      expect(image(at)).toEqual(image(other));
    expect(told.map(({ path }) => path)).toEqual([2, 7, 299].map((i) => `data.train: image ${i}`));
    const tooMany = load({ classes, train: withBroken(299, 7, 298, 2), test: encoded(), keep: 'memory' }, options);
    await expect(tooMany).rejects.toThrow(
      'data.train: 3 of the 299 images cannot be used, and at most 1 % may be skipped',
    );
  });

  it.each<[string, unknown, string]>([
    [
      'an iterable that throws',
      (function* () {
        yield encodedOf(0);
        throw new Error('lost connection');
      })(),
      'data.train: reading the images failed after 1: lost connection',
    ],
    ['none', [], 'data.train: expected at least one image, got none'],
    ['something else', [3], 'data.train: image 0: expected an object { image, label }, got 3'],
    [
      'a text for an image',
      [{ image: 'a.png', label: 0 }],
      'data.train: image 0: expected the bytes of a JPEG or PNG file',
    ],
    [
      'a label beyond the classes',
      [{ image: new Uint8Array(1), label: 3 }],
      'data.train: image 0: expected a label from 0 to 2 or the name of a class, got 3',
    ],
    ['a class that there is not', [{ image: new Uint8Array(1), label: 'four' }], 'got "four"'],
    ['no label', [{ image: new Uint8Array(1) }], 'got nothing'],
  ])('with %s are refused', async (_, train, message) => {
    await expect(load({ classes, train: train as EncodedImage[], test: encoded() })).rejects.toThrow(message);
  });

  it('are left alone once the reading is cancelled', async () => {
    const controller = new AbortController();
    async function* slow(): AsyncGenerator<EncodedImage> {
      for (let i = 0; ; i++) {
        if (i === 5) controller.abort();
        yield encodedOf(i % 6);
      }
    }
    const cancelled = load({ classes, train: slow(), test: encoded() }, { signal: controller.signal });
    await expect(cancelled).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
  });
});

describe('grey images of unequal sides', () => {
  const grey = { imageSize: [6, 10], channels: 1 } as const;
  const read = async (resize?: number) =>
    Buffer.concat(await Promise.all(files.map((file) => readImage(file, [6, 10], { channels: 1, resize }))));

  it('are the same as files, and encoded in memory or in a file, with one mean and deviation', async () => {
    const known = [...(await read())];
    const scaled = [...(await read(8))];
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    const std = Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / known.length);
    const sets: [OwnImageData, string][] = [
      [{ classes, train: encoded(), test: encoded() }, 'encoded'],
      [{ classes, train: encoded(), test: encoded(), keep: 'file' }, 'in a file'],
    ];
    for (const [data, name] of sets) {
      const options = { ...grey, testResize: 8, folder: join(folder, 'grey') };
      const { train, test, normalization } = await load(data, options);
      expect([train, test], name).toMatchObject(Array(2).fill({ channels: 1, height: 6, width: 10, count: 6 }));
      expect((await shown(train)).whole, name).toEqual(known);
      expect((await shown(test)).whole, name).toEqual(scaled);
      expect(normalization.mean, name).toEqual([expect.closeTo(mean / 255, 12)]);
      expect(normalization.std, name).toEqual([expect.closeTo(std / 255, 9)]);
    }
    // Files are shown as they are evaluated where there is no random crop.
    const { train } = await load({ classes, train: { files, labels }, test: { files, labels } }, grey);
    expect((await shown(train)).whole).toEqual(known);
  });

  it('may stand beside pixels of their shape', async () => {
    const test = { images: await read(), labels };
    const dataset = await load({ classes, imageShape: [1, 6, 10], train: encoded(), test }, grey);
    expect(dataset.test).toMatchObject({ channels: 1, height: 6, width: 10 });
    await expect(
      load({ classes, imageShape: [3, 8, 8], train: encoded(), test: { images: pixels, labels } }, grey),
    ).rejects.toThrow('data.test: expected images of 1 x 6 x 10, as the training images are, got "3 x 8 x 8"');
  });

  it('are refused where nothing is decoded', async () => {
    const refused = 'dataset.channels: expected 3, the default, for';
    await expect(load(inMemory(), { channels: 1 })).rejects.toThrow(
      `${refused} images whose shape is given (data.imageShape), got 1`,
    );
    // Nor is a limit of pixels of use, or a choice about files that cannot be decoded.
    await expect(load(inMemory(), { maxPixels: 100 })).rejects.toThrow(
      'dataset.maxPixels: expected null, the default, for images whose shape is given (data.imageShape), got 100',
    );
    await expect(load(inMemory(), { onBadImage: 'skip' })).rejects.toThrow(
      'dataset.onBadImage: expected fail, the default, for images whose shape is given (data.imageShape), got skip',
    );
    const part = { vectors: new Float32Array(4), labels: [0, 1] };
    await expect(load({ classes, vectorLength: 2, train: part, test: part }, { channels: 1 })).rejects.toThrow(
      `${refused} vectors, got 1`,
    );
    const { train } = await load(inMemory());
    const source = new DeviceImages(train as LabelledImages, 'cpu');
    const ofSource: OwnData = { classes, imageShape: [3, SIZE, SIZE], train: source, test: source };
    await expect(load(ofSource, { channels: 1 })).rejects.toThrow(refused);
    source.dispose();
  });

  it('are not cut out of less than they are', async () => {
    await expect(load({ classes, train: encoded(), test: encoded() }, { ...grey, testResize: 5 })).rejects.toThrow(
      'testResize must be at least the shorter side of the image size, 6 pixels, got 5',
    );
  });
});

describe('data that do not fit are refused by name', () => {
  it.each<[string, object, string]>([
    [
      'a misspelled key',
      { tset: [] },
      'data: expected only title, classes, imageShape, train, test, normalization, keep, got "tset"',
    ],
    [
      'a part that is none',
      { train: 3 },
      'data.train: expected pixels { images, labels }, files { files, labels }, an iterable',
    ],
    ['no test images', { test: undefined }, 'data.test: expected pixels'],
    ['pixels without a shape', { imageShape: undefined }, 'data.imageShape: expected [channels, height, width]'],
    [
      'paths that are none',
      { train: { files: undefined, labels: [0] } },
      'data.train.files: expected at least one path in an array, got nothing',
    ],
    ['another place to keep', { keep: 'disk' }, "data.keep: expected 'memory' or 'file', got \"disk\""],
    ['a title that is no text', { title: 3 }, 'data.title: expected a text, got 3'],
    ['as many paths as none', { train: { files: [], labels: [] } }, 'data.train.files: expected at least one path'],
    [
      'labels for other files',
      { train: { files: ['a.png'], labels: [] } },
      'data.train.labels: expected 1 labels, one an image, got 0',
    ],
    ['a path that is none', { train: { files: [3], labels: [0] } }, 'data.train.files[0]: expected a path, got 3'],
    [
      'images of two shapes',
      { test: { files: ['a.png'], labels: [0] }, imageShape: [3, 16, 4] },
      'data.test: expected images of 3 x 16 x 4, as the training images are, got "3 x 8 x 8"',
    ],
    [
      'a normalisation of one channel',
      { normalization: { mean: [0.5], std: [0.5] } },
      'data.normalization.mean: expected 3 numbers, one a channel',
    ],
  ])('%s', async (_, change, message) => {
    await expect(load({ ...inMemory(), ...change } as OwnData)).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: expect.stringContaining(message),
    });
  });

  it('a source that gives something else than it says', async () => {
    const known = (await load(inMemory())).train as LabelledImages;
    const source = new DeviceImages(known, 'cpu');
    const like = (changes: Partial<ImageSource>): ImageSource => ({
      count: 6,
      labels: source.labels,
      trainingBatches: (pass) => source.trainingBatches(pass),
      batches: (size) => source.batches(size),
      dispose: () => {},
      ...changes,
    });
    const refused = (
      images: ImageSource,
      imageShape: readonly [number, number, number] = [3, SIZE, SIZE],
      limits = {},
    ) => load({ classes, imageShape, train: images, test: images }, limits);
    await expect(refused(like({ count: 5 }))).rejects.toThrow(
      'data.test.labels: expected 5 labels, one an image, got 6',
    );
    await expect(refused(like({ count: 0 }))).rejects.toThrow(
      'data.test.count: expected a number of images from 1, got 0',
    );
    await expect(refused(like({}), [1, SIZE, SIZE])).rejects.toThrow(
      'data.test.batches(1): expected images uint8 [1, 1, 8, 8], got uint8 [1, 3, 8, 8]',
    );
    await expect(refused(like({}), [3, SIZE, SIZE], { testLimit: 2 })).rejects.toThrow(
      'no testLimit for a source of images',
    );
    source.dispose();
  });

  it('a file of the list that is not there is told when it is used', async () => {
    writeFileSync(join(folder, 'text.png'), 'no image');
    const data = {
      ...inMemory(),
      imageShape: undefined,
      train: { files: [join(folder, 'text.png')], labels: [0] },
      test: { files: files.slice(0, 1), labels: [0] },
    } as unknown as OwnData;
    await expect(load(data)).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringContaining('text.png'),
    });
  });
});
