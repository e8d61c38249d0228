#include "backends.h"

#if LAYERWISE_CAN_DISTRIBUTE
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
// c10d's header of NCCL leads to those of CUDA's libraries, which the runtime's headers alone do not bring.
#if defined(LAYERWISE_NCCL_HEADERS) && __has_include(<cusparse.h>) && __has_include(<cublas_v2.h>) && \
    __has_include(<cusolverDn.h>)
#define LAYERWISE_WITH_NCCL
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

#include <ATen/Context.h>

#include <stdexcept>

namespace layerwise {

std::string whyNoBackend(const std::string& name) {
#if !LAYERWISE_CAN_DISTRIBUTE
  (void)name;
  return "LibTorch " TORCH_VERSION " is too old for several processes; it takes 2.13 or later";
#else
  if (name == "gloo") return "";
#if !defined(LAYERWISE_WITH_CUDA)
  return "this LibTorch is a CPU build";
#elif !defined(LAYERWISE_WITH_NCCL)
  return "the headers of CUDA and of NCCL were not found when the addon was compiled; install the CUDA toolkit (or set "
         "CUDA_HOME) and NCCL's development package (libnccl-dev, or the wheel nvidia-nccl-cu13 beside torch), then run "
         "set-up again";
#else
  return at::globalContext().hasCUDA() ? "" : "no usable NVIDIA driver or device was found";
#endif
#endif
}

#if LAYERWISE_CAN_DISTRIBUTE
c10::intrusive_ptr<c10d::Backend> makeBackend(const std::string& name, const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                              int size, std::chrono::milliseconds timeout) {
  if (name == "gloo") {
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size,
                                                       c10d::ProcessGroupGloo::Options::create_default(timeout));
  }
#if defined(LAYERWISE_WITH_NCCL)
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
#else
  throw std::runtime_error("no backend " + name);
#endif
}
#endif

}  // namespace layerwise
