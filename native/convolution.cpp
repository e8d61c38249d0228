// oneDNN lets all threads work on one gradient of weights, and they wait for each other inside its kernel, at a barrier where they
// spin. A thread whose core another program has keeps the others spinning until the system gives it a core again. Parts need no
// barrier: each is computed by one thread, and a thread that is free takes the next.
#include "convolution.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <torch/library.h>

#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <tuple>
#include <vector>

#include "parallel.h"

namespace layerwise {

namespace {

using Mask = std::array<bool, 3>;
using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Measured for 3 to 512 channels and 4 x 4 to 112 x 112 positions (bench/RESULTS.md).

/** Output positions of a batch below which it is divided by channels: too few to write a gradient for each part of them. */
constexpr int64_t kFewPositions = 4096;
constexpr int64_t kPositionsOfPart = 8192;
constexpr int64_t kLeastParts = 4;
constexpr int64_t kMostParts = 32;
constexpr int64_t kChannelsOfPart = 32;
constexpr int64_t kMostChannelParts = 8;

/** What convolution_backward is given beside tensors. */
struct Geometry {
  at::OptionalIntArrayRef biasSizes;
  at::IntArrayRef stride, padding, dilation;
  bool transposed;
  at::IntArrayRef outputPadding;
  int64_t groups;
};

/** LibTorch's own kernel. */
Three whole(const at::Tensor& outputGradient, const at::Tensor& input, const at::Tensor& weight,
            const Geometry& geometry, Mask mask) {
  return at::compositeexplicitautograd::convolution_backward(
      outputGradient, input, weight, geometry.biasSizes, geometry.stride, geometry.padding, geometry.dilation,
      geometry.transposed, geometry.outputPadding, geometry.groups, mask);
}

/** Runs body(part) for each part, on as many threads as there are; a free one takes the next. */
template <typename Body>
void takeInTurn(int64_t parts, const Body& body) {
  std::atomic<int64_t> next{0};
  const at::ThreadLocalState state;
  forEachIndex(std::min<int64_t>(at::get_num_threads(), parts), [&](int64_t) {
    const at::ThreadLocalStateGuard guard(state);
    const SingleThread alone;
    for (int64_t part = next++; part < parts; part = next++) body(part);
  });
}

/** A part's beginning and length. */
std::pair<int64_t, int64_t> rangeOf(int64_t part, int64_t parts, int64_t whole) {
  const int64_t start = part * whole / parts;
  return {start, (part + 1) * whole / parts - start};
}

/** Adds tensors up in the order of their indices, in whichever order they come. Takes bfloat16 in float32 and rounds once. */
class OrderedSum {
 public:
  explicit OrderedSum(int64_t count) : waiting_(count) {}

  void add(int64_t index, at::Tensor tensor) {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_[index] = std::move(tensor);
    for (; added_ < waiting_.size() && waiting_[added_].defined(); added_++) {
      const at::Tensor next = std::move(waiting_[added_]);
      if (added_ == 0) {
        dtype_ = next.scalar_type();
        sum_ = next.to(at::kFloat);
      } else {
        sum_.add_(next);
      }
    }
  }

  at::Tensor take() { return sum_.to(dtype_); }

