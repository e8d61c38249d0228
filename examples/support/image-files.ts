// The embedded data set as JPEG files in ImageNet's layout, for examples that read files while they train.
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadDataset } from 'layerwise';
import sharp from 'sharp';

const SIDE = 32;
/** Sizes of the files: not square, and larger than what is cut out of them. */
const FILE_SIZES = [
  [96, 80],
  [80, 96],
  [88, 88],
] as const;

/** Writes the first images of `shapes` as train/CLASS/N.jpeg and val/CLASS/N.jpeg, once; returns the directory. */
export async function writeShapesAsFiles(directory: string, counts: { train: number; test: number }): Promise<string> {
  if (existsSync(directory)) return directory;
  const partial = `${directory}.partial`;
  await rm(partial, { recursive: true, force: true });
  const dataset = await loadDataset({ name: 'shapes', trainLimit: counts.train, testLimit: counts.test });
  for (const [part, folder] of [
    [dataset.train, 'train'],
    [dataset.test, 'val'],
  ] as const) {
    if (!('images' in part)) throw new Error('shapes is expected in memory');
    for (const name of dataset.classes) await mkdir(join(partial, folder, name), { recursive: true });
    for (let i = 0; i < part.count; i++) {
      const pixels = part.images.subarray(i * 3 * SIDE ** 2, (i + 1) * 3 * SIDE ** 2);
      const [width, height] = FILE_SIZES[i % FILE_SIZES.length]!;
      await sharp(interleaved(pixels), { raw: { width: SIDE, height: SIDE, channels: 3 } })
        .resize(width, height, { fit: 'fill', kernel: 'cubic' })
        .jpeg({ quality: 90 })
        .toFile(join(partial, folder, dataset.classes[part.labels[i]!]!, `${String(i).padStart(6, '0')}.jpeg`));
    }
  }
  await rename(partial, directory);
  return directory;
}

/** [3, SIDE, SIDE] to [SIDE, SIDE, 3]. */
function interleaved(planes: Uint8Array): Uint8Array {
  const pixels = new Uint8Array(planes.length);
  const area = SIDE ** 2;
  for (let at = 0; at < area; at++) {
    for (let channel = 0; channel < 3; channel++) pixels[3 * at + channel] = planes[channel * area + at]!;
  }
  return pixels;
}
