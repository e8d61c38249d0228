import type { FrozenBlocks } from '../nn/index.js';
import { channelsLast, inferenceMode, scope, type Tensor, tensor } from '../tensor/index.js';

/** A trained network's blocks, and what its heads make of their outputs: logits [rows, classes]. */
interface Network {
  readonly blocks: FrozenBlocks;
  readonly read: (features: Tensor, layer: number) => Tensor;
  /** Throws for a layer that is not there, or has no trained head. */
  readonly checkLayer: (layer: number) => void;
}

/**
 * A batch on its way up a network, each block of which runs once, whichever heads are asked. Use it in the scope that it was made in,
 * and not in one within that.
 */
export class Climb {
  #features: Tensor;
  /** Blocks that have run. */
  #height = 0;

  readonly #network: Network;

  /** @internal */
  constructor(inputs: Tensor, network: Network) {
    this.#features = inputs;
    this.#network = network;
  }

  /** The logits, float32 [rows, classes], of the head of a layer that is not below where the batch is; `TrainedRun.logits` to rounding, and throws as it does. */
  logits(layer: number): Tensor {
    const { blocks, read, checkLayer } = this.#network;
    checkLayer(layer);
    return inferenceMode(() => {
      const end = layer + 1;
      this.#replace(blocks.between(this.#features, { start: this.#height, end }));
      this.#height = end;
      return scope(() => read(this.#features, layer));
    });
  }

  /** Lets some rows alone go on, by their indices among those that have come so far. */
  select(rows: readonly number[]): void {
    const { device } = this.#features;
    inferenceMode(() =>
      this.#replace(scope(() => channelsLast(this.#features.indexSelect(0, tensor(rows, { dtype: 'int64', device }))))),
    );
  }

  #replace(features: Tensor): void {
    if (features !== this.#features) this.#features.dispose();
    this.#features = features;
  }
}
