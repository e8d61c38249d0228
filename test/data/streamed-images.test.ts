import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  applyTransforms,
  batchDraws,
  drawFlips,
  randomHorizontalFlip,
  type Transform,
} from '../../lib/data/augmentation.js';
import { Draws } from '../../lib/data/draws.js';
import { readImage } from '../../lib/data/image-file.js';
import type { ImageBatch } from '../../lib/data/image-source.js';
import type { ImageFiles } from '../../lib/data/labelled-images.js';
import { openImages } from '../../lib/data/open-images.js';
import { drawResizedCrop } from '../../lib/data/resized-crop.js';
import { StreamedImages, type StreamedImagesOptions } from '../../lib/data/streamed-images.js';
import { memoryStats, scope } from '../../lib/tensor/index.js';
import { gradient, greyOf, plain, save, turned } from './images.js';

const SIZE = 24;
const LENGTH = 3 * SIZE * SIZE;

let dir: string;
let files: ImageFiles;

/** Photographs of every kind that there is: two classes, turn by turn. */
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-streamed-'));
  const grey = gradient(90, 70).toColourspace('b-w').jpeg();
  const cmyk = plain({ width: 50, height: 60, colour: { r: 90, g: 140, b: 30 } })
    .toColourspace('cmyk')
    .jpeg();
  const pictures = {
    'a/0-plain.JPEG': gradient(120, 90, { blue: 10 }).jpeg(),
    'b/0-grey.JPEG': grey,
    'a/1-cmyk.JPEG': cmyk,
    'b/1-turned.JPEG': await turned(gradient(110, 80, { blue: 60 }), 6),
    'a/2-tiny.JPEG': gradient(68, 121, { blue: 90 }).jpeg(),
    'b/2-wide.JPEG': gradient(480, 30, { blue: 120 }).jpeg(),
    'a/3-one.JPEG': plain({ width: 1, height: 1, colour: { r: 9, g: 80, b: 200 } }).jpeg(),
    'b/3-large.JPEG': gradient(500, 400, { blue: 150 }).jpeg(),
    'a/4-png.JPEG': gradient(64, 64, { blue: 180 }).png(),
    'b/4-alpha.png': gradient(40, 70, { blue: 210 }).ensureAlpha(0.5).png(),
    'a/5-down.JPEG': await turned(gradient(70, 100, { blue: 240 }), 3),
  };
  for (const [path, image] of Object.entries(pictures)) await save(dir, path, image);
  const paths = Object.keys(pictures);
  files = {
    root: dir,
    folders: ['a', 'b'],
    names: paths.map((path) => path.slice(2)),
    labels: Uint8Array.from(paths, (path) => (path.startsWith('b') ? 1 : 0)),
    count: paths.length,
    ...{ channels: 3, height: SIZE, width: SIZE },
    testResize: 32,
  };
});
afterAll(() => rm(dir, { recursive: true }));

const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);
let before: unknown;
beforeEach(() => {
  before = memoryStats();
  process.on('unhandledRejection', note);
});
afterEach(async () => {
  await wait(5);
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
  expect(memoryStats(), 'tensors are left').toEqual(before);
});

const open = (options: Partial<StreamedImagesOptions> = {}, of: ImageFiles = files): StreamedImages =>
  new StreamedImages(of, { device: 'cpu', randomResizedCrop: true, horizontalFlip: false, ...options });

/** Images by rows of pixels, as sharp gives them. */
interface Seen {
  indices: number[];
  labels: number[];
  images: Uint8Array[];
}

function read(batch: ImageBatch): Seen {
  return scope(() => {
    const { images, labels } = batch.tensors();
    const n = batch.indices.length;
    expect(images.dtype).toBe('uint8');
    expect(images.shape).toEqual([n, 3, SIZE, SIZE]);
    expect(images.isContiguous('channelsLast')).toBe(true);
    expect(labels.dtype).toBe('int64');
    const pixels = images.permute([0, 2, 3, 1]).toTypedArray() as Uint8Array;
    return {
      indices: Array.from(batch.indices),
      labels: Array.from(labels.toTypedArray(), Number),
      images: Array.from({ length: n }, (_, i) => pixels.subarray(i * LENGTH, (i + 1) * LENGTH)),
    };
  });
}

