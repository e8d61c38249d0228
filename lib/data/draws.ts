import { DataError } from './errors.js';
import { KEY_DOMAIN, multiplyHigh, philox4x32, seedWords } from './philox.js';

/** The stream that orders the images; transforms use the ones below it. */
const PERMUTATION_STREAM = 0xffffffff;
const WORDS_PER_BLOCK = 4;

/** What draws depend on besides epoch, image and stream. */
export interface DrawsOptions {
  /** Any integer from 0 to 2^53 - 1. */
  readonly seed: number;
  /** The layer being trained, from 0. Left out, every layer draws the same: the same order and the same views. */
  readonly layer?: number;
  /** Whether `flips` are drawn once for each image, and alternate from epoch to epoch. Default: drawn anew in each epoch. */
  readonly alternatingFlips?: boolean;
}

/**
 * The random draws of shuffling and augmentation: each a pure function of (seed, layer, epoch, image, stream), so that
 * they depend neither on the batch an image is in, nor on what was drawn before, nor on the device.
 *
 * Philox4x32-10 with the seed as key and (image, epoch, layer, stream) as counter.
 */
export class Draws {
  readonly #key0: number;
  readonly #key1: number;
  /** 0 where the layer is left out, so that layer 0 differs from that. */
  readonly #layerWord: number;
  readonly #alternatingFlips: boolean;
  readonly #block = new Uint32Array(WORDS_PER_BLOCK);

  /** Throws `DataError` (DATA_ARGUMENT) for a seed or a layer that is not an integer from 0. */
  constructor({ seed, layer, alternatingFlips = false }: DrawsOptions) {
    const { low, high } = seedWords(seed);
    if (layer !== undefined) requireWord('layer', layer, 0xfffffffe);
    this.#key0 = low;
    this.#key1 = high | KEY_DOMAIN.draws;
    this.#layerWord = layer === undefined ? 0 : layer + 1;
    this.#alternatingFlips = alternatingFlips;
  }

  /**
   * For each image an integer from 0 to `bound - 1`, into `out` [images.length]. Uniform by Lemire's multiply-shift with
   * rejection ("Fast Random Integer Generation in an Interval", 2019); the fourth word of a block is taken without
   * rejection, which biases by less than (bound / 2^32)^4.
   */
  uniformInts(
    stream: number,
    epoch: number,
    images: Int32Array | Uint32Array,
    bound: number,
    out: Int32Array,
  ): Int32Array {
    requireWord('bound', bound, 0x80000000, 1);
    this.#forEachImage(stream, epoch, images, out.length, (at) => {
      let word = 0;
      while (word < WORDS_PER_BLOCK - 1 && isRejected(this.#block[word]!, bound)) word++;
      out[at] = multiplyHigh(this.#block[word]!, bound);
    });
    return out;
  }

  /**
   * For each image 1 or 0, each for half of them, into `out` [images.length]: where they alternate, an image that has one in an epoch
   * has the other in the next (Jordan, arXiv 2404.00498, section 3.6), so that two epochs show both.
   */
  flips(stream: number, epoch: number, images: Int32Array | Uint32Array, out: Int32Array): Int32Array {
    if (!this.#alternatingFlips) return this.uniformInts(stream, epoch, images, 2, out);
    this.uniformInts(stream, 0, images, 2, out);
    if (epoch % 2 === 1) for (const [i, flip] of out.entries()) out[i] = 1 - flip;
    return out;
  }

  /** For each image a multiple of 2^-24 in [0, 1), exact in float32, into `out` [images.length]. */
  uniforms<Out extends Float32Array | Float64Array>(
    stream: number,
    epoch: number,
    images: Int32Array | Uint32Array,
    out: Out,
  ): Out {
    this.#forEachImage(stream, epoch, images, out.length, (at) => {
      out[at] = (this.#block[0]! >>> 8) * 2 ** -24;
    });
    return out;
  }

  /** For each image 1 with the given probability (rounded to a multiple of 2^-32), else 0, into `out` [images.length]. */
  bernoulli(
    stream: number,
    epoch: number,
    images: Int32Array | Uint32Array,
    probability: number,
    out: Uint8Array,
  ): Uint8Array {
    if (!(probability >= 0 && probability <= 1)) {
      throw new DataError('DATA_ARGUMENT', `probability must be from 0 to 1, got ${probability}`);
    }
    const below = Math.round(probability * 2 ** 32);
    this.#forEachImage(stream, epoch, images, out.length, (at) => {
      out[at] = this.#block[0]! < below ? 1 : 0;
    });
    return out;
  }

  /** The order of `n` images in an epoch, every order equally likely (Fisher-Yates, Lemire's integers with rejection): [n]. */
  permutation(epoch: number, n: number): Int32Array {
    requireWord('epoch', epoch);
    requireWord('n', n, 0x7fffffff);
    const order = new Int32Array(n).map((_, i) => i);
    let next = WORDS_PER_BLOCK;
    let block = 0;
    const word = () => {
      if (next === WORDS_PER_BLOCK) {
        this.#fill(block++, epoch, PERMUTATION_STREAM);
        next = 0;
      }
      return this.#block[next++]!;
    };
    for (let last = n - 1; last > 0; last--) {
      const bound = last + 1;
      let drawn = word();
      while (isRejected(drawn, bound)) drawn = word();
      const chosen = multiplyHigh(drawn, bound);
      const moved = order[last]!;
      order[last] = order[chosen]!;
      order[chosen] = moved;
    }
    return order;
  }

  #forEachImage(
    stream: number,
    epoch: number,
    images: Int32Array | Uint32Array,
    outLength: number,
    use: (at: number) => void,
  ): void {
    requireWord('stream', stream, PERMUTATION_STREAM - 1);
    requireWord('epoch', epoch);
    if (outLength !== images.length) {
      throw new DataError(
        'DATA_ARGUMENT',
        `out: expected ${images.length} elements, one for each image, got ${outLength}`,
      );
    }
    for (let at = 0; at < images.length; at++) {
      this.#fill(images[at]!, epoch, stream);
      use(at);
    }
  }

  #fill(image: number, epoch: number, stream: number): void {
    philox4x32(image, epoch, this.#layerWord, stream, this.#key0, this.#key1, this.#block);
  }
}

/**
 * The seed, an integer from 0 to 2^53 - 1, of what a process draws in a step of its own generator, such as dropout's masks: a pure
 * function, so that nothing of it need be kept. Philox4x32-10 with the seed as key and (rank, step, epoch, layer) as counter.
 */
export function stepSeed(position: { seed: number; layer: number; epoch: number; step: number; rank: number }): number {
  const { low, high } = seedWords(position.seed);
  const words = new Uint32Array(WORDS_PER_BLOCK);
  const { rank, step, epoch, layer } = position;
  philox4x32(rank, step, epoch, layer, low, high | KEY_DOMAIN.steps, words);
  return (words[0]! & 0x1fffff) * 2 ** 32 + words[1]!;
}

/** Lemire's method refuses the 2^32 mod bound smallest low words of the product; the division is needed only near them. */
function isRejected(word: number, bound: number): boolean {
  const low = Math.imul(word, bound) >>> 0;
  return low < bound && low < 2 ** 32 % bound;
}

function requireWord(name: string, value: number, max = 0xffffffff, min = 0): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new DataError('DATA_ARGUMENT', `${name} must be an integer from ${min} to ${max}, got ${value}`);
  }
}
