// Batch norm with its ReLU, and average pooling, with backward passes that keep less than those of their parts.
#pragma once

#include <ATen/core/Tensor.h>

namespace layerwise {

/**
 * relu(batch_norm(input)) in training: input [n, channels, height, width], float32 parameters [channels]; the running
 * statistics are updated in place. Differentiable in input, weight and bias. Where channels lie last on a CPU it is one
 * operation that keeps its input alone for the backward pass; elsewhere batch norm and an in-place ReLU of LibTorch.
 */
at::Tensor batchNormRelu(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& runningMean, const at::Tensor& runningVar, double momentum, double eps);

/**
 * The mean of each of outputHeight x outputWidth equal windows of input [n, channels, height, width], whose sizes are
 * multiples of these. Keeps nothing for the backward pass, where LibTorch's keeps its input.
 */
at::Tensor averageWindows(const at::Tensor& input, int64_t outputHeight, int64_t outputWidth);

}  // namespace layerwise
