// JPEG images by the addon's own decoder, against the whole image decoded by sharp and scaled in doubles.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import sharp, { type Sharp } from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Draws } from '../../lib/data/draws.js';
import { drawResizedCrop, resizedCropDraws } from '../../lib/data/resized-crop.js';
import {
  DECODED,
  type DecodingRequest,
  decodeImages,
  decodingThreads,
  empty,
  findTurboJpeg,
  keep,
  memoryStats,
  scope,
  setDecodingThreads,
  type Tensor,
  TensorError,
} from '../../lib/tensor/index.js';
import { gradient, plain } from './images.js';
import { type Axis, scaledBy } from './scaling.js';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-jpeg-'));
});
afterAll(() => rm(dir, { recursive: true }));

let before: unknown;
beforeEach(() => {
  before = memoryStats();
});
afterEach(() => expect(memoryStats(), 'tensors are left').toEqual(before));

const threads = decodingThreads();
afterEach(() => setDecodingThreads(threads));

const HAS_TURBOJPEG = findTurboJpeg() !== null;

type Request = Omit<DecodingRequest, 'images' | 'covered' | 'maxPixels'> & {
  readonly height?: number;
  readonly width?: number;
  readonly channels?: 1 | 3;
  readonly covered?: readonly [number, number];
  readonly maxPixels?: number;
};

/** Pixels of each image [height, width, channels], and what became of it. */
async function decode({ height = 24, width = 24, channels = 3, covered = [height, width], ...request }: Request) {
  const shape = [request.sources.length, height, width, channels];
  const images = scope(() => keep(empty(shape, { dtype: 'uint8' }).fill_(7)));
  try {
    const outcomes = await decodeImages({ images, covered, maxPixels: 1e9, ...request }).done;
    const pixels = images.toTypedArray() as Uint8Array;
    const length = height * width * channels;
    return request.sources.map((_, i) => ({
      outcome: outcomes[i]!,
      pixels: pixels.subarray(i * length, (i + 1) * length),
    }));
  } finally {
    images.dispose();
  }
}

/** Coloured noise, smooth enough for JPEG. */
const noise = (width: number, height: number): Sharp =>
  sharp({
    create: { width, height, channels: 3, background: 'black', noise: { type: 'gaussian', mean: 128, sigma: 50 } },
  });

/** The whole image, upright, as [height, width, 3]. */
async function whole(jpeg: Buffer): Promise<{ pixels: Uint8Array; width: number; height: number }> {
  const upright = sharp(jpeg).autoOrient().toColourspace('srgb').raw();
  const { data, info } = await upright.toBuffer({ resolveWithObject: true });
  return { pixels: data, width: info.width, height: info.height };
}

const side = (start: number, length: number, count: number, bounds: readonly [number, number]): Axis => ({
  ...{ start, length, count },
  ...{ first: bounds[0], end: bounds[1] },
});

/** The crop of `draws` by its definition in TypeScript. */
async function cropped(jpeg: Buffer, draws: Draws, [height, width]: readonly [number, number]): Promise<Uint8Array> {
  const image = await whole(jpeg);
  const crop = drawResizedCrop(draws, 0, 0, image.width, image.height);
  return scaledBy(
    image.pixels,
    image.width,
    side(crop.left, crop.width, width, [crop.left, crop.left + crop.width]),
    side(crop.top, crop.height, height, [crop.top, crop.top + crop.height]),
  );
}

const worst = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
const mean = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;

/** Integers are rounded after the rows and again after the columns: now and then otherwise than doubles. */
function expectRounded(got: Uint8Array, expected: Uint8Array, what: string): void {
  expect(worst(got, expected), what).toBeLessThanOrEqual(2);
  expect(mean(got, expected), what).toBeLessThan(0.2);
}

