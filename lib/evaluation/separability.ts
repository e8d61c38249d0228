import { scope, type Tensor } from '../tensor/index.js';
import type { Accuracy } from './evaluate.js';
import { fitOneVersusRest, type OneVersusRestFit, type OneVersusRestOptions } from './logistic-regression.js';
import { topKCorrect } from './metrics.js';

/** Features [n, d] of images, and their labels int64 [n]. */
export interface LabelledFeatures {
  readonly features: Tensor;
  readonly labels: Tensor;
}

/** How well a linear classifier tells the classes apart. */
export interface LinearSeparability {
  readonly train: Accuracy;
  readonly test: Accuracy;
  readonly fit: OneVersusRestFit;
}

/**
 * The accuracy of a one-versus-rest logistic regression that was fitted to the training features until it converged
 * (paper, section 4.2: the linear separability of a layer). Throws LogisticRegressionError.
 */
export function linearSeparability(
  train: LabelledFeatures,
  test: LabelledFeatures,
  options: OneVersusRestOptions,
): LinearSeparability {
  return scope(() => {
    using classifier = fitOneVersusRest(train.features, train.labels, options);
    const accuracyOn = ({ features, labels }: LabelledFeatures): Accuracy => {
      const [top1, top5] = topKCorrect(classifier.scores(features), labels, [1, 5]).map(
        (hits) => (100 * hits.item()) / labels.numel,
      );
      return { top1: top1!, top5: top5! };
    };
    return { train: accuracyOn(train), test: accuracyOn(test), fit: classifier.fit };
  });
}
