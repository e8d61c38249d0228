// What carries collectives: PyTorch's own c10d backends, Gloo between CPUs and NCCL between GPUs.
#pragma once

#include <string>

#include "compat.h"

/** Of LibTorch: what c10d offers changes with each release, and has been tried with this one. */
#define LAYERWISE_CAN_DISTRIBUTE LAYERWISE_TORCH_AT_LEAST(2, 13)

#if LAYERWISE_CAN_DISTRIBUTE
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#endif

namespace layerwise {

/** Why the backend is not to be had here, with what to do about it; empty where it is. */
std::string whyNoBackend(const std::string& name);

#if LAYERWISE_CAN_DISTRIBUTE
/** Connects this rank to all others, which must do the same. Blocks; throws what c10d throws. */
c10::intrusive_ptr<c10d::Backend> makeBackend(const std::string& name, const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                              int size, std::chrono::milliseconds timeout);
#endif

}  // namespace layerwise
