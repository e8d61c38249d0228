// Optimiser steps as one call over all parameters, and the loss-scaling of float16.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include "compat.h"

#include <ATen/ops/isfinite.h>
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#endif

#include "call.h"
#include "exports.h"

namespace layerwise {

namespace {

struct Sgd {
  double learningRate, momentum, dampening, weightDecay;
  bool nesterov;
};

/** torch.optim.SGD's update, written out; `buffers` is empty when there is no momentum. */
void stepEach(std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& gradients,
              std::vector<at::Tensor>& buffers, const Sgd& sgd, bool isFirstStep) {
  for (size_t i = 0; i < parameters.size(); i++) {
    at::Tensor gradient = gradients[i];
    if (sgd.weightDecay != 0) gradient = gradient.add(parameters[i], sgd.weightDecay);
    if (sgd.momentum != 0) {
      if (isFirstStep) {
        buffers[i].copy_(gradient);
      } else {
        buffers[i].mul_(sgd.momentum).add_(gradient, 1 - sgd.dampening);
      }
      gradient = sgd.nesterov ? gradient.add(buffers[i], sgd.momentum) : buffers[i];
    }
    parameters[i].add_(gradient, -sgd.learningRate);
  }
}

/** The fused kernel walks memory linearly: what takes part in one parameter's step must lie alike. */
bool liesLike(const at::Tensor& parameter, const at::Tensor& other) {
  return parameter.scalar_type() == other.scalar_type() && parameter.sizes() == other.sizes() &&
         parameter.strides() == other.strides() && parameter.device() == other.device();
}

/** Before anything is changed: a buffer of another shape would be broadcast, or fail in the middle of the step. */
void requireShapeOf(const at::Tensor& parameter, const at::Tensor& buffer, size_t i) {
  if (buffer.sizes() == parameter.sizes()) return;
  throw CodedError("INVALID_ARGUMENT", "expected " + describeShape(parameter.sizes()) + ", the shape of parameters[" + std::to_string(i) +
                                           "], for momentumBuffers[" + std::to_string(i) + "], got " + describeShape(buffer.sizes()));
}

/**
 * On a CPU the fused kernel leaves 16-bit parameters as they are, all but those behind its last whole vector, and reads their
 * buffers as float32 (LibTorch 2.13.0; github.com/pytorch/pytorch/issues/191763).
 */
bool isFusedWrongly(const at::Tensor& parameter) { return parameter.is_cpu() && parameter.element_size() < 4; }

bool canFuse(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& gradients,
             const std::vector<at::Tensor>& buffers) {
  for (size_t i = 0; i < parameters.size(); i++) {
    if (!liesLike(parameters[i], gradients[i]) || (!buffers.empty() && !liesLike(parameters[i], buffers[i])) ||
        !parameters[i].is_non_overlapping_and_dense() || parameters[i].device() != parameters[0].device() ||
        parameters[i].scalar_type() != parameters[0].scalar_type() || isFusedWrongly(parameters[i])) {
      return false;
    }
  }
  return !parameters.empty();
}

#if LAYERWISE_TORCH_AT_LEAST(2, 4)
/** What LibTorch's kernel allocates for one parameter after another: a copy of what is not contiguous. */
void rehearseFused(const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& parameter : parameters) {
    if (!parameter.is_contiguous()) at::empty_like(parameter);
  }
}
#endif

napi_value sgdStep(napi_env env, napi_callback_info info) {
  return guarded<8>(env, info, "sgdStep", [](Call& call) {
    at::NoGradGuard noGrad;
    const std::vector<at::Tensor> all = call.tensors(0, "parameters");
    const std::vector<at::Tensor> allBuffers = call.tensors(1, "momentumBuffers");
    const Sgd sgd{call.number(2, "learningRate"), call.number(3, "momentum"), call.number(4, "dampening"),
                  call.number(5, "weightDecay"), call.boolean(6, "nesterov")};
    const bool isFirstStep = call.boolean(7, "isFirstStep");
    if (sgd.momentum != 0 && allBuffers.size() != all.size()) {
      throw CodedError("INVALID_ARGUMENT", "expected one momentum buffer a parameter, " + std::to_string(all.size()) +
                                               ", got " + std::to_string(allBuffers.size()));
    }
    if (sgd.momentum != 0) {
      for (size_t i = 0; i < all.size(); i++) requireShapeOf(all[i], allBuffers[i], i);
    }
    // A parameter without a gradient took no part in the loss: it stays, as in PyTorch.
    std::vector<at::Tensor> parameters, gradients, buffers;
    for (size_t i = 0; i < all.size(); i++) {
      if (!all[i].grad().defined()) continue;
      parameters.push_back(all[i]);
      gradients.push_back(all[i].grad());
      if (sgd.momentum != 0) buffers.push_back(allBuffers[i]);
    }
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    if (canFuse(parameters, gradients, buffers)) {
      if (parameters[0].is_meta()) {
        rehearseFused(parameters);
        return call.nothing();
      }
      at::_fused_sgd_(parameters, gradients, buffers, sgd.weightDecay, sgd.momentum, sgd.learningRate, sgd.dampening,
                      sgd.nesterov, /*maximize=*/false, isFirstStep);
      return call.nothing();
    }
#endif
    stepEach(parameters, gradients, buffers, sgd, isFirstStep);
    return call.nothing();
  });
}

/** Multiplies every gradient by inverseScale; false when one of them is not finite. */
napi_value unscaleGradients(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "unscaleGradients", [](Call& call) {
    at::NoGradGuard noGrad;
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& tensor : call.tensors(0, "parameters")) {
      if (tensor.grad().defined()) gradients.push_back(tensor.grad());
    }
    const double inverseScale = call.number(1, "inverseScale");
    if (gradients.empty()) return call.fromBoolean(true);
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    const auto options = gradients[0].options().dtype(at::kFloat);
    at::Tensor foundInf = at::zeros({}, options);
    at::_amp_foreach_non_finite_check_and_unscale_(gradients, foundInf, at::full({}, inverseScale, options));
    return call.fromBoolean(foundInf.item<float>() == 0);
#else
    bool finite = true;
    for (at::Tensor& gradient : gradients) {
      gradient.mul_(inverseScale);
      finite = finite && at::isfinite(gradient).all().item<bool>();
    }
    return call.fromBoolean(finite);
#endif
  });
}

const NativeFunction kFunctions[] = {
    {"sgdStep", sgdStep},
    {"unscaleGradients", unscaleGradients},
};

}  // namespace

void exportOptimizers(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