const KINDS: Record<string, (image: Sharp) => Sharp> = {
  '4:2:0': (image) => image.jpeg({ quality: 90 }),
  '4:4:4': (image) => image.jpeg({ quality: 90, chromaSubsampling: '4:4:4' }),
  progressive: (image) => image.jpeg({ quality: 80, progressive: true }),
  grey: (image) => image.greyscale().jpeg(),
};

/** At and beside the borders of blocks of 8 and 16, and as small as can be. */
const SIZES = [
  ...[1, 7, 8, 9, 15, 16, 17, 31, 33, 47, 49].map((width) => [width, 50 - width] as const),
  ...[[1, 300] as const, [300, 1] as const, [97, 61] as const],
];

describe.runIf(HAS_TURBOJPEG)('a JPEG image', () => {
  it.each(Object.keys(KINDS))('(%s) of any size is its crop, scaled', async (kind) => {
    for (const [i, [width, height]] of SIZES.entries()) {
      const jpeg = await KINDS[kind]!(noise(width, height)).toBuffer();
      for (const seed of [1, 2, 3]) {
        const draws = new Draws({ seed: 10 * i + seed });
        const numbers = resizedCropDraws(draws, 0, Int32Array.of(0));
        const [found] = await decode({ sources: [jpeg], draws: numbers, height: 22, width: 26 });
        expect(found!.outcome).toBe(DECODED.yes);
        expectRounded(found!.pixels, await cropped(jpeg, draws, [22, 26]), `${width} x ${height}, seed ${seed}`);
      }
    }
  });

  it.each(Object.keys(KINDS))('(%s) has its centre cut out as torchvision does', async (kind) => {
    // So small that all their pixels are decoded.
    for (const [width, height] of [...SIZES.slice(0, -1), [34, 20] as const, [20, 35] as const]) {
      const jpeg = await KINDS[kind]!(noise(width, height)).toBuffer();
      const [found] = await decode({ sources: [jpeg], covered: [16, 16], height: 13, width: 13 });
      // Resize(16): the shorter side 16, the longer rounded down. CenterCrop(13): halves to even.
      const [w, h] = width < height ? [16, Math.floor((16 * height) / width)] : [Math.floor((16 * width) / height), 16];
      const offset = (length: number) => halfToEven((length - 13) / 2);
      const image = await whole(jpeg);
      const axis = (length: number, scaled: number): Axis =>
        side((offset(scaled) * length) / scaled, (13 * length) / scaled, 13, [0, length]);
      const expected = scaledBy(image.pixels, image.width, axis(width, w), axis(height, h));
      expect(found!.outcome).toBe(DECODED.yes);
      expectRounded(found!.pixels, expected, `${width} x ${height}`);
    }
  });

  it('stands upright by each of the eight orientations', async () => {
    const upright = gradient(60, 40, { step: 4, blue: 90 });
    const expected = (await whole(await upright.png().toBuffer())).pixels;
    const raw = { width: 60, height: 40, channels: 3 } as const;
    // What has to be done to the upright image, so that the orientation undoes it.
    const stored: Record<number, (image: Sharp) => Promise<Buffer>> = {
      1: (image) => image.png().toBuffer(),
      2: (image) => image.flop().png().toBuffer(),
      3: (image) => image.rotate(180).png().toBuffer(),
      4: (image) => image.flip().png().toBuffer(),
      5: async (image) =>
        sharp(await image.rotate(90).png().toBuffer())
          .flop()
          .png()
          .toBuffer(),
      6: (image) => image.rotate(270).png().toBuffer(),
      7: async (image) =>
        sharp(await image.rotate(90).png().toBuffer())
          .flip()
          .png()
          .toBuffer(),
      8: (image) => image.rotate(90).png().toBuffer(),
    };
    for (const [orientation, store] of Object.entries(stored)) {
      const file = sharp(await store(sharp(expected, { raw }))).withMetadata({ orientation: Number(orientation) });
      const jpeg = await file.jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer();
      const [found] = await decode({ sources: [jpeg], height: 40, width: 60, covered: [40, 60] });
      expect(mean(found!.pixels, expected), orientation).toBeLessThan(1);
      const draws = new Draws({ seed: Number(orientation) });
      const [crop] = await decode({ sources: [jpeg], draws: resizedCropDraws(draws, 0, Int32Array.of(0)) });
      expectRounded(crop!.pixels, await cropped(jpeg, draws, [24, 24]), orientation);
    }
  });

  it('is mirrored to the bits that flipping gives, by any orientation, width and channels, where that is asked for', async () => {
    for (let orientation = 1; orientation <= 8; orientation++) {
      const jpeg = await noise(50 + orientation, 40)
        .withMetadata({ orientation })
        .jpeg({ quality: 90 })
        .toBuffer();
      const draws = resizedCropDraws(new Draws({ seed: orientation }), 0, Int32Array.of(0, 0));
      for (const width of [1, 2, 5, 6, 7, 24, 29]) {
        for (const channels of [1, 3] as const) {
          for (const shown of [{ draws }, {}]) {
            const request = { sources: [jpeg, jpeg], ...shown, height: 9, width, channels };
            const [plainly, mirrored] = await decode({ ...request, mirrored: Uint8Array.of(0, 1) });
            const what = `orientation ${orientation}, width ${width}, channels ${channels}`;
            expect(mirrored!.outcome).toBe(DECODED.yes);
            expect(mirrored!.pixels, what).toEqual(flipped(plainly!.pixels, width, channels));
            expect((await decode(request))[1]!.pixels, what).toEqual(plainly!.pixels);
          }
        }
      }
    }
  });

  it('much larger than what is shown is decoded smaller, and little different for it', async () => {
    for (const [width, height] of [
      [640, 480],
      [1001, 777],
      [3000, 1999],
    ] as const) {
      const base = sharp(
        await noise(width >> 3, height >> 3)
          .png()
          .toBuffer(),
      ).resize(width, height, { kernel: 'cubic' });
      const jpeg = await base.jpeg({ quality: 90 }).toBuffer();
      const [found] = await decode({ sources: [jpeg], covered: [40, 40], height: 32, width: 32 });
      const image = await whole(jpeg);
      const scaled = [Math.floor((40 * width) / height), 40] as const;
      const axis = (length: number, to: number): Axis =>
        side((halfToEven((to - 32) / 2) * length) / to, (32 * length) / to, 32, [0, length]);
      const expected = scaledBy(image.pixels, width, axis(width, scaled[0]), axis(height, 40));
      expect(mean(found!.pixels, expected), `${width} x ${height}`).toBeLessThan(2);
    }
  });

  it('much larger than what is shown is scaled from all its pixels where that is wished', async () => {
    const [width, height] = [640, 481];
    const jpeg = await noise(width, height).jpeg({ quality: 95 }).toBuffer();
    const draws = new Draws({ seed: 2 });
    const request = { sources: [jpeg], draws: resizedCropDraws(draws, 0, Int32Array.of(0)) };
    const expected = await cropped(jpeg, draws, [24, 24]);
    expectRounded((await decode({ ...request, mayReduce: false }))[0]!.pixels, expected, 'from all');
    const [smaller] = await decode({ ...request, mayReduce: true });
    expect(worst(smaller!.pixels, expected)).toBeGreaterThan(2);
    // The environment says what a request leaves out.
    const before = process.env.LAYERWISE_JPEG_SCALING;
    try {
      for (const [named, mayReduce] of [
        ['off', false],
        ['on', true],
        ['', true],
      ] as const) {
        process.env.LAYERWISE_JPEG_SCALING = named;
        expect(await decode(request), named).toEqual(await decode({ ...request, mayReduce }));
      }
      process.env.LAYERWISE_JPEG_SCALING = '0';
      await expect(decode(request)).rejects.toThrow('LAYERWISE_JPEG_SCALING: expected on or off, got 0');
    } finally {
      if (before === undefined) delete process.env.LAYERWISE_JPEG_SCALING;
      else process.env.LAYERWISE_JPEG_SCALING = before;
    }
  });

  it('is grey by its luma, taken after scaling', async () => {
    const jpeg = await noise(50, 40).jpeg({ quality: 95 }).toBuffer();
    const [colour] = await decode({ sources: [jpeg] });
    const [grey] = await decode({ sources: [jpeg], channels: 1 });
    const luma = Uint8Array.from({ length: 24 * 24 }, (_, i) => {
      const [r, g, b] = colour!.pixels.subarray(3 * i);
      return (19_595 * r! + 38_470 * g! + 7_471 * b! + 32_768) >> 16;
    });
    expect(grey!.pixels).toEqual(luma);
  });

  it('lies anywhere in a file, and is read from there alone', async () => {
    const jpegs = await Promise.all([
      plain({ colour: { r: 250, g: 0, b: 0 } })
        .jpeg()
        .toBuffer(),
      plain({ colour: { r: 0, g: 0, b: 250 } })
        .jpeg()
        .toBuffer(),
    ]);
    const file = join(dir, 'shard');
    await writeFile(file, Buffer.concat([Buffer.alloc(100), ...jpegs, Buffer.alloc(100)]));
    const ranges = Float64Array.of(100, jpegs[0].length, 100 + jpegs[0].length, jpegs[1].length);
    const found = await decode({ sources: [file, file], ranges });
    expect(found.map(({ outcome }) => outcome)).toEqual([DECODED.yes, DECODED.yes]);
    expect(found.map(({ pixels }) => pixels[0]! > 200)).toEqual([true, false]);
    const beyond = Float64Array.of(100, 1e6, 1e9, 10);
    expect((await decode({ sources: [file, file], ranges: beyond })).map(({ outcome }) => outcome)).toEqual([
      DECODED.unread,
      DECODED.unread,
    ]);
  });
});

