// How fast images come from their files, found by reading some.
import { type DatasetPart, Draws, isImageFiles, openImages } from '../data/index.js';
import { epochOrder } from '../features/index.js';
import { decoderMirrors, type Recipe } from '../recipe/index.js';
import { decodingThreads, findTurboJpeg } from '../tensor/index.js';

/** The rate of training images, read and decoded while nothing else computes. */
export interface ImageRate {
  readonly imagesPerSecond: number;
  /** Images that were read to find it, some of them several times where there are few. */
  readonly imagesTimed: number;
  /** Whether they lie in shards, and are not files of their own. */
  readonly arePacked: boolean;
  /** Threads that decode JPEG files; null where there is no TurboJPEG, and Node's pool decodes. */
  readonly threads: number | null;
}

const SECONDS = 3;
const BATCH = 64;
/** More than are read in time. */
const MOST_IMAGES = BATCH * 16_384;

/**
 * Reads training images as the first epoch will, for some seconds. Null where they are not image files. Throws DataError as the
 * training would.
 */
export async function measureImageRate(part: DatasetPart, recipe: Recipe): Promise<ImageRate | null> {
  if (!isImageFiles(part)) return null;
  const { randomResizedCrop } = recipe.augmentation;
  const first = epochOrder(recipe, 0, 0, part.count);
  const horizontalFlip = decoderMirrors(recipe, part);
  const images = openImages(part, { device: 'cpu', randomResizedCrop, horizontalFlip });
  try {
    const pass = images.trainingBatches({
      ...{ epoch: 0, batchSize: BATCH, firstStep: 0, draws: new Draws({ seed: recipe.seed, layer: 0 }) },
      order: Int32Array.from({ length: MOST_IMAGES }, (_, i) => first[i % first.length]!),
    });
    let [start, end] = [0, 0];
    let timed = -1;
    for await (const { indices } of pass) {
      end = performance.now();
      // The first batch opens what the others use.
      if (timed < 0) [start, timed] = [end, 0];
      else timed += indices.length;
      if (timed > 0 && end - start > 1000 * SECONDS) break;
    }
    return {
      imagesPerSecond: (1000 * timed) / (end - start),
      imagesTimed: timed,
      arePacked: part.packed !== undefined,
      threads: findTurboJpeg() === null ? null : decodingThreads(),
    };
  } finally {
    images.dispose();
  }
}
