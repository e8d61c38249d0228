// JPEG images, decoded and scaled into the memory of a tensor by threads of the addon's own.
import { usableProcessors } from '#scripts/support/limits.mjs';
import { jpegScaling, type TurboJpegCandidate, turboJpegCandidates } from '#scripts/support/turbojpeg.mjs';
import { TensorError } from './errors.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

/** What becomes of an image. */
export const DECODED = { yes: 0, no: 1, unread: 2 } as const;

/** Images that are decoded at once. */
export interface DecodingRequest {
  /** uint8 [n, height, width, 1 or 3] on the CPU: what they are decoded to. It may be disposed before they are. */
  readonly images: Tensor;
  /** [n]: paths, or the bytes of files. */
  readonly sources: readonly string[] | readonly Uint8Array[];
  /** [n, 2]: where each image begins in the file at its path, and its length, in bytes; empty: a file is an image. */
  readonly ranges?: Float64Array;
  /** [n, 22]: the numbers that crops are drawn by, as `resizedCropDraws` gives them; empty: the centre is shown. */
  readonly draws?: Float64Array;
  /** [n]: 1 for each image that is shown mirrored, left to right, else 0; empty: none is. */
  readonly mirrored?: Uint8Array;
  /** [height, width] in pixels: the rectangle that an image is scaled to cover before its centre is cut out. */
  readonly covered: readonly [height: number, width: number];
  /** Width times height of an image, at most. */
  readonly maxPixels: number;
  /**
   * Whether an image may be decoded an eighth, a quarter or half as large where each side then still has 1.5 times the pixels that are
   * shown; else it is scaled from all its pixels, as by Pillow. Default: unless LAYERWISE_JPEG_SCALING is off.
   */
  readonly mayReduce?: boolean;
}

/** Images at work. */
export interface Decoding {
  /**
   * [n] of `DECODED`. `no`: an image of another kind, or damaged, or larger; `unread`: the file cannot be read. Those of a batch that
   * was cancelled may be 0 without that they are decoded.
   */
  readonly done: Promise<Uint8Array>;
  /** Begins no more of them. */
  cancel(): void;
}

const NOTHING = new Float64Array();
const NONE_MIRRORED = new Uint8Array();

/** Begins to decode images. Without `findTurboJpeg` none is. Throws TensorError for what does not go together. */
export function decodeImages(request: DecodingRequest): Decoding {
  const { images, sources, ranges = NOTHING, draws = NOTHING, mirrored = NONE_MIRRORED } = request;
  const { covered, maxPixels, mayReduce = isScaling() } = request;
  const pieces = sources.map((source) => (typeof source === 'string' ? Buffer.from(source) : source));
  const ends = new Float64Array(pieces.length);
  let end = 0;
  for (const [i, piece] of pieces.entries()) ends[i] = end += piece.length;
  // One is copied once, by the addon.
  const bytes = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  const arePaths = typeof sources[0] === 'string';
  let tell: (outcomes: Uint8Array) => void;
  const done = new Promise<Uint8Array>((resolve) => {
    tell = resolve;
  });
  const [height, width] = covered;
  if (!hasThreads) setDecodingThreads(decodingThreads());
  const batch = native.decodeImages(
    images.handle,
    bytes,
    ends,
    arePaths,
    ranges,
    draws,
    mirrored,
    height,
    width,
    maxPixels,
    mayReduce,
    (outcomes) => tell(outcomes),
  );
  return { done, cancel: () => native.cancelDecoding(batch) };
}

function isScaling(): boolean {
  const { isOn, problem } = jpegScaling();
  if (problem !== undefined) {
    throw new TensorError({ code: 'INVALID_ARGUMENT', operator: 'decodeImages', message: problem });
  }
  return isOn;
}

/** The TurboJPEG library that images are decoded with. */
export interface TurboJpeg {
  readonly path: string;
  /** Which of the places it was found in. */
  readonly origin: TurboJpegCandidate['origin'];
}

let found: TurboJpeg | null | undefined;

/**
 * The TurboJPEG library that images are decoded with; null where there is none of version 3, or LAYERWISE_TURBOJPEG is none. Throws
 * TensorError (INVALID_ARGUMENT) where that names something else.
 */
export function findTurboJpeg(): TurboJpeg | null {
  if (found !== undefined) return found;
  const candidates = turboJpegCandidates();
  let path = '';
  for (const candidate of candidates) if (path === '') path = native.openTurboJpeg(candidate.path);
  const named = process.env.LAYERWISE_TURBOJPEG || 'none';
  if (path === '' && named !== 'none') {
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'findTurboJpeg',
      message: `LAYERWISE_TURBOJPEG: expected the path of libjpeg-turbo's TurboJPEG, version 3, or none, got ${named}`,
    });
  }
  const origin = candidates.find((candidate) => candidate.path === path)?.origin ?? 'system';
  found = path === '' ? null : { path, origin };
  return found;
}

/** Whether the process was told their number. */
let hasThreads = false;

/** Threads that decode images, in the whole process; default: as many as it may use. */
export function decodingThreads(): number {
  return native.decodingThreads() || usableProcessors();
}

/** Throws TensorError for anything but an integer from 1 to 1024. */
export function setDecodingThreads(threads: number): void {
  native.setDecodingThreads(threads);
  hasThreads = true;
}
