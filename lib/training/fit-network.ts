// What a network takes from the training images before its first step.
import { applyTransforms, type ImageSource, noDraws, stoppingWhileWaiting, type Transform } from '../data/index.js';
import type { Network } from '../models/index.js';
import { keep, noGrad, scope, type Tensor } from '../tensor/index.js';

/** Of images that are read in batches spread over the whole set, which may be sorted by class. */
const BATCH = 100;
const BATCHES = 50;

export interface FitOptions {
  readonly images: ImageSource;
  /** From an image to what the network reads, without augmentation. */
  readonly transforms: readonly Transform[];
  readonly signal: AbortSignal | undefined;
  /** Called between batches: lets others compute, and throws where the run is to stop. */
  readonly pause: () => Promise<void>;
}

/** Fits a network that has something to fit, see `Network.fitToImages`. */
export async function fitNetwork(network: Network, options: FitOptions): Promise<void> {
  const { signal, pause } = options;
  await network.fitToImages?.(stoppingWhileWaiting(spreadBatches(options), signal, pause));
}

/** Batches at even distances; all of them where there are few. Each is freed when the next is asked for. */
async function* spreadBatches({ images, transforms, pause }: FitOptions): AsyncGenerator<Tensor> {
  const all = Math.ceil(images.count / BATCH);
  const count = Math.min(BATCHES, all);
  for (let i = 0; i < count; i++) {
    const start = Math.floor((i * all) / count);
    for await (const batch of images.batches(BATCH, { start, length: 1 })) {
      using inputs = noGrad(() => scope(() => keep(applyTransforms(transforms, batch.tensors().images, noDraws))));
      yield inputs;
    }
    await pause();
  }
}
