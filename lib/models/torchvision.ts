// Between a VGG of this project and torchvision's of the same layers. They differ in one place: torchvision averages the
// features adaptively to 7 x 7 before the classifier, whatever the image size; here the classifier reads them as they are.
// The averaging is linear, x -> A x A^T per channel, so it can be moved into or out of the first classifier weight.
import { type ImageSize, sidesOf } from '../data/index.js';
import type { StateDict } from '../nn/index.js';
import { noGrad, scope, type Tensor, tensor } from '../tensor/index.js';
import { ModelError } from './errors.js';
import type { Network } from './network.js';
import { VGG_FULL_WIDTH, Vgg, vggLayerCount, vggTitle } from './vgg.js';

/** Height and width that torchvision's classifier reads. */
export const TORCHVISION_POOLED_SIZE = 7;
const CLASSIFIER = 'classifier.0.weight';

/** Rows of numbers. */
export type Matrix = readonly (readonly number[])[];

/** Tensors for a file, to be given back with `using`; those of the network itself stay the network's. */
export interface TorchvisionWeights extends Disposable {
  readonly tensors: StateDict;
}

/** Height or width of a VGG's features after its fifth max-pooling. */
export const pooledSizeOf = (imageSize: number): number => imageSize / 32;

/**
 * The state dict that torchvision's vgg11_bn (vgg13_bn, ...) with as many classes loads strictly, and with which it gives
 * the network's logits on images of the network's size. At 224 x 224 it is the network's own.
 * Throws ModelError for a network that torchvision's definition cannot be: no VGG, of another width than 64, with fewer
 * layers, for images larger than 224, or of other channels or unequal sides.
 */
export function torchvisionStateDict(given: Network): TorchvisionWeights {
  const network = given.ungrouped ?? given;
  const refuse = (expected: string, got: string): never => {
    throw new ModelError(`torchvision: expected ${expected}, got ${got}`);
  };
  if (!(network instanceof Vgg)) return refuse('a VGG', network.name);
  const { name, width, blocks } = network;
  const title = vggTitle(name);
  const layers = vggLayerCount(name);
  const [channels, imageSize, imageWidth] = network.inputShape;
  const size = pooledSizeOf(imageSize);
  if (width !== VGG_FULL_WIDTH) refuse(`${title} of width ${VGG_FULL_WIDTH}`, `width ${width}`);
  if (blocks.length !== layers) refuse(`all ${layers} layers of ${title}`, `the first ${blocks.length}`);
  if (channels !== 3 || imageSize !== imageWidth) {
    refuse('images of 3 channels and equal sides', network.inputShape.join(' x '));
  }
  if (size > TORCHVISION_POOLED_SIZE) {
    refuse(`images of at most ${32 * TORCHVISION_POOLED_SIZE} x ${32 * TORCHVISION_POOLED_SIZE}`, `${imageSize}`);
  }
  const tensors = network.stateDict();
  if (size === TORCHVISION_POOLED_SIZE) return { tensors, [Symbol.dispose]: () => {} };
  const weight = pooledClassifierWeight(tensors.get(CLASSIFIER)!, size);
  tensors.set(CLASSIFIER, weight);
  return { tensors, [Symbol.dispose]: () => weight.dispose() };
}

/**
 * From a classifier weight [units, channels * size * size] to that of the same classifier after an adaptive average to
 * 7 x 7, [units, channels * 49]: W (A^+ x A^+), with A^+ the left inverse of the averaging; `size` from 1 to 7.
 */
export function pooledClassifierWeight(weight: Tensor, size: number): Tensor {
  const inverse = leftInverse(poolingMatrix(size, TORCHVISION_POOLED_SIZE));
  return mapPlanes(weight, kronecker(inverse, inverse));
}

/**
 * The way back: from a weight [units, channels * 49] that reads an adaptive average to 7 x 7 to one that reads the
 * features themselves, [units, channels * height * width]: W (A x B), A of the height and B of the width; for any size.
 */
export function unpooledClassifierWeight(weight: Tensor, size: ImageSize): Tensor {
  const [height, width] = sidesOf(size);
  const rows = poolingMatrix(height, TORCHVISION_POOLED_SIZE);
  const columns = poolingMatrix(width, TORCHVISION_POOLED_SIZE);
  return mapPlanes(weight, kronecker(rows, columns));
}

/** Multiplies the last dimension, as rows of channels times one plane, by a matrix of [plane, new plane]. */
function mapPlanes(weight: Tensor, matrix: Matrix): Tensor {
  const [units] = weight.shape;
  const [rows, columns] = [matrix.length, matrix[0]!.length];
  return scope(() =>
    noGrad(() => {
      const right = tensor(matrix.flat(), { shape: [rows, columns], device: weight.device });
      const planes = weight.detach().to({ dtype: 'float32' }).reshape([-1, rows]);
      return planes.matmul(right).reshape([units!, -1]);
    }),
  );
}

/**
 * The matrix [to, from] of torch.nn.AdaptiveAvgPool1d: output i averages the inputs from floor(i from / to) up to, and
 * without, ceil((i + 1) from / to).
 */
export function poolingMatrix(from: number, to: number): Matrix {
  return Array.from({ length: to }, (_, i) => {
    const start = Math.floor((i * from) / to);
    const end = Math.ceil(((i + 1) * from) / to);
    return Array.from({ length: from }, (_, p) => (p >= start && p < end ? 1 / (end - start) : 0));
  });
}

/** (A^T A)^-1 A^T [columns, rows] of a matrix [rows, columns] of full column rank. Throws ModelError for another. */
export function leftInverse(matrix: Matrix): Matrix {
  const transposed = matrix[0]!.map((_, column) => matrix.map((row) => row[column]!));
  const columns = transposed.length;
  // Gauss and Jordan on [A^T A | A^T]; A^T A is positive definite, so that its pivots are positive without exchanges.
  const work = transposed.map((row) => [...transposed.map((other) => dot(row, other)), ...row]);
  for (let pivot = 0; pivot < columns; pivot++) {
    const scale = work[pivot]![pivot]!;
    if (!(scale > 1e-12)) throw new ModelError(`expected a matrix of full column rank ${columns}, got rank ${pivot}`);
    work[pivot] = work[pivot]!.map((value) => value / scale);
    for (let row = 0; row < columns; row++) {
      if (row === pivot) continue;
      const factor = work[row]![pivot]!;
      work[row] = work[row]!.map((value, i) => value - factor * work[pivot]![i]!);
    }
  }
  return work.map((row) => row.slice(columns));
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/** The Kronecker product: row (p, q), column (i, j) is a[p][i] b[q][j]. */
export function kronecker(a: Matrix, b: Matrix): Matrix {
  return a.flatMap((rowA) => b.map((rowB) => rowA.flatMap((x) => rowB.map((y) => x * y))));
}
