// The training images of CIFAR-10, the last 5,000 of them held out; and their batches, cropped and mirrored.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as lw from 'layerwise';

/**
 * Pixels [count, 32, 32, 3] and labels.
 *
 * @typedef {{ pixels: Uint8Array, labels: BigInt64Array, count: number }} Part
 *
 * @typedef {{ train: Part, held: Part }} Images
 *
 * @typedef {object} Views
 * @property {number} seed
 * @property {number} padding
 * @property {string} pad zero or reflect
 * @property {string} flip none, random or alternating
 * @property {number} cutout pixels a side of the square that is blotted out; 0 leaves it out
 * @property {number} batchSize
 *
 * @typedef {{ images: lw.Tensor, labels: lw.Tensor, count: number }} Batch
 */

const SIDE = 32;
const RECORD = 1 + 3 * SIDE * SIDE;
const HELD_OUT = 5_000;
export const MEAN = /** @type {const} */ ([0.4914, 0.4822, 0.4465]);
export const STD = /** @type {const} */ ([0.247, 0.2435, 0.2616]);

/**
 * The first `train` training images of a folder cifar-10-batches-bin, and the held-out ones.
 *
 * @param {string} folder
 * @param {{ train: number }} options
 * @returns {Images}
 */
export function trainingImages(folder, { train }) {
  const records = Buffer.concat([1, 2, 3, 4, 5].map((n) => readFileSync(join(folder, `data_batch_${n}.bin`))));
  const count = records.length / RECORD;
  if (train > count - HELD_OUT) throw new Error(`train: expected at most ${count - HELD_OUT}, got ${train}`);
  return { train: part(records, 0, train), held: part(records, count - HELD_OUT, HELD_OUT) };
}

/** @param {Buffer} records @param {number} first @param {number} count @returns {Part} */
function part(records, first, count) {
  const pixels = new Uint8Array(count * SIDE * SIDE * 3);
  const labels = new BigInt64Array(count);
  for (let i = 0; i < count; i++) {
    const at = (first + i) * RECORD;
    labels[i] = BigInt(records[at] ?? 0);
    for (let c = 0; c < 3; c++)
      for (let p = 0; p < SIDE * SIDE; p++)
        pixels[(i * SIDE * SIDE + p) * 3 + c] = records[at + 1 + c * SIDE * SIDE + p] ?? 0;
  }
  return { pixels, labels, count };
}

/**
 * The images with a border of `padding`, black or mirrored at the edge.
 *
 * @param {Part} part
 * @param {number} padding
 * @param {string} kind
 */
export function padded({ pixels, count }, padding, kind) {
  const side = SIDE + 2 * padding;
  const out = new Uint8Array(count * side * side * 3);
  /** @param {number} x */
  const inside = (x) => (x < 0 ? -x : x >= SIDE ? 2 * (SIDE - 1) - x : x);
  for (let i = 0; i < count; i++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) {
        const [sy, sx] = [y - padding, x - padding];
        const isOutside = sy < 0 || sx < 0 || sy >= SIDE || sx >= SIDE;
        const to = ((i * side + y) * side + x) * 3;
        if (kind === 'zero' && isOutside) continue;
        const from = ((i * SIDE + inside(sy)) * SIDE + inside(sx)) * 3;
        for (let c = 0; c < 3; c++) out[to + c] = pixels[from + c] ?? 0;
      }
  return { pixels: out, side };
}

/** Numbers in [0, 1): mulberry32. @param {number} seed */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Bytes [count, 32, 32, 3] as normalised floats [count, 3, 32, 32], channels last. @param {Uint8Array} bytes @param {number} count */
export function normalized(bytes, count) {
  return lw.scope(() => {
    const raw = lw
      .tensor(bytes, { shape: [count, SIDE, SIDE, 3] })
      .permute([0, 3, 1, 2])
      .to({ dtype: 'float32' });
    /** @param {number[]} list */
    const values = (list) => lw.tensor(Float32Array.from(list), { shape: [1, 3, 1, 1] });
    return lw.keep(raw.mul(values(STD.map((s) => 1 / (255 * s)))).add(values(MEAN.map((m, c) => -m / (STD[c] ?? 1)))));
  });
}

/** Batches of augmented images. */
export class Batches {
  /** @param {Part} part @param {Views} views */
  constructor(part, { seed, padding, pad, flip, cutout, batchSize }) {
    this.part = part;
    this.padding = padding;
    this.flip = flip;
    this.cutout = cutout;
    this.batchSize = batchSize;
    this.padded = padded(part, padding, pad);
    const random = randomFrom(seed * 7919 + 17);
    this.firstFlip = Uint8Array.from({ length: part.count }, () => (random() < 0.5 ? 1 : 0));
    this.random = random;
  }

  get steps() {
    return Math.floor(this.part.count / this.batchSize);
  }

  /** @param {number} epoch */
  *epoch(epoch) {
    const { part, batchSize, random } = this;
    const order = Int32Array.from({ length: part.count }, (_, i) => i);
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      const moved = order[i] ?? 0;
      order[i] = order[j] ?? 0;
      order[j] = moved;
    }
    for (let step = 0; step < this.steps; step++) {
      const indices = order.subarray(step * batchSize, (step + 1) * batchSize);
      yield this.batch(indices, epoch);
    }
  }

  /** @param {Int32Array} indices @param {number} epoch @returns {Batch} */
  batch(indices, epoch) {
    const { padding, flip, cutout, random, firstFlip, part } = this;
    const { pixels, side } = this.padded;
    const n = indices.length;
    const out = new Uint8Array(n * SIDE * SIDE * 3);
    const labels = new BigInt64Array(n);
    for (const [b, i] of indices.entries()) {
      labels[b] = part.labels[i] ?? 0n;
      const top = Math.floor(random() * (2 * padding + 1));
      const left = Math.floor(random() * (2 * padding + 1));
      const flips =
        flip === 'alternating' ? ((firstFlip[i] ?? 0) ^ (epoch & 1)) === 1 : flip === 'random' && random() < 0.5;
      for (let y = 0; y < SIDE; y++) {
        const from = ((i * side + top + y) * side + left) * 3;
        const to = (b * SIDE + y) * SIDE * 3;
        if (!flips) out.set(pixels.subarray(from, from + SIDE * 3), to);
        else
          for (let x = 0; x < SIDE; x++) {
            const at = from + (SIDE - 1 - x) * 3;
            out[to + x * 3] = pixels[at] ?? 0;
            out[to + x * 3 + 1] = pixels[at + 1] ?? 0;
            out[to + x * 3 + 2] = pixels[at + 2] ?? 0;
          }
      }
      if (cutout > 0) {
        const place = () => Math.floor(random() * (SIDE - cutout + 1));
        const cy = place();
        const cx = place();
        for (let y = cy; y < cy + cutout; y++)
          for (let x = cx; x < cx + cutout; x++)
            for (const [c, mean] of MEAN.entries()) out[((b * SIDE + y) * SIDE + x) * 3 + c] = Math.round(255 * mean);
      }
    }
    return { images: normalized(out, n), labels: lw.tensor(labels), count: n };
  }
}
