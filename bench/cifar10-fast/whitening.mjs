// Filters that whiten patches of the training images: the eigenvectors of the patches' covariance, each over the root of its value.
import * as lw from 'layerwise';
import { MEAN, STD } from './images.mjs';

/** @import { Part } from './images.mjs' */

const SIDE = 32;
const IMAGES = 5_000;

/**
 * [2 * 3 * size^2, 3, size, size]: each filter, those of the largest eigenvalue first, and then their negatives.
 *
 * @param {Part} part
 * @param {number} size
 * @param {number} epsilon added to each eigenvalue
 */
export function whiteningFilters(part, size, epsilon) {
  const length = 3 * size * size;
  const eigen = symmetricEigen(covarianceOf(part, size), length);
  const sorted = eigen.toSorted((a, b) => b.value - a.value);
  const filters = sorted.flatMap(({ value, vector }) => Array.from(vector, (x) => x / Math.sqrt(value + epsilon)));
  const both = Float32Array.from([...filters, ...filters.map((x) => -x)]);
  return lw.tensor(both, { shape: [2 * length, 3, size, size] });
}

/** The mean product of each two pixels of a patch, [length, length], of every other patch. @param {Part} part @param {number} size */
function covarianceOf({ pixels, count }, size) {
  const length = 3 * size * size;
  const sums = new Float64Array(length * length);
  const patch = new Float64Array(length);
  let patches = 0;
  for (let i = 0; i < Math.min(IMAGES, count); i++)
    for (let y = 0; y + size <= SIDE; y += 2)
      for (let x = 0; x + size <= SIDE; x += 2) {
        let at = 0;
        for (const [c, mean] of MEAN.entries())
          for (let dy = 0; dy < size; dy++)
            for (let dx = 0; dx < size; dx++) {
              const byte = pixels[((i * SIDE + y + dy) * SIDE + x + dx) * 3 + c] ?? 0;
              patch[at++] = (byte / 255 - mean) / (STD[c] ?? 1);
            }
        for (const [a, first] of patch.entries())
          for (const [b, second] of patch.entries())
            sums[a * length + b] = (sums[a * length + b] ?? 0) + first * second;
        patches++;
      }
  return sums.map((sum) => sum / patches);
}

/** Eigenvalues and eigenvectors of a symmetric matrix [n, n], by Jacobi's rotations. @param {Float64Array} matrix @param {number} n */
function symmetricEigen(matrix, n) {
  const a = Float64Array.from(matrix);
  const vectors = Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
  /** @param {Float64Array} of @param {number} row @param {number} column */
  const at = (of, row, column) => of[row * n + column] ?? 0;
  /** Turns two elements. @param {Float64Array} of @param {number} i @param {number} j @param {number} c @param {number} s */
  const turn = (of, i, j, c, s) => {
    const [x, y] = [of[i] ?? 0, of[j] ?? 0];
    of[i] = c * x - s * y;
    of[j] = s * x + c * y;
  };
  for (let sweep = 0; sweep < 100; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += at(a, p, q) ** 2;
    if (off < 1e-22) break;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (at(a, p, q) === 0) continue;
        const theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) turn(a, k * n + p, k * n + q, c, s);
        for (let k = 0; k < n; k++) turn(a, p * n + k, q * n + k, c, s);
        for (let k = 0; k < n; k++) turn(vectors, k * n + p, k * n + q, c, s);
      }
  }
  return Array.from({ length: n }, (_, i) => ({
    value: at(a, i, i),
    vector: Float64Array.from({ length: n }, (_, k) => at(vectors, k, i)),
  }));
}
