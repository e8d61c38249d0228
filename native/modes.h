// What autocast keeps while it is on: weights that it has converted.
#pragma once

#include <ATen/core/Tensor.h>

namespace layerwise {

/** Autocast converts a weight once. After its values have changed, by an optimiser, it has to convert it again. */
void forgetConvertedWeights();

/** The same for one tensor that was changed in place, where it is a weight or a view of one. */
void forgetConverted(const at::Tensor& changed);

}  // namespace layerwise
