import type { ImageSource } from '../data/index.js';
import type { Module } from '../nn/index.js';
import { clearGradients, enableGrad, keep, noGrad, scope, type Tensor, zeros } from '../tensor/index.js';
import { optionsOf } from './errors.js';

/**
 * How much the loss is expected to change when a filter is removed: the first-order criterion of Molchanov et al.
 * ("Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017, eq. 9-10), for each of C filters
 * the mean over images of |mean over positions of z * dL/dz|, with z the filter's output and L the cross entropy of the
 * image. `features` gives the filters' outputs [batch, C, height, width] of uint8 images, `head` the logits of them;
 * both must be in evaluation mode. Between batches `breathe` lets other work run.
 */
export async function filterImportance(
  images: ImageSource,
  modules: { features: (images: Tensor) => Tensor; head: Module },
  options: { batchSize: number; breathe?: () => Promise<void> },
): Promise<Float64Array> {
  const { batchSize, breathe } = optionsOf('filterImportance', options, ['batchSize', 'breathe']);
  let sums: Tensor | null = null;
  try {
    for await (const batch of images.batches(batchSize)) {
      scope(() => {
        const { images: pixels, labels } = batch.tensors();
        const activations = noGrad(() => modules.features(pixels)).detach();
        activations.requiresGrad = true;
        enableGrad(() => modules.head.forward(activations).crossEntropy(labels, { reduction: 'sum' })).backward();
        clearGradients(modules.head.parameters());
        noGrad(() => {
          const effects = activations
            .mul(activations.grad!)
            .mean({ dims: [2, 3] })
            .abs();
          sums ??= keep(zeros([effects.shape[1]!], { dtype: 'float64', device: effects.device }));
          sums.add_(effects.to({ dtype: 'float64' }).sum({ dims: [0] }));
        });
      });
      await breathe?.();
    }
    const totals = (sums as Tensor | null)?.toTypedArray() as Float64Array | undefined;
    return (totals ?? new Float64Array()).map((sum) => sum / images.count);
  } finally {
    (sums as Tensor | null)?.dispose();
  }
}
