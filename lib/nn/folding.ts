import { noGrad, scope, type Tensor } from '../tensor/index.js';
import type { Conv2d } from './conv2d.js';
import type { BatchNorm2d } from './normalization.js';

/**
 * The weight and bias, float32, of the one convolution that does what `conv` followed by `bn` in evaluation mode does:
 * weight * g and (bias - mean) * g + beta, where g = gamma / sqrt(variance + eps) for each output channel. They belong to
 * the caller; computed in float64.
 */
export function foldBatchNorm(conv: Conv2d, bn: BatchNorm2d): { weight: Tensor; bias: Tensor } {
  return scope(() =>
    noGrad(() => {
      const wide = (tensor: Tensor): Tensor => tensor.detach().to({ dtype: 'float64' });
      const gain = wide(bn.weight).div(wide(bn.runningVar).add(bn.eps).sqrt());
      const mean = wide(bn.runningMean);
      const centred = conv.bias === null ? mean.neg() : wide(conv.bias).sub(mean);
      return {
        weight: wide(conv.weight)
          .mul(gain.reshape([-1, 1, 1, 1]))
          .to({ dtype: 'float32' }),
        bias: centred.mul(gain).add(wide(bn.bias)).to({ dtype: 'float32' }),
      };
    }),
  );
}
