import { FILE_CHANNELS, type FileShape, type ImageSize, type ReadImageOptions } from '../data/index.js';
import { RunDirectoryError } from '../run/index.js';
import type { TrainedRun } from './trained-run.js';

/**
 * What image files are made into for a run's network. Throws RunDirectoryError for a run on vectors, and on images of channels that
 * files cannot be made.
 */
export function imageShapeOf(run: Pick<TrainedRun, 'runDirectory' | 'network'>): FileShape {
  const shape = fileShapeOf(run);
  if (shape !== null) return shape;
  const { inputShape } = run.network;
  const got = inputShape.length === 1 ? 'vectors' : `images of ${inputShape.join(' x ')}`;
  throw new RunDirectoryError(
    `${run.runDirectory}: expected a run on images of 1 or 3 channels, which files are made into, got one on ${got}`,
  );
}

/** How `readImage` makes an image file what a run's network sees, as its test images were made. */
export interface ImageReading {
  readonly size: ImageSize;
  readonly options: ReadImageOptions;
}

/** Throws as `imageShapeOf`. */
export function imageReadingOf(run: Pick<TrainedRun, 'runDirectory' | 'network' | 'recipe'>): ImageReading {
  const { channels, height, width } = imageShapeOf(run);
  const { testResize, maxPixels } = run.recipe.dataset;
  return {
    size: [height, width],
    options: { channels, resize: testResize ?? undefined, maxPixels: maxPixels ?? undefined },
  };
}

/** `imageShapeOf`; null for a run that reads no image files. */
export function fileShapeOf({ network }: Pick<TrainedRun, 'network'>): FileShape | null {
  const [given, height, width] = network.inputShape;
  const channels = FILE_CHANNELS.find((count) => count === given);
  return channels === undefined || height === undefined || width === undefined ? null : { channels, height, width };
}