 private:
  std::mutex mutex_;
  std::vector<at::Tensor> waiting_;
  size_t added_ = 0;
  at::ScalarType dtype_ = at::kFloat;
  at::Tensor sum_;
};

Three byImages(const at::Tensor& outputGradient, const at::Tensor& input, const at::Tensor& weight,
               const Geometry& geometry, bool withBias, int64_t parts) {
  OrderedSum weights(parts), biases(parts);
  takeInTurn(parts, [&](int64_t part) {
    const auto [start, length] = rangeOf(part, parts, input.size(0));
    auto [_, ofWeight, ofBias] = whole(outputGradient.narrow(0, start, length), input.narrow(0, start, length), weight,
                                       geometry, {false, true, withBias});
    weights.add(part, std::move(ofWeight));
    if (withBias) biases.add(part, std::move(ofBias));
  });
  return {at::Tensor(), weights.take(), withBias ? biases.take() : at::Tensor()};
}

Three byChannels(const at::Tensor& outputGradient, const at::Tensor& input, const at::Tensor& weight,
                 const Geometry& geometry, bool withBias, int64_t parts) {
  const at::Tensor weights = at::empty_like(weight);
  const at::Tensor bias = withBias ? at::empty({weight.size(0)}, outputGradient.options()) : at::Tensor();
  takeInTurn(parts, [&](int64_t part) {
    const auto [start, length] = rangeOf(part, parts, weight.size(0));
    const std::vector<int64_t> biasSizes{length};
    Geometry own = geometry;
    own.biasSizes = biasSizes;
    const auto [_, ofWeight, ofBias] = whole(outputGradient.narrow(1, start, length), input,
                                             weight.narrow(0, start, length), own, {false, true, withBias});
    weights.narrow(0, start, length).copy_(ofWeight);
    if (withBias) bias.narrow(0, start, length).copy_(ofBias);
  });
  return {at::Tensor(), weights, bias};
}

Three convolutionBackward(const at::Tensor& outputGradient, const at::Tensor& input, const at::Tensor& weight,
                          at::OptionalIntArrayRef biasSizes, at::IntArrayRef stride, at::IntArrayRef padding,
                          at::IntArrayRef dilation, bool transposed, at::IntArrayRef outputPadding, int64_t groups,
                          Mask mask) {
  const Geometry geometry{biasSizes, stride, padding, dilation, transposed, outputPadding, groups};
  const WeightGradientParts parts = transposed || !mask[1]
                                        ? WeightGradientParts{}
                                        : weightGradientParts(outputGradient, input, weight, groups);
  const bool isDivided = parts.count() > 1 && !at::in_parallel_region() && SingleThread::isSupported();
  if (!isDivided) return whole(outputGradient, input, weight, geometry, mask);
  at::Tensor ofInput;
  if (mask[0]) ofInput = std::get<0>(whole(outputGradient, input, weight, geometry, {true, false, false}));
  const auto divided = parts.ofChannels > 1 ? byChannels : byImages;
  auto [_, ofWeight, ofBias] = divided(outputGradient, input, weight, geometry, mask[2], parts.count());
  return {ofInput, ofWeight, ofBias};
}

TORCH_LIBRARY_IMPL(aten, CPU, library) { library.impl("convolution_backward", convolutionBackward); }

}  // namespace

WeightGradientParts weightGradientParts(const at::Tensor& outputGradient, const at::Tensor& input,
                                        const at::Tensor& weight, int64_t groups) {
  // oneDNN takes these; the kernels for others have no barrier.
  const bool isOneDnns = input.dim() == 4 && outputGradient.dim() == 4 && groups == 1 &&
                         (input.scalar_type() == at::kFloat || input.scalar_type() == at::kBFloat16);
  if (!isOneDnns || outputGradient.numel() == 0 || weight.numel() == 0) return {};
  const int64_t batch = input.size(0), channels = weight.size(0), positions = outputGradient.numel() / channels;
  const int64_t ofChannels = std::clamp<int64_t>(channels / kChannelsOfPart, 1, kMostChannelParts);
  const bool isByChannels = (positions < kFewPositions || batch < kLeastParts) && ofChannels > 1;
  const WeightGradientParts parts =
      isByChannels ? WeightGradientParts{1, ofChannels}
                   : WeightGradientParts{std::min(batch, std::clamp(positions / kPositionsOfPart, kLeastParts, kMostParts)), 1};
  // Where threads outnumber the parts, all of them on one gradient are quicker.
  return at::get_num_threads() <= parts.count() ? parts : WeightGradientParts{};
}

}  // namespace layerwise