/** [height, width, channels], each row from right to left. */
const flipped = (pixels: Uint8Array, width: number, channels: number): Uint8Array =>
  pixels.map((_, i) => {
    const [at, channel] = [Math.floor(i / channels), i % channels];
    const x = at % width;
    return pixels[(at - x + (width - 1 - x)) * channels + channel]!;
  });

const halfToEven = (value: number): number => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

describe.runIf(HAS_TURBOJPEG)('what is left to another decoder', () => {
  it('leaves the pixels alone, and says so', async () => {
    const jpeg = await noise(64, 64).jpeg().toBuffer();
    const middle = Buffer.from(jpeg);
    // In the middle of the image data: a code that no table has.
    middle.fill(0xff, jpeg.length >> 1, (jpeg.length >> 1) + 40);
    const bad: Record<string, Buffer> = {
      'a PNG image': await noise(30, 30).png().toBuffer(),
      'a WebP image': await noise(30, 30).webp().toBuffer(),
      CMYK: await noise(30, 30).toColourspace('cmyk').jpeg().toBuffer(),
      'cut short': jpeg.subarray(0, -50),
      'without its end': jpeg.subarray(0, -2),
      'spoiled in the middle': middle,
      'a header alone': jpeg.subarray(0, 200),
      nothing: Buffer.alloc(0),
      'two bytes': Buffer.of(0xff, 0xd8),
      'begin and end': Buffer.of(0xff, 0xd8, 0xff, 0xd9),
      zeros: Buffer.alloc(500),
    };
    const found = await decode({ sources: Object.values(bad) });
    for (const [i, name] of Object.keys(bad).entries()) {
      expect(found[i]!.outcome, name).toBe(DECODED.no);
      expect(
        found[i]!.pixels.every((value) => value === 7),
        name,
      ).toBe(true);
    }
  });

  it('is more than is asked for', async () => {
    const jpeg = await noise(64, 64).jpeg().toBuffer();
    expect((await decode({ sources: [jpeg], maxPixels: 4095 }))[0]!.outcome).toBe(DECODED.no);
    expect((await decode({ sources: [jpeg], maxPixels: 4096 }))[0]!.outcome).toBe(DECODED.yes);
  });

  it('is no file', async () => {
    const fifo = join(dir, 'fifo');
    spawnSync('mkfifo', [fifo]);
    for (const path of [join(dir, 'none'), dir, fifo, '/dev/zero', '']) {
      expect((await decode({ sources: [path] }))[0]!.outcome, path).toBe(DECODED.unread);
    }
  });
});

