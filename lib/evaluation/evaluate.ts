import type { ImageSource } from '../data/index.js';
import { cat, type Device, inferenceMode, keep, noGrad, scope, type Tensor, zeros } from '../tensor/index.js';
import { optionsOf } from './errors.js';
import { topKCorrect } from './metrics.js';

/** Accuracies are percentages. */
export interface Accuracy {
  readonly top1: number;
  readonly top5: number;
}

/** Loss and accuracies over a list of images. */
export interface EvaluationResult extends Accuracy {
  /** Mean cross entropy. */
  readonly loss: number;
}

/**
 * The outputs of `forward` for all images, in order: float32 [images, ...], such as logits or features. `forward` takes the uint8
 * images of a batch and must be in evaluation mode. The tensor belongs to the caller. Between batches `breathe` lets other work
 * run.
 */
export function predictAll(
  images: ImageSource,
  forward: (images: Tensor) => Tensor,
  options: { batchSize: number; breathe?: () => Promise<void> },
): Promise<Tensor> {
  const { batchSize, breathe } = optionsOf('predictAll', options, ['batchSize', 'breathe']);
  return collectOutputs(images.batches(batchSize), (batch) => forward(batch.tensors().images), { breathe });
}

/** The shape of an image's output, and where it is. */
export interface OutputFormat {
  readonly rowShape: readonly number[];
  readonly device: Device;
}

/**
 * The output of `forward` for each batch in turn, in inference mode and a scope: float32 [images, ...]. The tensor belongs to the
 * caller. Where there may be no batch, `none` says what its outputs would be.
 */
export async function collectOutputs<Batch>(
  batches: AsyncIterable<Batch>,
  forward: (batch: Batch) => Tensor,
  { breathe, none }: { breathe?: (() => Promise<void>) | undefined; none?: OutputFormat } = {},
): Promise<Tensor> {
  const parts: Tensor[] = [];
  try {
    for await (const batch of batches) {
      parts.push(scope(() => keep(inferenceMode(() => forward(batch).to({ dtype: 'float32' }).clone()))));
      await breathe?.();
    }
    if (parts.length === 0 && none !== undefined) {
      return scope(() => keep(zeros([0, ...none.rowShape], { device: none.device })));
    }
    // Made outside of inference mode, so that whoever gets it may train on it.
    return scope(() => keep(noGrad(() => cat(parts))));
  } finally {
    for (const part of parts) part.dispose();
  }
}

/** Loss, top-1 and top-5 of logits [images, classes] against the labels of the same images. */
export function scoreLogits(logits: Tensor, images: ImageSource): EvaluationResult {
  return scope(() => ({ loss: logits.crossEntropy(images.labels).item(), ...scoreRanking(logits, images) }));
}

/** Top-1 and top-5 of scores of any kind, larger is likelier. */
export function scoreRanking(scores: Tensor, images: ImageSource): Accuracy {
  return scope(() => {
    const [top1, top5] = topKCorrect(scores, images.labels, [1, 5]).map((hits) => (100 * hits.item()) / images.count);
    return { top1: top1!, top5: top5! };
  });
}
