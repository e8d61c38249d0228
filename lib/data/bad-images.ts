import { shown } from '../format.js';
import { DataError } from './errors.js';
import { type BadImageOptions, type ListedImages, pathOf } from './labelled-images.js';

/** Images of a part that others may stand in for, of 100. */
export const MOST_PERCENT = 1;

type Files = ListedImages & BadImageOptions;

export interface ReadableImagesOptions {
  /** What to do about a bad image, for its error's message. */
  readonly advice?: string;
  /** Images by index that were found bad before. */
  readonly known?: Iterable<number>;
}

/**
 * Reads the images of a part by index. With `onBadImage: 'skip'` the next image of the same class, in the order of the
 * list and beginning again at its end, stands in for one whose contents cannot be used. So what an index gives depends on
 * the files alone, not on what was read before: counts, order and labels stay, and a resumed run has the same images.
 *
 * A file that cannot be opened or read (missing, not permitted, a fault of the disk) fails with 'skip' too: that is no property
 * of the image, and may change.
 */
export class ReadableImages {
  readonly #files: Files;
  readonly #advice: string;
  readonly #bad: Set<number>;

  constructor(files: Files, options: ReadableImagesOptions = {}) {
    const { advice = files.packed === undefined ? ADVICE : ADVICE_OF_SHARDS, known = [] } = options;
    this.#files = files;
    this.#advice = advice;
    this.#bad = new Set(known);
  }

  /**
   * The result of `decode` for the image, or for the one that stands in for it, by its path and index. Throws `DataError`: that of `decode`, and
   * DATA_CORRUPT where more than 1 % of the part, or all images of a class, cannot be used.
   */
  async read<T>(index: number, decode: (path: string, at: number) => Promise<T>): Promise<T> {
    const skip = this.#files.onBadImage === 'skip';
    let at = index;
    do {
      try {
        return await decode(pathOf(this.#files, at), at);
      } catch (error) {
        if (!isBadImage(error)) throw error;
        if (!skip) throw withAdvice(error, this.#advice);
        this.#note(at, error);
      }
      at = nextOfClass(this.#files.labels, at);
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
}

/** The next image of the same class, in the order of the list and beginning again at its end. */
export function nextOfClass(labels: ArrayLike<number>, index: number): number {
  let next = index;
  do next = (next + 1) % labels.length;
  while (labels[next] !== labels[index]);
  return next;
}

/** Whether the contents of the file are at fault. */
export function isBadImage(error: unknown): error is DataError {
  return error instanceof DataError && (error.code === 'DATA_CORRUPT' || error.code === 'DATA_UNSUPPORTED');
}

const ADVICE =
  'put a good file in its place and go on (--resume DIR --accept-changed-data), or skip such files (--on-bad-image skip)';
const ADVICE_OF_SHARDS =
  'prepare the data anew (layerwise data check lists what is damaged), or skip such images (--on-bad-image skip)';

function withAdvice(error: DataError, advice: string): DataError {
  const path = error.path === null ? {} : { path: error.path };
  return new DataError(error.code, `${error.message}; ${advice}`, { cause: error, ...path });
}