describe.runIf(HAS_TURBOJPEG)('the threads', () => {
  const batch = async (count: number) => {
    const files = await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const file = join(dir, `${i}.jpg`);
        await noise(200 + i, 150)
          .jpeg()
          .toFile(file);
        return file;
      }),
    );
    return { sources: files, draws: resizedCropDraws(new Draws({ seed: 3 }), 1, Int32Array.from(files.keys())) };
  };

  it('give the same, however many they are', async () => {
    const request = await batch(20);
    setDecodingThreads(1);
    const one = await decode(request);
    for (const count of [2, 7]) {
      setDecodingThreads(count);
      expect(await decode(request)).toEqual(one);
    }
    expect(one.every(({ outcome }) => outcome === DECODED.yes)).toBe(true);
  });

  it('give the same without the instructions that LibTorch does without', async () => {
    const { sources, draws } = await batch(12);
    const tensors = new URL('../../dist/tensor/index.js', import.meta.url).href;
    const program = `
      import { buildInfo, decodeImages, empty, findTurboJpeg } from ${JSON.stringify(tensors)};
      findTurboJpeg();
      const { sources, draws, mirrored } = JSON.parse(process.argv[1]);
      const images = empty([sources.length, 24, 24, 3], { dtype: 'uint8' });
      const shown = { draws: Float64Array.from(draws), mirrored: Uint8Array.from(mirrored) };
      await decodeImages({ images, sources, ...shown, covered: [24, 24], maxPixels: 1e9 }).done;
      const pixels = Buffer.from(images.toTypedArray()).toString('base64');
      console.log(JSON.stringify({ capability: buildInfo().cpuCapability, pixels }));
    `;
    const mirrored = Uint8Array.from(sources, (_, i) => i % 2);
    const input = JSON.stringify({ sources, draws: [...draws], mirrored: [...mirrored] });
    const options = { env: { ...process.env, ATEN_CPU_CAPABILITY: 'default' }, encoding: 'utf8' } as const;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program, input], options);
    const { capability, pixels } = JSON.parse(stdout) as { capability: string; pixels: string };
    // A LibTorch that does not say what it uses gives nothing.
    if (capability !== '') expect(capability).toBe('DEFAULT');
    const ours = await decode({ sources, draws, mirrored });
    expect(pixels).toBe(Buffer.concat(ours.map((one) => one.pixels)).toString('base64'));
  });

  it('work on several batches, and begin no more of one that is cancelled', async () => {
    const { sources } = await batch(20);
    const many = Array.from({ length: 50 }, () => sources).flat();
    setDecodingThreads(1);
    const images = scope(() => keep(empty([many.length, 24, 24, 3], { dtype: 'uint8' }).fill_(7)));
    const cancelled = decodeImages({ images, sources: many, covered: [24, 24], maxPixels: 1e9 });
    const whole = decode({ sources });
    cancelled.cancel();
    await cancelled.done;
    const pixels = images.toTypedArray() as Uint8Array;
    images.dispose();
    expect(pixels.subarray(-24 * 24 * 3).every((value) => value === 7)).toBe(true);
    expect((await whole).every(({ outcome }) => outcome === DECODED.yes)).toBe(true);
    cancelled.cancel();
  });

  it('decode to a tensor that was disposed meanwhile, and to none at all', async () => {
    const { sources } = await batch(5);
    const images = scope(() => keep(empty([5, 24, 24, 3], { dtype: 'uint8' })));
    const decoding = decodeImages({ images, sources, covered: [24, 24], maxPixels: 1e9 });
    images.dispose();
    expect([...(await decoding.done)]).toEqual([0, 0, 0, 0, 0]);
    expect(await decode({ sources: [] })).toEqual([]);
  });

  it('outlive a worker that is ended while they work for it', async () => {
    const { sources } = await batch(20);
    const tensors = new URL('../../dist/tensor/index.js', import.meta.url).href;
    const code = `
      import { parentPort, workerData } from 'node:worker_threads';
      const { decodeImages, empty, findTurboJpeg } = await import(${JSON.stringify(tensors)});
      findTurboJpeg();
      const images = empty([workerData.length, 224, 224, 3], { dtype: 'uint8' });
      void decodeImages({ images, sources: workerData, covered: [224, 224], maxPixels: 1e9 }).done;
      parentPort.postMessage('begun');
    `;
    for (let i = 0; i < 5; i++) {
      const many = Array.from({ length: 40 }, () => sources).flat();
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: many });
      await new Promise((begun) => worker.once('message', begun));
      await worker.terminate();
      expect((await decode({ sources })).every(({ outcome }) => outcome === DECODED.yes)).toBe(true);
    }
  });
});