async function readAll(batches: AsyncIterable<ImageBatch>): Promise<Seen[]> {
  const seen: Seen[] = [];
  for await (const batch of batches) seen.push(read(batch));
  return seen;
}

const pathOf = (index: number): string => join(dir, files.folders[files.labels[index]!]!, files.names[index]!);

/** Decoded whole first: what any program would make of the file. */
const decoded = (index: number) => sharp(pathOf(index)).autoOrient().removeAlpha().toColourspace('srgb');

function expectClose(got: Uint8Array, expected: Uint8Array, what: string, tolerance: number): void {
  expect(got.length, what).toBe(expected.length);
  const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
  expect(worst, what).toBeLessThanOrEqual(tolerance);
}

const ORDER = Int32Array.of(8, 3, 0, 10, 5, 1, 9, 7, 2, 6, 4);
const pass = (
  changes: { epoch?: number; layer?: number; batchSize?: number; firstStep?: number; seed?: number } = {},
) => {
  const { epoch = 2, batchSize = 4, firstStep = 0, seed = 5, layer } = changes;
  const draws = new Draws({ seed, ...(layer === undefined ? {} : { layer }) });
  return { epoch, order: ORDER, batchSize, firstStep, draws };
};

describe('in training', () => {
  it('each image is its crop of the epoch, scaled; in the order of the epoch, with its label', async () => {
    using images = open();
    const seen = await readAll(images.trainingBatches(pass()));
    expect(seen.map(({ indices }) => indices)).toEqual([
      [8, 3, 0, 10],
      [5, 1, 9, 7],
      [2, 6, 4],
    ]);
    for (const { indices, labels, images } of seen) {
      expect(labels).toEqual(indices.map((index) => files.labels[index]));
      for (const [i, index] of indices.entries()) {
        const whole = await decoded(index).png().toBuffer();
        const { width, height } = await sharp(whole).metadata();
        const part = await sharp(whole)
          .extract(drawResizedCrop(new Draws({ seed: 5 }), 2, index, width, height))
          .png()
          .toBuffer();
        const expected = await sharp(part).resize(SIZE, SIZE, { fit: 'fill', kernel: 'linear' }).raw().toBuffer();
        // Rounded once less; and inks are scaled before they become RGB, as colours are before their alpha is dropped.
        expectClose(images[i]!, expected, files.names[index]!, 2);
      }
    }
  });

  it('the views are the same whatever is prepared ahead or at once, and whatever the batch', async () => {
    const views = async (options: Partial<StreamedImagesOptions>, batchSize = 4) => {
      using images = open(options);
      return (await readAll(images.trainingBatches(pass({ batchSize })))).flatMap((batch) => batch.images);
    };
    const reference = await views({ ahead: 0, concurrency: 1 });
    expect(await views({ ahead: 9, concurrency: 50 })).toEqual(reference);
    expect(await views({ ahead: 1, concurrency: 3 })).toEqual(reference);
    expect(await views({})).toEqual(reference);
    expect(await views({}, 11)).toEqual(reference);
    expect(await views({}, 1)).toEqual(reference);
  });

  it('the views differ by seed, layer and epoch', async () => {
    using images = open();
    const view = async (changes: Parameters<typeof pass>[0]) =>
      Buffer.concat((await readAll(images.trainingBatches(pass(changes)))).flatMap((batch) => batch.images)).toString(
        'hex',
      );
    const views = [await view({}), await view({ seed: 6 }), await view({ layer: 0 }), await view({ epoch: 3 })];
    expect(new Set(views).size).toBe(4);
    expect(await view({})).toBe(views[0]);
  });

  it('a pass from a later step is the rest of the whole pass', async () => {
    using images = open();
    const whole = await readAll(images.trainingBatches(pass()));
    expect(await readAll(images.trainingBatches(pass({ firstStep: 2 })))).toEqual(whole.slice(2));
    expect(await readAll(images.trainingBatches(pass({ firstStep: 3 })))).toEqual([]);
  });

  it.each([true, false])(
    'is mirrored to the bits of the flip on the device, by whichever decoder (crops: %s)',
    async (randomResizedCrop) => {
      const bad = join(dir, 'a', 'bad.JPEG');
      await writeFile(bad, 'no image');
      // One in a hundred may be bad.
      const nine = Array.from({ length: 9 });
      const index = 9 * files.count;
      const withBad: ImageFiles = {
        ...files,
        names: [...nine.flatMap(() => files.names), 'bad.JPEG'],
        labels: Uint8Array.of(...nine.flatMap(() => [...files.labels]), 0),
        count: index + 1,
        onBadImage: 'skip',
      };
      const order = Int32Array.of(...ORDER, index);
      const { draws } = pass();
      // Epochs in which the image that stands in is mirrored, and in which it is not.
      const isMirrored = (epoch: number) => drawFlips(batchDraws(draws, epoch, Int32Array.of(index)))[0] === 1;
      const epochs = [0, 1, 2, 3, 4, 5, 6, 7];
      for (const epoch of [epochs.find(isMirrored)!, epochs.find((one) => !isMirrored(one))!]) {
        using mirrored = open({ randomResizedCrop, horizontalFlip: true }, withBad);
        using plainly = open({ randomResizedCrop }, withBad);
        const seen = async (images: StreamedImages, transforms: Transform[]): Promise<Buffer> => {
          const all: Uint8Array[] = [];
          for await (const batch of images.trainingBatches({ epoch, order, batchSize: 4, firstStep: 0, draws })) {
            scope(() => {
              const { images } = batch.tensors();
              const shown = applyTransforms(transforms, images, batchDraws(draws, epoch, batch.indices));
              all.push(shown.permute([0, 2, 3, 1]).toTypedArray() as Uint8Array);
            });
          }
          return Buffer.concat(all);
        };
        const flippedAfter = await seen(plainly, [randomHorizontalFlip()]);
        expect((await seen(mirrored, [])).equals(flippedAfter)).toBe(true);
        expect((await seen(plainly, [])).equals(flippedAfter)).toBe(false);
      }
      using mirrored = open({ randomResizedCrop, horizontalFlip: true });
      using plainly = open({ randomResizedCrop });
      expect(await readAll(mirrored.batches(4))).toEqual(await readAll(plainly.batches(4)));
    },
  );

  it('shows what evaluation shows where no crops are drawn', async () => {
    using images = open({ randomResizedCrop: false });
    const training = await readAll(images.trainingBatches(pass({ batchSize: 11 })));
    const evaluated = (await readAll(images.batches(11)))[0]!;
    expect(training[0]!.images).toEqual(Array.from(ORDER, (index) => evaluated.images[index]));
  });
});

