// Linear probes of the frozen features of a trained network, on the run's own classes or on others.
import { type Dataset, openImages } from '../data/index.js';
import {
  type LinearSeparability,
  linearSeparability,
  type OneVersusRestOptions,
  predictAll,
} from '../evaluation/index.js';
import type { Tensor } from '../tensor/index.js';
import type { TrainedRun } from './trained-run.js';

/** Options of the logistic regression of `probeLayer`. */
export type ProbeOptions = Omit<OneVersusRestOptions, 'classes'>;

/**
 * The linear separability of a layer's frozen features, averaged to 2x2, on a data set: that of the run, or another one
 * whose classes the network has never been told (transfer). Images are taken as in evaluation, without augmentation.
 * `layer` counts from 0. Throws RunDirectoryError for a layer that is not there and LogisticRegressionError.
 */
export async function probeLayer(
  run: TrainedRun,
  dataset: Dataset,
  layer: number,
  options: ProbeOptions = {},
): Promise<LinearSeparability> {
  run.checkLayer(layer);
  run.requireShape(dataset.train);
  run.requireShape(dataset.test);
  const { batchSize } = run.recipe.evaluation;
  const train = openImages(dataset.train, { device: run.device, randomResizedCrop: false });
  const test = openImages(dataset.test, { device: run.device, randomResizedCrop: false });
  try {
    const featuresOf = (images: typeof train): Promise<Tensor> =>
      predictAll(images, (pixels) => run.features(pixels, layer), { batchSize });
    using trainFeatures = await featuresOf(train);
    using testFeatures = await featuresOf(test);
    return linearSeparability(
      { features: trainFeatures, labels: train.labels },
      { features: testFeatures, labels: test.labels },
      { ...options, classes: dataset.classes.length },
    );
  } finally {
    train.dispose();
    test.dispose();
  }
}
