// The operators of native/operators.json. Each is a call of the LibTorch function of its name, or of a helper below
// where the signature needs one. The functions themselves are generated.
#define LAYERWISE_OPERATOR_HEADERS
#include "operators.inc"
#undef LAYERWISE_OPERATOR_HEADERS

#include <ATen/Context.h>
#include <ATen/core/List.h>
#include <ATen/core/Reduction.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "call.h"
#include "exports.h"
#include "meta.h"
#include "normalization.h"

namespace layerwise {

namespace {

at::Tensor indexLeading(const at::Tensor& self, const std::vector<at::Tensor>& indices) {
  c10::List<Optional<at::Tensor>> list;
  list.reserve(indices.size());
  for (const at::Tensor& index : indices) list.push_back(index);
  return at::index(self, list);
}

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
  if (training) requireSeveralValues(input);
  return at::batch_norm(input, weight, bias, runningMean, runningVar, training, momentum, eps,
                        at::globalContext().userEnabledCuDNN());
}

at::Tensor batchNormalizeRelu(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                              const at::Tensor& runningMean, const at::Tensor& runningVar, double momentum,
                              double eps) {
  requirePerChannel(input, weight, bias, runningMean, runningVar);
  requireSeveralValues(input);
  return batchNormRelu(input, weight, bias, runningMean, runningVar, momentum, eps);
}

/** LibTorch's dropout, drawn from a generator other than the process's; at::dropout, written out, takes none. */
at::Tensor dropoutFrom(const at::Tensor& input, double p, bool training, const Optional<at::Generator>& generator) {
  if (!generator.has_value() || !training || !(p > 0 && p < 1) || input.numel() == 0) {
    return at::dropout(input, p, training);
  }
  return input.mul(at::empty_like(input).bernoulli_(1 - p, generator).div_(1 - p));
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

at::Tensor crossEntropy(const at::Tensor& logits, const at::Tensor& target, int64_t reduction) {
  return at::cross_entropy_loss(logits, target, /*weight=*/{}, reduction);
}

#include "operators.inc"

}  // namespace

void exportOperators(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kOperators);
}

}  // namespace layerwise