describe('in evaluation', () => {
  it('each image has its shorter side scaled and its centre cut out, in order', async () => {
    using images = open();
    const seen = await readAll(images.batches(5));
    expect(seen.flatMap(({ indices }) => indices)).toEqual(Array.from(files.names, (_, index) => index));
    const all = seen.flatMap((batch) => batch.images);
    for (const [index, image] of all.entries()) {
      const whole = await decoded(index).png().toBuffer();
      const { width, height } = await sharp(whole).metadata();
      const [w, h] = [width, height].map((side) => Math.round((32 * side) / Math.min(width, height)));
      const scaled = await sharp(whole).resize(w, h, { fit: 'fill', kernel: 'linear' }).png().toBuffer();
      // torchvision's CenterCrop, a half pixel rounded either way.
      const cut = (left: number, top: number) =>
        sharp(scaled).extract({ left, top, width: SIZE, height: SIZE }).raw().toBuffer();
      const offsets = (side: number) => [...new Set([Math.floor((side - SIZE) / 2), Math.ceil((side - SIZE) / 2)])];
      const candidates = offsets(w!).flatMap((left) => offsets(h!).map((top) => cut(left, top)));
      const worst = (await Promise.all(candidates)).map((expected) =>
        image.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0),
      );
      expect(Math.min(...worst), files.names[index]).toBeLessThanOrEqual(4);
    }
  });

  it('gives the same at every number of images a batch', async () => {
    using images = open();
    const each = (await readAll(images.batches(1))).flatMap((batch) => batch.images);
    expect((await readAll(images.batches(500))).flatMap((batch) => batch.images)).toEqual(each);
    expect(Array.from(images.labels.toTypedArray(), Number)).toEqual(Array.from(files.labels));
  });
});

