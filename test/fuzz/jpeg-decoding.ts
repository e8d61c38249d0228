// JPEG images as the addon's own threads decode them.
import { Draws } from '../../lib/data/draws.js';
import { resizedCropDraws } from '../../lib/data/resized-crop.js';
import { DECODED, decodeImages, empty, findTurboJpeg, keep, scope } from '../../lib/tensor/index.js';
import { Choices } from './choices.js';
import type { FuzzedFormat } from './format.js';
import { mutation } from './format.js';
import type { Case, Fuzzed } from './fuzzed.js';
import { jpeg } from './images.js';

/** Without it a file counts as cut short. */
const END = Buffer.of(0xff, 0xd9);

/** Sizes that are shown, smaller and larger than the images. */
const SIDES = [1, 2, 5, 16, 33, 128];

async function decodeAll(damaged: Uint8Array, choices: Choices): Promise<void> {
  const [height, width] = [choices.of(SIDES), choices.of(SIDES)];
  const channels = choices.of([1, 3]);
  const sources = [damaged, Buffer.concat([damaged, END])];
  const drawn = resizedCropDraws(new Draws({ seed: choices.below(1000) }), 0, Int32Array.of(0, 1));
  for (const draws of [new Float64Array(), drawn]) {
    const images = scope(() => keep(empty([2, height, width, channels], { dtype: 'uint8' })));
    try {
      const covered = [height + choices.below(9), width + choices.below(9)] as const;
      const outcomes = await decodeImages({ images, sources, draws, covered, maxPixels: 1e7 }).done;
      for (const outcome of outcomes) {
        if (outcome !== DECODED.yes && outcome !== DECODED.no) throw new Error(`an image became ${outcome}`);
      }
    } finally {
      images.dispose();
    }
  }
}

/** Each case has its damage, and shows the image in its own way. */
export function decodedJpeg({ seeds }: FuzzedFormat = jpeg): Fuzzed {
  let good: Promise<readonly Uint8Array[]> | undefined;
  return {
    name: 'jpeg-decoding',
    async runCase(position: Case) {
      if (findTurboJpeg() === null) return;
      good ??= seeds();
      await decodeAll(mutation(await good, position), new Choices({ ...position, seed: position.seed + 1 }));
    },
  };
}
