// Augmentation of whole batches on the training device. The random draws are made in TypeScript, as a function of
// (seed, layer, epoch, image) alone, so they are the same on every device and whatever is prefetched.
import { arange, chain, type Tensor, tensor } from '../tensor/index.js';
import type { Draws } from './draws.js';
import { DataError } from './errors.js';

/** The draws for one batch: each is a function of the image, not of its position in the batch. */
export interface BatchDraws {
  /** For each image an integer from 0 to bound - 1; `stream` tells independent draws of one image apart. */
  integers(stream: number, bound: number): Int32Array;
}

/** One stream for each value that is drawn for an image; area and ratio have ten each, one per attempt. */
export const STREAM = {
  cropTop: 1,
  cropLeft: 2,
  flip: 3,
  resizedCropTop: 4,
  resizedCropLeft: 5,
  resizedCropArea: 16,
  resizedCropRatio: 32,
} as const;

/** The draws of one epoch for the images of a batch, by their indices in the data set. */
export function batchDraws(draws: Draws, epoch: number, indices: Int32Array): BatchDraws {
  return {
    integers(stream, bound) {
      const out = new Int32Array(indices.length);
      // The one stream whose draws may follow from those of another epoch.
      if (stream === STREAM.flip) return draws.flips(stream, epoch, indices, out);
      return draws.uniformInts(stream, epoch, indices, bound, out);
    },
  };
}

/** For transforms that draw nothing, as in evaluation. */
export const noDraws: BatchDraws = {
  integers() {
    throw new DataError('DATA_ARGUMENT', 'a random transform was used where nothing may be drawn');
  },
};

/** One transform of augmentation: takes and gives [batch, channels, height, width] on one device. */
export interface Transform {
  readonly name: string;
  /** Gives new images, or `images` themselves where there is nothing to do. */
  apply(images: Tensor, draws: BatchDraws): Tensor;
}

/** What lies beyond an image's edge: zeros, or the image mirrored there without its edge pixel (numpy's and torchvision's `reflect`). */
export type PaddingMode = 'zeros' | 'reflect';

export const PADDING_MODES: readonly PaddingMode[] = ['zeros', 'reflect'];

/**
 * Pads by `padding` pixels on every side and crops at a random position to the image's own height x width (torchvision's
 * RandomCrop(size, padding, padding_mode=...)). With `reflect` the images must be larger than the padding: DataError where they are not.
 */
export function randomCrop(options: { padding: number; mode?: PaddingMode }): Transform {
  const { padding, mode = 'zeros' } = options;
  if (!Number.isInteger(padding) || padding < 1) {
    throw new DataError('DATA_ARGUMENT', `randomCrop: expected an integer of at least 1 for padding, got ${padding}`);
  }
  if (!PADDING_MODES.includes(mode)) {
    throw new DataError(
      'DATA_ARGUMENT',
      `randomCrop: expected ${PADDING_MODES.join(' or ')} for mode, got ${String(mode)}`,
    );
  }
  return {
    name: `pad ${padding}${mode === 'zeros' ? '' : ` (${mode})`}, random crop`,
    apply(images, draws) {
      const [batch, , height, width] = images.shape as [number, number, number, number];
      const { device } = images;
      if (mode === 'reflect' && padding >= Math.min(height, width)) {
        throw new DataError(
          'DATA_ARGUMENT',
          `randomCrop: expected images larger than a padding of ${padding} by reflection, got ${height}x${width}`,
        );
      }
      /** Of the crop's pixels along a side, in the padded image. */
      const positions = (stream: number, shape: number[], size: number, along: number[]) =>
        tensor(draws.integers(stream, 2 * padding + 1), { shape, device }).add(arange(size, { device }).reshape(along));
      const rows = positions(STREAM.cropTop, [batch, 1, 1], height, [1, height, 1]);
      const columns = positions(STREAM.cropLeft, [batch, 1, 1], width, [1, 1, width]);
      const each = arange(batch, { device }).reshape([batch, 1, 1]);
      const [source, ys, xs] =
        mode === 'zeros'
          ? [images.pad([padding, padding, padding, padding]), rows, columns]
          : [images, reflected(rows.sub(padding), height), reflected(columns.sub(padding), width)];
      // Indexing [batch, height, width] first gathers whole pixels: the result lies channels-last.
      return source.permute([0, 2, 3, 1]).index([each, ys, xs]).permute([0, 3, 1, 2]);
    },
  };
}

/** Positions beyond either end of `size` pixels, mirrored at the end's pixel. */
const reflected = (positions: Tensor, size: number): Tensor =>
  positions
    .abs()
    .neg()
    .add(size - 1)
    .abs()
    .neg()
    .add(size - 1);

/** For each image 1 where `randomHorizontalFlip` mirrors it, else 0. */
export const drawFlips = (draws: BatchDraws): Uint8Array => Uint8Array.from(draws.integers(STREAM.flip, 2));

/** Mirrors each image left to right with probability 1/2. */
export function randomHorizontalFlip(): Transform {
  return {
    name: 'random horizontal flip',
    apply(images, draws) {
      const batch = images.shape[0]!;
      const flipped = tensor(drawFlips(draws), {
        shape: [batch, 1, 1, 1],
        dtype: 'bool',
        device: images.device,
      });
      return flipped.where(images.flip([3]), images);
    },
  };
}

/** uint8 0..255 to float32 (value / 255 - mean) / std, channel by channel; the result lies channels-last. */
export function normalize(options: { mean: readonly number[]; std: readonly number[] }): Transform {
  const { mean, std } = options;
  const scale = std.map((s) => 1 / (255 * s));
  const shift = mean.map((m, c) => -m / std[c]!);
  return {
    name: 'normalize',
    apply(images) {
      const perChannel = (values: number[]) =>
        tensor(Float32Array.from(values), { shape: [1, values.length, 1, 1], device: images.device });
      const channelsLast = images.to({ dtype: 'float32' }).contiguous({ memoryFormat: 'channelsLast' });
      return channelsLast.mul(perChannel(scale)).add(perChannel(shift));
    },
  };
}

/**
 * Applies transforms in order to images [batch, channels, height, width]; what lies between two is freed as soon as it can
 * be. Throws DataError (DATA_ARGUMENT) where a random transform is given `noDraws`.
 */
export function applyTransforms(transforms: readonly Transform[], images: Tensor, draws: BatchDraws): Tensor {
  return chain(
    images,
    transforms.map((transform) => (batch) => transform.apply(batch, draws)),
  );
}
