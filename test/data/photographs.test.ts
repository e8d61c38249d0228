// Photographs, decoded and scaled by the addon, beside Pillow with torchvision's Resize and CenterCrop, and its crop and resize of the
// same box.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { Draws } from '../../lib/data/draws.js';
import { drawResizedCrop, resizedCropDraws } from '../../lib/data/resized-crop.js';
import {
  DECODED,
  type DecodingRequest,
  decodeImages,
  empty,
  findTurboJpeg,
  keep,
  scope,
} from '../../lib/tensor/index.js';
import { pythonCommand, pythonLacks } from '../support/python.js';

const SIDE = 224;
const LENGTH = SIDE * SIDE * 3;
/** Mean of the absolute differences of an image, of 255. */
const MOST = 2;

const folder = process.env.LAYERWISE_TEST_PHOTOGRAPHS ?? '';
const lacking =
  folder === ''
    ? 'LAYERWISE_TEST_PHOTOGRAPHS names no folder of them'
    : findTurboJpeg() === null
      ? 'there is no TurboJPEG'
      : pythonLacks('PIL, numpy');
if (lacking !== null) console.warn(`Photographs are not compared with Pillow's: ${lacking}`);
const canRun = lacking === null;
const hasPyTorch = canRun && pythonLacks('torch') === null;

/** Gives [n, 224, 224, 3]; a box is left, top, right, bottom. */
const PILLOW = `
import json, sys, numpy
from PIL import Image
for path, box in json.load(sys.stdin):
    image = Image.open(path).convert("RGB")
    if box is None:
        w, h = image.size
        size = (256, int(256 * h / w)) if w < h else (int(256 * w / h), 256)
        left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
        shown = image.resize(size, Image.BILINEAR).crop((left, top, left + 224, top + 224))
    else:
        shown = image.crop(box).resize((224, 224), Image.BILINEAR)
    sys.stdout.buffer.write(numpy.asarray(shown).tobytes())
`;

/** The same by PyTorch's operator, which scales whole images of bytes: torchvision's transforms of tensors. */
const PYTORCH = `
import json, sys, numpy, torch
from PIL import Image
torch.set_num_threads(1)
def scale(pixels, height, width):
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    scaled = torch.nn.functional.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return scaled[0].permute(1, 2, 0).numpy()
for path, box in json.load(sys.stdin):
    pixels = numpy.asarray(Image.open(path).convert("RGB"))
    if box is None:
        h, w = pixels.shape[:2]
        height, width = (int(256 * h / w), 256) if w < h else (256, int(256 * w / h))
        top, left = round((height - 224) / 2), round((width - 224) / 2)
        shown = scale(pixels, height, width)[top : top + 224, left : left + 224]
    else:
        shown = scale(pixels[box[1] : box[3], box[0] : box[2]], 224, 224)
    sys.stdout.buffer.write(numpy.ascontiguousarray(shown).tobytes())
`;

type Shown = readonly (readonly [path: string, box: readonly number[] | null])[];

function byPython(program: string, shown: Shown): Uint8Array {
  const input = JSON.stringify(shown);
  return execFileSync(pythonCommand, ['-c', program], { input, maxBuffer: 2 * shown.length * LENGTH });
}

const pillow = (shown: Shown): Uint8Array => byPython(PILLOW, shown);

type How = Pick<DecodingRequest, 'draws' | 'mayReduce'>;

async function decoded(sources: readonly string[], how: How = {}): Promise<Uint8Array> {
  const images = scope(() => keep(empty([sources.length, SIDE, SIDE, 3], { dtype: 'uint8' })));
  const outcomes = await decodeImages({ images, sources, covered: [256, 256], maxPixels: 1e9, ...how }).done;
  expect(outcomes.every((outcome) => outcome === DECODED.yes)).toBe(true);
  const pixels = images.toTypedArray() as Uint8Array;
  images.dispose();
  return pixels;
}

/** Of each image. */
function differences(a: Uint8Array, b: Uint8Array): number[] {
  expect(a.length).toBe(b.length);
  return Array.from({ length: a.length / LENGTH }, (_, image) => {
    let sum = 0;
    for (let i = image * LENGTH; i < (image + 1) * LENGTH; i++) sum += Math.abs(a[i]! - b[i]!);
    return sum / LENGTH;
  });
}

const mostOf = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

/** From all pixels: sums are rounded after the rows and after the columns, and weights to fewer bits than Pillow's. */
function expectRounding(ours: Uint8Array, theirs: Uint8Array): void {
  expect(mostOf(ours, theirs)).toBeLessThanOrEqual(2);
  expect(Math.max(...differences(ours, theirs))).toBeLessThan(0.1);
}

