// What a predictor is given, in whatever form it is at hand, and the bytes that its network reads.
import { resolve } from 'node:path';
import { decodeImage, readImage } from '../data/index.js';
import { shown } from '../schema.js';
import { isTensor, type Tensor } from '../tensor/index.js';
import { invalidArgument } from './errors.js';
import type { NetworkFacts } from './messages.js';

/** Pixels 0 to 255, row-major, as [channels, height, width] says. */
export interface ImagePixels {
  readonly pixels: Uint8Array;
  readonly imageShape: readonly [channels: number, height: number, width: number];
}

/** Values of a vector, in the units that the run was trained in. */
export interface InputVector {
  readonly vector: Float32Array;
}

/**
 * The path of a JPEG or PNG file, or the bytes of one; pixels as the network sees them, also as a tensor, uint8 [channels, height, width];
 * a vector, also as a tensor, float32 [length].
 */
export type PredictorInput = string | Uint8Array | ImagePixels | InputVector | Tensor;

/** Gives the bytes that the network reads: of pixels, or of float32. */
export type InputReader = () => Promise<Uint8Array>;

export interface ReadInputOptions {
  readonly facts: NetworkFacts;
  /** Of the largest image that is decoded; default: as the run says. */
  readonly maxPixels: number | undefined;
}

/**
 * Looks at an input, and takes a copy of what is its caller's: what is to be decoded is decoded by the reader. Throws PredictorError
 * (INVALID_ARGUMENT) for what is no input of this network; the reader rejects with what `readImage` throws.
 */
export function inputReader(input: PredictorInput, options: ReadInputOptions): InputReader {
  const { inputShape } = options.facts;
  if (typeof input === 'string') return fileReader(input, options);
  if (isKind(input, 'Uint8Array')) return encodedReader(input as Uint8Array, options);
  if (isTensor(input)) return given(bytesOfTensor(input, inputShape));
  if (typeof input === 'object' && input !== null) {
    if ('pixels' in input) return given(bytesOfPixels(input, inputShape));
    if ('vector' in input) return given(bytesOfVector(input, inputShape));
  }
  return refuse(
    'the path or the bytes of an image file, { pixels, imageShape }, { vector } or a tensor',
    typeof input === 'object' ? shown(input) : typeof input,
  );
}

const given =
  (bytes: Uint8Array): InputReader =>
  async () =>
    bytes;

function fileReader(path: string, options: ReadInputOptions): InputReader {
  const { size, options: reading } = readingOf(options);
  if (path === '') refuse('the path of an image file', '""');
  // The working directory may be another one when its turn comes.
  const file = resolve(path);
  return () => readImage(file, size, reading);
}

function encodedReader(bytes: Uint8Array, options: ReadInputOptions): InputReader {
  const { size, options: reading } = readingOf(options);
  const copy = new Uint8Array(bytes);
  return () => decodeImage('the image', copy, size, reading);
}

function readingOf({ facts, maxPixels }: ReadInputOptions): NonNullable<NetworkFacts['reading']> {
  const { reading, inputShape } = facts;
  if (reading === null) return refuse(expectedBy(inputShape), 'an image file');
  return maxPixels === undefined ? reading : { ...reading, options: { ...reading.options, maxPixels } };
}

function bytesOfPixels({ pixels, imageShape }: ImagePixels, inputShape: readonly number[]): Uint8Array {
  if (!Array.isArray(imageShape)) refuse('[channels, height, width] for imageShape', shown(imageShape));
  if (imageShape.join() !== inputShape.join()) refuse(expectedBy(inputShape), `pixels of ${imageShape.join(' x ')}`);
  if (!isKind(pixels, 'Uint8Array')) refuse('a Uint8Array or a Buffer for pixels', typeof pixels);
  const length = inputShape.reduce((product, size) => product * size);
  if (pixels.length !== length) refuse(`${length} values, those of ${expectedBy(inputShape)}`, String(pixels.length));
  return new Uint8Array(pixels);
}

function bytesOfVector({ vector }: InputVector, inputShape: readonly number[]): Uint8Array {
  if (!isKind(vector, 'Float32Array')) refuse('a Float32Array for vector', typeof vector);
  if (inputShape.length !== 1 || vector.length !== inputShape[0]) {
    refuse(expectedBy(inputShape), `a vector of ${vector.length} values`);
  }
  const bad = vector.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) refuse(`a finite number for value ${bad} of the vector`, String(vector[bad]));
  return new Uint8Array(new Float32Array(vector).buffer);
}

function bytesOfTensor(input: Tensor, inputShape: readonly number[]): Uint8Array {
  const isVector = inputShape.length === 1;
  const dtype = isVector ? 'float32' : 'uint8';
  const shape = input.dim === inputShape.length + 1 && input.shape[0] === 1 ? input.shape.slice(1) : input.shape;
  if (input.dtype !== dtype || shape.join() !== inputShape.join()) {
    refuse(`a tensor ${dtype} [${inputShape.join(', ')}]`, String(input));
  }
  const values = input.toTypedArray();
  return isVector ? bytesOfVector({ vector: values as Float32Array }, inputShape) : (values as Uint8Array);
}

/** Of another realm, too, as a test runner has them. */
const isKind = (value: unknown, kind: string): boolean => Object.prototype.toString.call(value) === `[object ${kind}]`;

const expectedBy = (inputShape: readonly number[]): string =>
  inputShape.length === 1 ? `a vector of ${inputShape[0]} values` : `pixels of ${inputShape.join(' x ')}`;

function refuse(expected: string, got: string): never {
  throw invalidArgument('classify', `expected ${expected}, got ${got}`);
}
