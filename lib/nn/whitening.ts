import { arange, empty, noGrad, scope, stack, type Tensor, zeros } from '../tensor/index.js';
import { ModuleError } from './errors.js';
import { defaultInit, type Initializer } from './init.js';
import { checkNotNegative, checkSizes, optionsOf } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

/** Values of patches that are held at once: 32 MiB, twice. */
const PATCH_VALUES = 2 ** 22;

/**
 * Patches of size x size pixels, whitened: a convolution without padding whose filters do not train. Of [n, channels, height, width]
 * it gives [n, 2 channels size^2, height - size + 1, width - size + 1]: each whitened value, and after all of them their negatives, so that a
 * ReLU loses nothing. The filters follow from images by `fit`; until then they are `init`'s.
 *
 * Cholesky whitening (Kessy, Lewin, Strimmer, The American Statistician 72, 2018): with the patches' second moments E[p p^T] + eps I = L L^T,
 * the filters are the rows of L^-1. A frozen first layer that whitens patches: Coates, Ng, 2012; Jordan, arXiv 2404.00498.
 */
export class Whitening extends Module {
  /** [2 channels size^2, channels, size, size]. */
  readonly weight: Tensor;
  readonly channels: number;
  readonly size: number;
  readonly eps: number;

  /** `eps`, added to the second moments, of values whose own are about 1, keeps what is nearly constant from being blown up; default: 5e-4. */
  constructor(options: { channels: number; size: number; eps?: number; init?: Initializer }) {
    super();
    const {
      channels,
      size,
      eps = 5e-4,
      init = defaultInit(),
    } = optionsOf('Whitening', options, ['channels', 'size', 'eps', 'init']);
    checkSizes('Whitening', { channels, size });
    checkNotNegative('Whitening', { eps });
    this.channels = channels;
    this.size = size;
    this.eps = eps;
    this.weight = this.buffer('weight', empty([2 * channels * size ** 2, channels, size, size]));
    init({ weight: this.weight, bias: null });
  }

  forward(input: Tensor): Tensor {
    return input.conv2d(this.weight, null);
  }

  /**
   * Takes the filters from images [n, channels, height, width], as the network gets them; without any it keeps those it has. Throws
   * ModuleError for images of other channels or smaller than a patch, and what LibTorch does where `eps` is 0 and the second moments have no
   * inverse.
   */
  async fit(batches: AsyncIterable<Tensor>): Promise<void> {
    const length = this.channels * this.size ** 2;
    using moments = zeros([length, length], { dtype: 'float64', device: this.weight.device });
    let patches = 0;
    for await (const images of batches) patches += this.#add(images, moments);
    if (patches === 0) return;
    noGrad(() =>
      scope(() => {
        const row = arange(length, { device: moments.device });
        const identity = row.unsqueeze(0).eq(row.unsqueeze(1)).to({ dtype: 'float64' });
        const factor = moments.div(patches).add(identity, { alpha: this.eps }).cholesky();
        // L^-1 = L^T (L L^T)^-1.
        const inverse = factor.transpose(0, 1).matmul(identity.choleskySolve(factor));
        const filters = inverse.reshape([length, this.channels, this.size, this.size]);
        this.weight.narrow(0, 0, length).copy_(filters);
        this.weight.narrow(0, length, length).copy_(filters.neg());
      }),
    );
  }

  /** Adds the products of each two values of a patch, some images at a time, and gives the number of patches. */
  #add(images: Tensor, moments: Tensor): number {
    const { size, channels } = this;
    const [n = 0, given = 0, height = 0, width = 0] = images.shape;
    if (images.dim !== 4 || given !== channels || Math.min(height, width) < size) {
      throw new ModuleError(
        `Whitening: expected images [n, ${channels}, height, width] of at least ${size} x ${size}, got [${images.shape.join(', ')}]`,
      );
    }
    const positions = (height - size + 1) * (width - size + 1);
    const atOnce = Math.max(1, Math.floor(PATCH_VALUES / (moments.shape[0]! * positions)));
    for (let start = 0; start < n; start += atOnce) {
      const length = Math.min(atOnce, n - start);
      noGrad(() => scope(() => this.#addPatches(images.narrow(0, start, length), moments)));
    }
    return n * positions;
  }

  #addPatches(images: Tensor, moments: Tensor): void {
    const { size } = this;
    const [rows, columns] = images.shape.slice(2).map((side) => side - size + 1) as [number, number];
    const double = images.to({ dtype: 'float64' });
    // In the order of a filter's values: channel, row, column.
    const values = Array.from({ length: moments.shape[0]! }, (_, i) => {
      const [channel, row, column] = [Math.floor(i / size ** 2), Math.floor(i / size) % size, i % size];
      return double.select(1, channel).narrow(1, row, rows).narrow(2, column, columns).reshape([-1]);
    });
    const patches = stack(values);
    moments.add_(patches.matmul(patches.transpose(0, 1)));
  }
}

declareTraits(Whitening, { allocates: true });