describe('what does not go together is refused by name:', () => {
  const request = (images: Tensor): DecodingRequest => ({ images, sources: ['x'], covered: [8, 8], maxPixels: 100 });
  const shaped = (shape: number[], dtype: 'uint8' | 'float32' = 'uint8') => empty(shape, { dtype });

  it.each([
    ['images', 'uint8 [n, height, width, 1 or 3]', () => request(shaped([1, 8, 8, 4]))],
    ['images', 'uint8 [n, height, width, 1 or 3]', () => request(shaped([1, 8, 8, 3], 'float32'))],
    ['images', 'uint8 [n, height, width, 1 or 3]', () => request(shaped([8, 8, 3]))],
    ['images', 'contiguous', () => request(shaped([1, 3, 8, 8]).permute([0, 2, 3, 1]))],
    ['images', 'expected 1 elements, got 2', () => request(shaped([2, 8, 8, 3]))],
    [
      'draws',
      'expected 22 elements, got 21',
      () => ({ ...request(shaped([1, 8, 8, 3])), draws: new Float64Array(21) }),
    ],
    ['draws', 'from 0 to 1', () => ({ ...request(shaped([1, 8, 8, 3])), draws: new Float64Array(22).fill(2) })],
    [
      'draws',
      'from 0 to 1',
      () => ({ ...request(shaped([1, 8, 8, 3])), draws: new Float64Array(22).fill(Number.NaN) }),
    ],
    [
      'mirrored',
      'expected 1 elements, got 2',
      () => ({ ...request(shaped([1, 8, 8, 3])), mirrored: new Uint8Array(2) }),
    ],
    ['ranges', 'expected 2 elements, got 1', () => ({ ...request(shaped([1, 8, 8, 3])), ranges: new Float64Array(1) })],
    ['ranges', 'an offset', () => ({ ...request(shaped([1, 8, 8, 3])), ranges: Float64Array.of(-1, 5) })],
    ['coveredHeight', '1 to 65535', () => ({ ...request(shaped([1, 8, 8, 3])), covered: [0, 8] as const })],
  ])('%s, %s', (name, expected, make) => {
    scope(() => {
      expect(() => decodeImages(make())).toThrow(TensorError);
      expect(() => decodeImages(make())).toThrow(name);
      expect(() => decodeImages(make())).toThrow(expected);
    });
  });

  it('threads out of range', () => {
    for (const count of [0, -1, 1.5, 1025, Number.NaN]) expect(() => setDecodingThreads(count)).toThrow('threads');
  });
});
