// Image files for tests, made by sharp.
import { link, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import sharp, { type Sharp } from 'sharp';

export interface Picture {
  width?: number;
  height?: number;
  colour: { r: number; g: number; b: number };
}

export const plain = ({ width = 40, height = 40, colour }: Picture): Sharp =>
  sharp({ create: { width, height, channels: 3, background: colour } });

/** Red rises by `step` a pixel to the right, green downwards, blue is `blue`: a pixel says where it comes from. */
export function gradient(width: number, height: number, { step = 0.5, blue = 0 } = {}): Sharp {
  const pixels = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) pixels.set([x * step, y * step, blue], 3 * (y * width + x));
  }
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

/** An image as a camera that was turned stores it: upright only after its EXIF orientation was applied. */
export async function turned(upright: Sharp, orientation: 1 | 3 | 6 | 8): Promise<Sharp> {
  const degrees = { 1: 0, 3: 180, 6: 270, 8: 90 }[orientation];
  const stored = await upright.rotate(degrees).png().toBuffer();
  return sharp(stored).withMetadata({ orientation }).jpeg({ quality: 100, chromaSubsampling: '4:4:4' });
}

/** Luma of ITU-R BT.601 of pixels [n, 3]. */
export const greyOf = (pixels: Uint8Array): Uint8Array =>
  Uint8Array.from({ length: pixels.length / 3 }, (_, i) =>
    Math.round(0.299 * pixels[3 * i]! + 0.587 * pixels[3 * i + 1]! + 0.114 * pixels[3 * i + 2]!),
  );

/** Writes an image under `dir`, making its folder; gives its path. */
export async function save(dir: string, path: string, image: Sharp): Promise<string> {
  const file = join(dir, path);
  await mkdir(dirname(file), { recursive: true });
  await image.toFile(file);
  return file;
}

/** A folder of two classes that takes some minutes to read, though it is small: each image is one large file, by its links. */
export async function endlessFolder(dir: string): Promise<string> {
  const large = await save(dir, 'large.png', plain({ width: 4000, height: 3000, colour: { r: 200, g: 100, b: 0 } }));
  for (const part of ['train', 'test']) {
    for (const name of ['a', 'b']) {
      await mkdir(join(dir, part, name), { recursive: true });
      for (let i = 0; i < 1_500; i++) await link(large, join(dir, part, name, `${i}.png`));
    }
  }
  return dir;
}