describe('a file that cannot be decoded', () => {
  const withBad = (file: string): ImageFiles => ({
    ...files,
    names: files.names.map((name, index) => (index === 7 ? file : name)),
  });

  it.each([
    ['cut short', 'DATA_CORRUPT', async (file: string) => truncate(file, 2000)],
    ['no image', 'DATA_CORRUPT', async (file: string) => writeFile(file, 'no image at all')],
    ['empty', 'DATA_CORRUPT', async (file: string) => truncate(file, 0)],
    ['missing', 'DATA_NOT_FOUND', async (file: string) => rm(file)],
  ])('(%s) fails the batch that needs it, by its name', async (kind, code, damage) => {
    const noise = { type: 'gaussian', mean: 128, sigma: 60 } as const;
    const create = { width: 99, height: 99, channels: 3, background: { r: 0, g: 0, b: 0 }, noise } as const;
    const file = await save(dir, `b/bad ${kind}.JPEG`, sharp({ create }));
    await damage(file);
    using images = open({ ahead: 4 }, withBad(`bad ${kind}.JPEG`));
    for (const [batches, whole] of [
      [images.trainingBatches(pass()), 1],
      [images.batches(3), 2],
    ] as const) {
      const iterator = batches[Symbol.asyncIterator]();
      for (let i = 0; i < whole; i++) expect((await iterator.next()).done).toBe(false);
      await expect(iterator.next()).rejects.toMatchObject({
        name: 'DataError',
        code,
        message: expect.stringContaining(file),
      });
      expect(await iterator.next()).toMatchObject({ done: true });
    }
  });
});

