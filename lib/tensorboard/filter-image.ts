import sharp from 'sharp';
import { noGrad, scope, type Tensor } from '../tensor/index.js';
import type { SummaryValue } from './event-file.js';

/** Pixels of a side of one weight, and between two filters. */
const ENLARGEMENT = 8;
const GAP = 2;

/**
 * The filters of a convolution, [outChannels, inChannels, height, width], as one picture: in colour where they read 3 channels, else
 * the mean over the channels in grey. The lowest weight of all is black, the highest white.
 */
export async function filterImage(tag: string, weight: Tensor): Promise<SummaryValue> {
  const { shape, values } = filtersOf(weight);
  const [count, channels, height, width] = shape;
  const columns = Math.ceil(Math.sqrt(count));
  const cell = [height * ENLARGEMENT + GAP, width * ENLARGEMENT + GAP] as const;
  const size = { height: Math.ceil(count / columns) * cell[0] + GAP, width: columns * cell[1] + GAP };
  const pixels = new Uint8Array(size.height * size.width * 3).fill(127);
  for (let filter = 0; filter < count; filter++) {
    const [top, left] = [Math.floor(filter / columns) * cell[0] + GAP, (filter % columns) * cell[1] + GAP];
    for (let y = 0; y < height * ENLARGEMENT; y++) {
      for (let x = 0; x < width * ENLARGEMENT; x++) {
        const [row, column] = [Math.floor(y / ENLARGEMENT), Math.floor(x / ENLARGEMENT)];
        for (let colour = 0; colour < 3; colour++) {
          const channel = channels === 3 ? colour : 0;
          pixels[((top + y) * size.width + left + x) * 3 + colour] =
            values[((filter * channels + channel) * height + row) * width + column]!;
        }
      }
    }
  }
  const png = await sharp(pixels, { raw: { ...size, channels: 3 } })
    .png()
    .toBuffer();
  return { tag, png, ...size };
}

/** Weights as 0 to 255, row-major [count, 3 or 1, height, width]. */
function filtersOf(weight: Tensor): { shape: [number, number, number, number]; values: ArrayLike<number> } {
  return noGrad(() =>
    scope(() => {
      const float = weight.detach().to({ dtype: 'float32' });
      const filters = float.shape[1] === 3 ? float : float.mean({ dims: [1], keepDim: true });
      const data = filters.toTypedArray() as Float32Array;
      let [lowest, highest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (const value of data) [lowest, highest] = [Math.min(lowest, value), Math.max(highest, value)];
      const scale = highest > lowest ? 255 / (highest - lowest) : 0;
      const values = Uint8Array.from(data, (value) => Math.round((value - lowest) * scale));
      return { shape: [...filters.shape] as [number, number, number, number], values };
    }),
  );
}