/** Writes an image of smooth noise in many ways of JPEG, at odd sizes, to a folder. */
const MAKE = `
import sys, numpy
from PIL import Image
folder = sys.argv[1]
draw = numpy.random.default_rng(1)
for width, height in ((97, 61), (33, 130), (259, 17), (640, 479)):
    small = Image.fromarray(draw.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=numpy.uint8))
    image = small.resize((width, height), Image.BICUBIC)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for name, options in (("plain", {}), ("progressive", {"progressive": True}),
                              ("blocks", {"restart_marker_blocks": 3}), ("rows", {"restart_marker_rows": 1})):
            path = f"{folder}/{width}x{height}-{subsampling.replace(':', '')}-{name}.jpg"
            image.save(path, quality=85, subsampling=subsampling, **options)
`;

const lackingPillow = pythonLacks('PIL, numpy');
describe.runIf(lackingPillow === null && findTurboJpeg() !== null)('files that Pillow writes', () => {
  it('with every subsampling, progressive, with restart markers, are those that Pillow reads', async () => {
    const made = await mkdtemp(join(tmpdir(), 'layerwise-pillow-'));
    try {
      execFileSync(pythonCommand, ['-c', MAKE, made]);
      const files = readdirSync(made).map((name) => join(made, name));
      expect(files).toHaveLength(48);
      const draws = new Draws({ seed: 3, layer: 0 });
      const boxes = files.map((file, i) => {
        const [, width, height] = /(\d+)x(\d+)-/.exec(file)!.map(Number);
        const { left, top, ...size } = drawResizedCrop(draws, 0, i, width!, height!);
        return [left, top, left + size.width, top + size.height];
      });
      const theirs = pillow(files.map((file, i) => [file, boxes[i]!]));
      const ours = await decoded(files, { draws: resizedCropDraws(draws, 0, Int32Array.from(files.keys())) });
      const found = differences(ours, theirs);
      expect(Math.max(...found), files[found.indexOf(Math.max(...found))]).toBeLessThan(0.2);
    } finally {
      await rm(made, { recursive: true });
    }
  });
});

const files = canRun
  ? readdirSync(folder).flatMap((name) => readdirSync(join(folder, name)).map((file) => join(folder, name, file)))
  : [];
const draws = new Draws({ seed: 7, layer: 0 });

async function cropsOf(epoch: number): Promise<{ shown: Shown; numbers: Float64Array }> {
  const shown = files.map(async (file, i) => {
    const { width, height } = (await sharp(file).metadata()).autoOrient;
    const crop = drawResizedCrop(draws, epoch, i, width, height);
    return [file, [crop.left, crop.top, crop.left + crop.width, crop.top + crop.height]] as const;
  });
  return { shown: await Promise.all(shown), numbers: resizedCropDraws(draws, epoch, Int32Array.from(files.keys())) };
}

describe.runIf(canRun)('each photograph is that of Pillow', () => {
  it('in evaluation', async () => {
    const theirs = pillow(files.map((path) => [path, null]));
    const found = differences(await decoded(files), theirs);
    expect(files.length).toBeGreaterThan(100);
    expect(Math.max(...found), files[found.indexOf(Math.max(...found))]).toBeLessThan(MOST);
    // Most are decoded at their own size: there is nothing but rounding.
    expect(found.filter((difference) => difference < 0.1).length).toBeGreaterThan(0.9 * files.length);
    expectRounding(await decoded(files, { mayReduce: false }), theirs);
  });

  it('in training, of several epochs', async () => {
    for (const epoch of [0, 1, 2]) {
      const { shown, numbers } = await cropsOf(epoch);
      const theirs = pillow(shown);
      const found = differences(await decoded(files, { draws: numbers }), theirs);
      expect(Math.max(...found), files[found.indexOf(Math.max(...found))]).toBeLessThan(MOST);
      expectRounding(await decoded(files, { draws: numbers, mayReduce: false }), theirs);
    }
  });
});

describe.runIf(hasPyTorch)('each photograph, from all its pixels, is that of PyTorch', () => {
  it('in evaluation, but for where a sum lies between two integers', async () => {
    const ours = await decoded(files, { mayReduce: false });
    const theirs = byPython(
      PYTORCH,
      files.map((path) => [path, null]),
    );
    expect(mostOf(ours, theirs)).toBeLessThanOrEqual(1);
    expect(ours.filter((value, i) => value !== theirs[i]).length).toBeLessThan(ours.length / 5000);
  });

  it('in training, to the bit', async () => {
    const { shown, numbers } = await cropsOf(3);
    const ours = await decoded(files, { draws: numbers, mayReduce: false });
    expect(mostOf(ours, byPython(PYTORCH, shown))).toBe(0);
  });
});