describe('ending', () => {
  it('early stops decoding', async () => {
    let indices = 0;
    const labels = new Proxy(files.labels, {
      get: (target, key) => {
        if (typeof key === 'string' && /^\d+$/.test(key)) indices++;
        const value: unknown = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    using images = open({ ahead: 1, concurrency: 2 }, { ...files, labels });
    indices = 0;
    for await (const batch of images.batches(2)) {
      read(batch);
      break;
    }
    const begun = indices;
    expect(begun).toBeLessThanOrEqual(4);
    await wait(50);
    expect(indices).toBe(begun);
  });

  it('by disposing, in the middle of a pass, ends the pass', async () => {
    const images = open({ ahead: 2 });
    let seen = 0;
    const loop = async (): Promise<void> => {
      for await (const batch of images.trainingBatches(pass({ batchSize: 2 }))) {
        read(batch);
        if (++seen === 2) images.dispose();
      }
    };
    await expect(loop()).rejects.toMatchObject({ name: 'DataError', code: 'DATA_CANCELLED' });
    expect(seen).toBe(2);
    await expect(images.batches(2).next()).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
  });
});

it('refuses options out of range', () => {
  expect(() => open({ ahead: -1 })).toThrow('ahead must be an integer from 0, got -1');
  expect(() => open({ concurrency: 0 })).toThrow('concurrency must be an integer from 1, got 0');
});

it.each([1, 3] as const)('gives images of unequal sides and of %i channels', async (channels) => {
  const shape = { channels, height: 10, width: 26 } as const;
  using images = open({}, { ...files, ...shape, testResize: 13 });
  const pixelsOf = async (batches: AsyncIterable<ImageBatch>) => {
    const all: Uint8Array[] = [];
    for await (const batch of batches) {
      scope(() => {
        const { images } = batch.tensors();
        expect(images.shape).toEqual([batch.indices.length, channels, 10, 26]);
        expect(images.isContiguous('channelsLast')).toBe(true);
        all.push(images.contiguous().toTypedArray() as Uint8Array);
      });
    }
    return Buffer.concat(all);
  };
  const order = [...ORDER];
  const evaluated = await Promise.all(order.map((_, i) => readImage(pathOf(i), [10, 26], { channels, resize: 13 })));
  expect(await pixelsOf(images.batches(4))).toEqual(Buffer.concat(evaluated));
  const crops = await Promise.all(
    order.map(async (index) => {
      const whole = await decoded(index).png().toBuffer();
      const { width, height } = await sharp(whole).metadata();
      const crop = drawResizedCrop(new Draws({ seed: 5 }), 2, index, width, height);
      const scaled = sharp(await sharp(whole).extract(crop).png().toBuffer()).resize(26, 10, {
        fit: 'fill',
        kernel: 'linear',
      });
      const pixels = await scaled.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer();
      return channels === 1 ? greyOf(pixels) : pixels;
    }),
  );
  const planes = crops.flatMap((crop) =>
    Array.from({ length: channels }, (_, c) => crop.filter((_, i) => i % channels === c)),
  );
  expectClose(await pixelsOf(images.trainingBatches(pass())), Buffer.concat(planes), 'crops', 3);
});

it('refuses batches of no images', async () => {
  using images = open();
  await expect(images.batches(0).next()).rejects.toThrow('batchSize must be an integer from 1, got 0');
});

it('keeps no images: many passes take no more memory than one', async () => {
  const large = { ...files, height: 224, width: 224, testResize: 256 };
  using images = open({}, large);
  const once = async (): Promise<void> => {
    for (let epoch = 0; epoch < 6; epoch++) {
      for await (const batch of images.trainingBatches(pass({ epoch }))) scope(() => void batch.tensors());
    }
  };
  await once();
  const start = process.memoryUsage();
  for (let i = 0; i < 3; i++) await once();
  const end = process.memoryUsage();
  // 198 views of 150 kB were made. Those of the last passes may not be collected yet.
  const views = 198 * 3 * 224 * 224;
  expect(end.arrayBuffers - start.arrayBuffers).toBeLessThan(views);
  expect(end.rss - start.rss).toBeLessThan(2 * views);
});

describe('openImages', () => {
  const memory = {
    images: new Uint8Array(24),
    labels: Uint8Array.of(0, 1),
    count: 2,
    channels: 3,
    height: 2,
    width: 2,
  };

  it('reads files from disk, and what is in memory from there', async () => {
    const streamed = openImages(files, { device: 'cpu', randomResizedCrop: true });
    const held = openImages(memory, { device: 'cpu' });
    expect([streamed.count, held.count]).toEqual([11, 2]);
    expect(streamed).toBeInstanceOf(StreamedImages);
    streamed.dispose();
    held.dispose();
  });

  it('refuses to mirror what is in memory, naming the option', () => {
    expect(() => openImages(memory, { device: 'cpu', horizontalFlip: true })).toThrow(
      expect.objectContaining({
        code: 'DATA_ARGUMENT',
        message: expect.stringMatching(/^horizontalFlip: expected false .*, got true/),
      }),
    );
  });

  it('refuses random resized crops of what is in memory, naming the key', () => {
    expect(() => openImages(memory, { device: 'cpu', randomResizedCrop: true })).toThrow(
      expect.objectContaining({
        code: 'DATA_ARGUMENT',
        message: expect.stringMatching(/^augmentation\.randomResizedCrop: expected false .*, got true/),
      }),
    );
  });
});

describe('photographs', () => {
  const sample = process.env.LAYERWISE_TEST_PHOTOGRAPHS;

  it('of all sizes are read in training and in evaluation', async ({ skip }) => {
    if (!sample) return skip('LAYERWISE_TEST_PHOTOGRAPHS names no folder of class folders of photographs');
    const folders = (await readdir(sample)).sort();
    const listed = await Promise.all(
      folders.map(async (folder, label) => (await readdir(join(sample, folder))).map((name) => ({ name, label }))),
    );
    const all = listed.flat();
    const photographs: ImageFiles = {
      root: sample,
      folders,
      names: all.map(({ name }) => name),
      labels: Int32Array.from(all, ({ label }) => label),
      count: all.length,
      ...{ channels: 3, height: 224, width: 224 },
      testResize: 256,
    };
    using images = open({}, photographs);
    const draws = new Draws({ seed: 1 });
    const order = draws.permutation(0, all.length);
    const passes = [
      images.trainingBatches({ epoch: 0, order, batchSize: 64, firstStep: 0, draws }),
      images.batches(64),
    ];
    for (const batches of passes) {
      let count = 0;
      for await (const batch of batches) {
        count += batch.indices.length;
        const means = scope(() => {
          const pixels = batch.tensors().images.to({ dtype: 'float32' });
          return pixels.mean({ dims: [1, 2, 3] }).toFloat32Array();
        });
        for (const [i, mean] of means.entries()) {
          expect(mean, photographs.names[batch.indices[i]!]).toBeGreaterThan(1);
          expect(mean, photographs.names[batch.indices[i]!]).toBeLessThan(254.5);
        }
      }
      expect(count).toBe(all.length);
    }
  });
});
