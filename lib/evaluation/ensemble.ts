import { keep, scope, type Tensor } from '../tensor/index.js';
import { MetricError } from './errors.js';

/** What the ensemble averages: the CIFAR experiments of the paper logits, those on ImageNet softmax outputs. */
export type EnsembleScores = 'logits' | 'probabilities';

const SCORES: readonly EnsembleScores[] = ['logits', 'probabilities'];

/**
 * The ensemble over layers, Z = sum_j 2^j z_j / sum_j 2^j with z_j the outputs of head j (paper, section 4.1), on a
 * fixed list of images. Layers are added in order, from the first. Throws MetricError for other scores, and for logits of another
 * shape than the first layer's.
 */
export class LayerEnsemble {
  readonly #scores: EnsembleScores;
  /** sum_j 2^(j - J) z_j of J layers, the first j = 1: at most the sum of what the layers give, however many there are. */
  #sum: Tensor | null = null;
  #layers = 0;

  constructor(scores: EnsembleScores) {
    if (!SCORES.includes(scores)) {
      throw new MetricError(`LayerEnsemble: expected one of ${SCORES.join(', ')} for scores, got ${String(scores)}`);
    }
    this.#scores = scores;
  }

  /** Layers added so far. */
  get layers(): number {
    return this.#layers;
  }

  /** Adds the next layer's logits, [images, classes]. They are copied. */
  add(logits: Tensor): void {
    const sum = scope(() => keep(this.#weighted(logits)));
    this.#sum?.dispose();
    this.#sum = sum;
    this.#layers++;
  }

  /** The averaged scores [images, classes] of the layers added and, as the next layer, of `logits`. */
  with(logits: Tensor): Tensor {
    return scope(() => this.#weighted(logits).mul(1 / (2 - 2 ** -this.#layers)));
  }

  #weighted(logits: Tensor): Tensor {
    const shape = this.#sum?.shape;
    // Another shape would be broadcast.
    if (logits.dim !== 2 || (shape !== undefined && logits.shape.join() !== shape.join())) {
      const expected = shape === undefined ? '[images, classes]' : `[${shape.join(', ')}]`;
      throw new MetricError(`LayerEnsemble: expected ${expected} for logits, got ${logits}`);
    }
    const scores = logits.to({ dtype: 'float32' });
    const z = this.#scores === 'probabilities' ? scores.softmax(1) : scores;
    // Halving changes no bit but those of the smallest numbers.
    return this.#sum === null ? z.clone() : this.#sum.mul(0.5).add(z);
  }

  /** Frees the sum of the logits. */
  dispose(): void {
    this.#sum?.dispose();
    this.#sum = null;
  }
}
