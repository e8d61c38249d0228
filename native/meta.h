// The meta device: tensors that have shapes and no values, on which a run is rehearsed without computing.
#pragma once

#include <ATen/core/Tensor.h>

#include "compat.h"

namespace layerwise {

/** Of LibTorch: an older one has other interfaces of its allocators and of autocast. */
#define LAYERWISE_CAN_REHEARSE LAYERWISE_TORCH_AT_LEAST(2, 4)

/**
 * CPU autocast leaves tensors on meta as they are. This casts one as autocast would cast the CPU's, where it is on, so that a
 * rehearsal makes the tensors that the run will make. Any other tensor is given back.
 */
at::Tensor castAsOnCpu(const at::Tensor& tensor);

/** Told of a product on meta: each element of its output takes so many multiply-adds. */
void countMultiplyAdds(const at::Tensor& output, int64_t each);

/** The multiply-adds of this thread's products on meta from its construction on; the count around it has them too. */
class MultiplyAddCount {
 public:
  MultiplyAddCount();
  ~MultiplyAddCount();
  MultiplyAddCount(const MultiplyAddCount&) = delete;
  MultiplyAddCount& operator=(const MultiplyAddCount&) = delete;
  double count() const { return count_; }

 private:
  friend void countMultiplyAdds(const at::Tensor& output, int64_t each);
  MultiplyAddCount* const outer_;
  /** Whole numbers, exact up to 2^53 and no overflow beyond. */
  double count_ = 0;
};

}  // namespace layerwise
