import { shown } from '../format.js';
import { DataError } from './errors.js';
import { type BadImageOptions, type ImageFiles, pathOf } from './labelled-images.js';

/** Images of a part that may be replaced, of 100. */
const MOST_PERCENT = 1;

type Files = Pick<ImageFiles, 'root' | 'folders' | 'names' | 'labels' | 'count' | keyof BadImageOptions>;

/**
 * Reads the images of a part by index. With `onBadImage: 'skip'` the next image of the same class, in the order of the
 * list and beginning again at its end, stands in for one whose contents cannot be used. So what an index gives depends on
 * the files alone, not on what was read before: counts, order and labels stay, and a resumed run has the same images.
 *
 * A file that the system does not give (missing, not permitted, a fault of the disk) fails with 'skip' too: that is no
 * property of the image, and may be another in an hour.
 */
export class ReadableImages {
  readonly #files: Files;
  readonly #bad = new Set<number>();

  constructor(files: Files) {
    this.#files = files;
  }

  /**
   * What `decode` makes of the image, or of the one that stands in for it. Throws `DataError`: what `decode` threw, and
   * DATA_CORRUPT where more than 1 % of the part, or all images of a class, cannot be used.
   */
  async read<T>(index: number, decode: (path: string) => Promise<T>): Promise<T> {
    const skip = this.#files.onBadImage === 'skip';
    let at = index;
    do {
      try {
        return await decode(pathOf(this.#files, at));
      } catch (error) {
        if (!isBadImage(error)) throw error;
        if (!skip) throw withAdvice(error);
        this.#note(at, error);
      }
      at = this.#nextOfClass(at);
    } while (at !== index);
    throw new DataError('DATA_CORRUPT', `no image of the class of ${shown(pathOf(this.#files, index))} can be used`);
  }

  #note(index: number, error: DataError): void {
    if (this.#bad.has(index)) return;
    this.#bad.add(index);
    const { root, count, reportBadImage } = this.#files;
    const path = pathOf(this.#files, index);
    if (100 * this.#bad.size > MOST_PERCENT * count) {
      throw new DataError(
        'DATA_CORRUPT',
        `${this.#bad.size} of the ${count} images in ${shown(root)} cannot be used, and at most ${MOST_PERCENT} % may be skipped; ` +
          `the last: ${error.message} (layerwise data check lists them all)`,
        { cause: error },
      );
    }
    reportBadImage?.({ path, reason: error.message });
  }

  #nextOfClass(index: number): number {
    const { labels, count } = this.#files;
    let next = index;
    do next = (next + 1) % count;
    while (labels[next] !== labels[index]);
    return next;
  }
}

/** Whether the contents of the file are at fault. */
function isBadImage(error: unknown): error is DataError {
  return error instanceof DataError && (error.code === 'DATA_CORRUPT' || error.code === 'DATA_UNSUPPORTED');
}

function withAdvice(error: DataError): DataError {
  return new DataError(
    error.code,
    `${error.message}; put a good file in its place and go on (--resume DIR --accept-changed-data), or skip such files (--on-bad-image skip)`,
    { cause: error, ...(error.path === null ? {} : { path: error.path }) },
  );
}
