// The gradient of a convolution's weights on the CPU, in parts that threads compute one after another.
#pragma once

#include <ATen/core/Tensor.h>

namespace layerwise {

/**
 * How the gradient of the weights is divided: by images, whose gradients are added up, or by output channels, where images are few.
 * It depends on shapes alone, and so do the sums, but that it is left whole, as one part, where threads outnumber the parts.
 */
struct WeightGradientParts {
  int64_t ofBatch = 1;
  int64_t ofChannels = 1;

  int64_t count() const { return ofBatch * ofChannels; }
};

WeightGradientParts weightGradientParts(const at::Tensor& outputGradient, const at::Tensor& input,
                                        const at::Tensor& weight, int64_t groups);

}  // namespace layerwise
