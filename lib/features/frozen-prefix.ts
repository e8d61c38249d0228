import { applyTransforms, type BatchDraws, type Transform } from '../data/index.js';
import type { Stage } from '../models/index.js';
import { FrozenBlocks } from '../nn/index.js';
import { frozenDtype, type Precision } from '../recipe/index.js';
import { noGrad, type Tensor } from '../tensor/index.js';

/** Makes a stage's features of images: the transforms, then the frozen layers. Dispose it. */
export class FrozenPrefix {
  readonly #transforms: readonly Transform[];
  readonly #blocks: FrozenBlocks;

  constructor(stage: Stage, context: { readonly precision: Precision; readonly transforms: readonly Transform[] }) {
    for (const block of stage.frozen) block.eval();
    this.#transforms = context.transforms;
    this.#blocks = new FrozenBlocks(stage.frozen, frozenDtype(context.precision));
  }

  /** The features of uint8 images [n, channels, height, width], or of vectors [n, length]. Call it in a scope. */
  forward(images: Tensor, draws: BatchDraws): Tensor {
    return this.#blocks.forward(noGrad(() => applyTransforms(this.#transforms, images, draws)));
  }

  dispose(): void {
    this.#blocks.dispose();
  }
}
