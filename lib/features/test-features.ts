import { type BatchRange, noDraws } from '../data/index.js';
import type { Stage } from '../models/index.js';
import { FrozenBlocks, type Module } from '../nn/index.js';
import { frozenDtype } from '../recipe/index.js';
import { keep, noGrad, scope, type Tensor } from '../tensor/index.js';
import type { FeatureContext, Pause } from './features.js';
import { FrozenPrefix } from './frozen-prefix.js';

/**
 * The features of the test images, for one stage after another. They are the same in every epoch. Where the budget allows, they
 * stay in the device's memory and the next stage's are computed from them; else they are computed each time.
 */
export class TestFeatures {
  readonly #context: FeatureContext;
  readonly #budgetBytes: number;
  #blocks: readonly Module[] = [];
  #prefix: FrozenPrefix | null = null;
  /** The outputs of `#blocks` for the images, batch by batch; empty where nothing is kept. */
  #kept: Tensor[] = [];

  constructor(context: FeatureContext, budgetBytes: number) {
    this.#context = context;
    this.#budgetBytes = budgetBytes;
  }

  /** Prepares for a stage. Its frozen layers no longer change. */
  async begin(stage: Stage, pause: Pause): Promise<void> {
    const before = this.#blocks;
    this.#blocks = stage.frozen;
    this.#prefix?.dispose();
    this.#prefix = new FrozenPrefix(stage, this.#context);
    if (before.some((block, i) => block !== stage.frozen[i])) this.#forget();
    else await this.#advance(stage.frozen.slice(before.length), pause);
  }

  async #advance(added: readonly Module[], pause: Pause): Promise<void> {
    if (added.length === 0 || this.#kept.length === 0) return;
    const blocks = new FrozenBlocks(added, frozenDtype(this.#context.precision));
    try {
      for (const [i, features] of this.#kept.entries()) {
        this.#kept[i] = scope(() => keep(noGrad(() => blocks.forward(features))));
        features.dispose();
        if (!this.#fits(this.#kept[0]!)) return this.#forget();
        await pause();
      }
    } catch (error) {
      // Some batches have gone through the added blocks, others have not.
      this.#forget();
      throw error;
    } finally {
      blocks.dispose();
    }
  }

  /** The features of all images in order, in batches, or those of a range of batches, always the same one. Call each in a scope. */
  async *batches(batchSize: number, range?: BatchRange): AsyncGenerator<() => Tensor> {
    if (this.#kept.length > 0) {
      for (const features of this.#kept) yield () => features;
      return;
    }
    const { images } = this.#context;
    const prefix = this.#prefix!;
    const kept: Tensor[] = [];
    let batches = 0;
    let isWhole = false;
    try {
      for await (const batch of images.batches(batchSize, range)) {
        batches++;
        yield () => {
          const features = prefix.forward(batch.tensors().images, noDraws);
          // Normalising the images is no work worth keeping.
          if (this.#blocks.length > 0 && this.#fits(kept[0] ?? features)) kept.push(keep(features));
          return features;
        };
      }
      isWhole = kept.length === batches;
    } finally {
      if (isWhole) this.#kept = kept;
      else for (const features of kept) features.dispose();
    }
  }

  /** Whether the features of all images fit into the budget, judged by those of some. */
  #fits(features: Tensor): boolean {
    return (features.byteLength / features.shape[0]!) * this.#context.images.count <= this.#budgetBytes;
  }

  #forget(): void {
    for (const features of this.#kept.splice(0)) features.dispose();
  }

  dispose(): void {
    this.#forget();
    this.#prefix?.dispose();
    this.#prefix = null;
  }
}
