// The operators of native/operators.json. Each is a call of the LibTorch function of its name, or of a helper below
// where the signature needs one. The functions themselves are generated.
#define LAYERWISE_OPERATOR_HEADERS
#include "operators.inc"
#undef LAYERWISE_OPERATOR_HEADERS

#include <ATen/Context.h>
#include <ATen/core/List.h>
#include <ATen/core/Reduction.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "call.h"
#include "exports.h"
#include "meta.h"
#include "modes.h"
#include "normalization.h"
#include "synchronized.h"

namespace layerwise {

namespace {

at::Tensor indexLeading(const at::Tensor& self, const std::vector<at::Tensor>& indices) {
  c10::List<Optional<at::Tensor>> list;
  list.reserve(indices.size());
  for (const at::Tensor& index : indices) list.push_back(index);
  return at::index(self, list);
}

/** LibTorch would turn the number into one of self's type first: 256 would be 0 beside bytes. */
at::Tensor comparable(const at::Tensor& self, const at::Scalar& other) {
  const bool isBeyond = other.isIntegral(false) && (other.toLong() < 0 || other.toLong() > 255);
  return self.scalar_type() == at::kByte && isBeyond ? self.to(at::kLong) : self;
}

at::Tensor isEqual(const at::Tensor& self, const at::Tensor& other) { return at::eq(self, other); }
at::Tensor isEqual(const at::Tensor& self, const at::Scalar& other) { return at::eq(comparable(self, other), other); }
at::Tensor isLess(const at::Tensor& self, const at::Tensor& other) { return at::lt(self, other); }
at::Tensor isLess(const at::Tensor& self, const at::Scalar& other) { return at::lt(comparable(self, other), other); }
at::Tensor isGreater(const at::Tensor& self, const at::Tensor& other) { return at::gt(self, other); }
at::Tensor isGreater(const at::Tensor& self, const at::Scalar& other) { return at::gt(comparable(self, other), other); }

at::Tensor contiguousAs(const at::Tensor& self, at::MemoryFormat format) { return self.contiguous(format); }

at::Tensor convert(const at::Tensor& self, Optional<at::ScalarType> dtype, Optional<at::Device> device,
                   Optional<at::MemoryFormat> format) {
  return self.to(self.options().dtype(dtype.value_or(self.scalar_type())).device(device.value_or(self.device())),
                 /*non_blocking=*/false, /*copy=*/false, format);
}

at::Tensor convolve(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, at::IntArrayRef stride,
                    at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const auto output =
      at::conv2d(castAsOnCpu(input), castAsOnCpu(weight), castAsOnCpu(bias), stride, padding, dilation, groups);
  countMultiplyAdds(output, weight.numel() / std::max<int64_t>(1, weight.size(0)));
  return output;
}

at::Tensor linearMap(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const auto output = at::linear(castAsOnCpu(input), castAsOnCpu(weight), castAsOnCpu(bias));
  countMultiplyAdds(output, input.size(-1));
  return output;
}

at::Tensor matrixProduct(const at::Tensor& self, const at::Tensor& other) {
  const auto output = at::matmul(castAsOnCpu(self), castAsOnCpu(other));
  countMultiplyAdds(output, self.size(-1));
  return output;
}

/** A value a channel, without a gradient for the statistics: LibTorch would accept others and fail in the backward pass. */
void requirePerChannel(const at::Tensor& input, const at::Tensor& tensor, const char* name, bool isStatistic) {
  if (!tensor.defined() || input.dim() < 2) return;
  if (tensor.dim() != 1 || tensor.size(0) != input.size(1)) {
    throw CodedError("INVALID_ARGUMENT", "expected [" + std::to_string(input.size(1)) + "], a value a channel, for " + name +
                                             ", got " + describeShape(tensor.sizes()));
  }
  if (isStatistic && tensor.requires_grad()) {
    throw CodedError("INVALID_ARGUMENT", std::string("expected ") + name + " without a gradient, got a tensor that requires one");
  }
}

void requirePerChannel(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& runningMean, const at::Tensor& runningVar) {
  requirePerChannel(input, weight, "weight", false);
  requirePerChannel(input, bias, "bias", false);
  requirePerChannel(input, runningMean, "runningMean", true);
  requirePerChannel(input, runningVar, "runningVar", true);
}

void requireSeveralValues(const at::Tensor& input) {
  // PyTorch's Python checks this, not its C++: the variance of one value would write NaN into the running statistics.
  if (input.dim() >= 2 && input.size(1) > 0 && input.numel() == input.size(1)) {
    throw CodedError("INVALID_ARGUMENT", "expected more than one value a channel in training");
  }
}

at::Tensor batchNormalize(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& runningMean, const at::Tensor& runningVar, bool training, double momentum,
                          double eps) {
  requirePerChannel(input, weight, bias, runningMean, runningVar);
  if (training && synchronizer() != nullptr) {
    return synchronizedBatchNorm(input, weight, bias, runningMean, runningVar, momentum, eps, synchronizer());
  }
  if (training) requireSeveralValues(input);
  return at::batch_norm(input, weight, bias, runningMean, runningVar, training, momentum, eps,
                        at::globalContext().userEnabledCuDNN());
}

at::Tensor batchNormalizeRelu(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                              const at::Tensor& runningMean, const at::Tensor& runningVar, double momentum,
                              double eps) {
  requirePerChannel(input, weight, bias, runningMean, runningVar);
  if (synchronizer() == nullptr) requireSeveralValues(input);
  return batchNormRelu(input, weight, bias, runningMean, runningVar, momentum, eps);
}

/** LibTorch's dropout, drawn from a generator other than the process's; at::dropout, written out, takes none. */
at::Tensor dropoutFrom(const at::Tensor& input, double p, bool training, const Optional<at::Generator>& generator) {
  if (!generator.has_value() || !training || !(p > 0 && p < 1) || input.numel() == 0) {
    return at::dropout(input, p, training);
  }
  return input.mul(at::empty_like(input).bernoulli_(1 - p, generator).div_(1 - p));
}

/** As `dropoutFrom`, a draw for each map. */
at::Tensor dropoutMapsFrom(const at::Tensor& input, double p, bool training, const Optional<at::Generator>& generator) {
  if (!generator.has_value() || !training || !(p > 0 && p < 1) || input.numel() == 0 || input.dim() < 2) {
    return at::feature_dropout(input, p, training);
  }
  std::vector<int64_t> maps(static_cast<size_t>(input.dim()), 1);
  std::copy_n(input.sizes().begin(), 2, maps.begin());
  return input.mul(at::empty(maps, input.options()).bernoulli_(1 - p, generator).div_(1 - p));
}

/** Before 2.1 LibTorch's kernels take weights of the input's dtype alone: others are computed in that of the weights. */
template <typename Normalize>
at::Tensor inDtypeOfWeights(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                            const Normalize& normalize) {
#if !LAYERWISE_TORCH_AT_LEAST(2, 1)
  const at::Tensor& given = weight.defined() ? weight : bias;
  if (given.defined() && given.scalar_type() != input.scalar_type()) {
    return normalize(input.to(given.scalar_type())).to(input.scalar_type());
  }
#endif
  return normalize(input);
}

at::Tensor groupNormalize(const at::Tensor& input, int64_t groups, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  requirePerChannel(input, weight, "weight", false);
  requirePerChannel(input, bias, "bias", false);
  if (groups < 1 || (input.dim() >= 2 && input.size(1) % groups != 0)) {
    throw CodedError("INVALID_ARGUMENT", "expected a divisor of the channels of " + describeShape(input.sizes()) +
                                             " for groups, got " + std::to_string(groups));
  }
  if (input.is_meta() && input.dim() == 4 && input.suggest_memory_format() == at::MemoryFormat::ChannelsLast) {
    // Only on the CPU LibTorch leaves channels last. Elsewhere it would copy: here the same memory is called rows.
    const at::IntArrayRef sizes = input.sizes();
    const at::Tensor rows = input.contiguous(at::MemoryFormat::ChannelsLast).permute({0, 2, 3, 1}).view(sizes);
    const at::Tensor output = at::group_norm(rows, groups, weight, bias, eps);
    return output.view({sizes[0], sizes[2], sizes[3], sizes[1]}).permute({0, 3, 1, 2});
  }
  return inDtypeOfWeights(input, weight, bias, [&](const at::Tensor& x) {
    return at::group_norm(x, groups, weight, bias, eps, at::globalContext().userEnabledCuDNN());
  });
}

at::Tensor layerNormalize(const at::Tensor& input, at::IntArrayRef normalizedShape, const at::Tensor& weight,
                          const at::Tensor& bias, double eps) {
  return inDtypeOfWeights(input, weight, bias, [&](const at::Tensor& x) {
    return at::layer_norm(x, normalizedShape, weight, bias, eps, at::globalContext().userEnabledCuDNN());
  });
}

Optional<double> scaleOrNone(double scale) { return scale == 0 ? Optional<double>() : Optional<double>(scale); }

at::Tensor upsampleNearest(const at::Tensor& input, const IntegerList& size, double scaleHeight, double scaleWidth) {
  return at::upsample_nearest2d(input, size, scaleOrNone(scaleHeight), scaleOrNone(scaleWidth));
}

at::Tensor upsampleBilinear(const at::Tensor& input, const IntegerList& size, bool alignCorners, double scaleHeight,
                            double scaleWidth) {
  return at::upsample_bilinear2d(input, size, alignCorners, scaleOrNone(scaleHeight), scaleOrNone(scaleWidth));
}

at::Tensor gaussianErrorLinear(const at::Tensor& input, int64_t approximation) {
  return at::gelu(input, approximation == 0 ? "none" : "tanh");
}

at::Tensor adaptiveAverage(const at::Tensor& input, const IntegerList& outputSize) {
  const bool isWhole = input.dim() == 4 && input.numel() > 0 && at::isFloatingType(input.scalar_type()) &&
                       outputSize[0] > 0 && outputSize[1] > 0 && input.size(2) % outputSize[0] == 0 &&
                       input.size(3) % outputSize[1] == 0;
  if (isWhole && input.requires_grad() && at::GradMode::is_enabled()) {
    return averageWindows(input, outputSize[0], outputSize[1]);
  }
  return at::adaptive_avg_pool2d(input, outputSize);
}

at::Tensor crossEntropy(const at::Tensor& logits, const at::Tensor& target, int64_t reduction, double labelSmoothing) {
  return at::cross_entropy_loss(logits, target, /*weight=*/{}, reduction, /*ignore_index=*/-100, labelSmoothing);
}

#include "operators.inc"

}  // namespace

void exportOperators(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kOperators);
}

}  // namespace layerwise
