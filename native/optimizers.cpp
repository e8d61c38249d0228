// Optimiser steps as one call over all parameters, and the loss-scaling of float16.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include "compat.h"

#include <ATen/OpMathType.h>

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/pow.h>
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#endif

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "call.h"
#include "exports.h"
#include "modes.h"

namespace layerwise {

namespace {

using Tensors = std::vector<at::Tensor>;

struct Sgd {
  double learningRate, momentum, dampening, weightDecay;
  bool nesterov;
};

/** torch.optim.SGD's update, written out; `buffers` is empty when there is no momentum. */
void stepEach(Tensors& parameters, const Tensors& gradients, Tensors& buffers, const Sgd& sgd, bool isFirstStep) {
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
void requireShapesOf(const Tensors& parameters, const Tensors& buffers, const std::string& name) {
  for (size_t i = 0; i < parameters.size(); i++) {
    if (buffers[i].sizes() == parameters[i].sizes()) continue;
    const std::string index = "[" + std::to_string(i) + "]";
    throw CodedError("INVALID_ARGUMENT", "expected " + describeShape(parameters[i].sizes()) + ", the shape of parameters" + index +
                                             ", for " + name + index + ", got " + describeShape(buffers[i].sizes()));
  }
}

/**
 * On a CPU the fused kernel leaves 16-bit parameters as they are, all but those behind its last whole vector, and reads their
 * buffers as float32 (LibTorch 2.13.0; github.com/pytorch/pytorch/issues/191763).
 */
bool isFusedWrongly(const at::Tensor& parameter) { return parameter.is_cpu() && parameter.element_size() < 4; }

/** `others`: gradients and buffers, one a parameter. */
bool canFuse(const Tensors& parameters, std::initializer_list<const Tensors*> others) {
  for (size_t i = 0; i < parameters.size(); i++) {
    const at::Tensor& parameter = parameters[i];
    const bool liesApart =
        std::any_of(others.begin(), others.end(), [&](const Tensors* other) { return !liesLike(parameter, (*other)[i]); });
    if (liesApart || !parameter.is_non_overlapping_and_dense() || parameter.device() != parameters[0].device() ||
        parameter.scalar_type() != parameters[0].scalar_type() || isFusedWrongly(parameter)) {
      return false;
    }
  }
  return !parameters.empty();
}

#if LAYERWISE_TORCH_AT_LEAST(2, 4)
/** What LibTorch's kernel allocates for one parameter after another: a copy of what is not contiguous. */
void rehearseFusedSgd(const Tensors& parameters) {
  for (const at::Tensor& parameter : parameters) {
    if (!parameter.is_contiguous()) at::empty_like(parameter);
  }
}
#endif

napi_value sgdStep(napi_env env, napi_callback_info info) {
  return guarded<8>(env, info, "sgdStep", [](Call& call) {
    at::NoGradGuard noGrad;
    forgetConvertedWeights();
    const Tensors all = call.tensors(0, "parameters");
    const Tensors allBuffers = call.tensors(1, "momentumBuffers");
    const Sgd sgd{call.number(2, "learningRate"), call.number(3, "momentum"), call.number(4, "dampening"),
                  call.number(5, "weightDecay"), call.boolean(6, "nesterov")};
    const bool isFirstStep = call.boolean(7, "isFirstStep");
    if (sgd.momentum != 0 && allBuffers.size() != all.size()) {
      throw CodedError("INVALID_ARGUMENT", "expected one momentum buffer a parameter, " + std::to_string(all.size()) +
                                               ", got " + std::to_string(allBuffers.size()));
    }
    if (sgd.momentum != 0) requireShapesOf(all, allBuffers, "momentumBuffers");
    // A parameter without a gradient took no part in the loss: it stays, as in PyTorch.
    Tensors parameters, gradients, buffers;
    for (size_t i = 0; i < all.size(); i++) {
      if (!all[i].grad().defined()) continue;
      parameters.push_back(all[i]);
      gradients.push_back(all[i].grad());
      if (sgd.momentum != 0) buffers.push_back(allBuffers[i]);
    }
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    if (sgd.momentum == 0 ? canFuse(parameters, {&gradients}) : canFuse(parameters, {&gradients, &buffers})) {
      if (parameters[0].is_meta()) {
        rehearseFusedSgd(parameters);
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

struct AdamW {
  double learningRate, beta1, beta2, eps, weightDecay;
};

/** What AdamW keeps: of each parameter its averages, and how many gradients it has had, float32 of shape []. */
struct AdamWState {
  Tensors averages, squares, steps;
};

/**
 * torch.optim.AdamW's update, written out. Parameters of 16 bits are updated in float32, as by the fused kernel. The corrections
 * stay tensors, so that nothing waits for a device.
 */
void stepEach(Tensors& parameters, const Tensors& gradients, AdamWState& state, const AdamW& adamw) {
  for (size_t i = 0; i < parameters.size(); i++) {
    const at::ScalarType type = at::toOpMathType(parameters[i].scalar_type());
    const at::Tensor gradient = gradients[i].to(type);
    // The tensors themselves, where they have this type.
    at::Tensor value = parameters[i].to(type), average = state.averages[i].to(type), square = state.squares[i].to(type);
    const at::Tensor step = state.steps[i].to(at::kDouble);
    const at::Tensor correction1 = at::pow(adamw.beta1, step).neg_().add_(1);
    const at::Tensor correction2 = at::pow(adamw.beta2, step).neg_().add_(1);
    value.mul_(1 - adamw.learningRate * adamw.weightDecay);
    average.mul_(adamw.beta1).add_(gradient, 1 - adamw.beta1);
    square.mul_(adamw.beta2).addcmul_(gradient, gradient, 1 - adamw.beta2);
    const at::Tensor denominator = square.sqrt().div_(correction2.sqrt()).add_(adamw.eps);
    value.sub_(average.div(denominator).mul_(correction1.reciprocal().mul_(adamw.learningRate)));
    if (!parameters[i].is_same(value)) parameters[i].copy_(value);
    if (!state.averages[i].is_same(average)) state.averages[i].copy_(average);
    if (!state.squares[i].is_same(square)) state.squares[i].copy_(square);
  }
}

#if LAYERWISE_TORCH_AT_LEAST(2, 4)
/** The same memory in one dimension: LibTorch's kernel would copy what is not contiguous, there and back. */
Tensors asRows(const Tensors& tensors) {
  Tensors rows;
  rows.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    rows.push_back(tensor.is_contiguous() ? tensor : tensor.as_strided({tensor.numel()}, {1}));
  }
  return rows;
}
#endif

void requireOneEach(const Tensors& parameters, const Tensors& averages, const char* name) {
  if (averages.size() != parameters.size()) {
    throw CodedError("INVALID_ARGUMENT", "expected one tensor a parameter, " + std::to_string(parameters.size()) + ", for " +
                                             name + ", got " + std::to_string(averages.size()));
  }
  requireShapesOf(parameters, averages, name);
}

void requireSteps(const at::Tensor& steps, size_t parameters) {
  if (steps.scalar_type() == at::kFloat && steps.dim() == 1 && steps.size(0) == static_cast<int64_t>(parameters)) return;
  throw CodedError("INVALID_ARGUMENT", "expected float32 [" + std::to_string(parameters) + "], a number a parameter, for step, got " +
                                           c10::toString(steps.scalar_type()) + " " + describeShape(steps.sizes()));
}

napi_value adamwStep(napi_env env, napi_callback_info info) {
  return guarded<9>(env, info, "adamwStep", [](Call& call) {
    at::NoGradGuard noGrad;
    forgetConvertedWeights();
    call.requireOneDevice();
    const Tensors all = call.tensors(0, "parameters");
    const Tensors averages = call.tensors(1, "expAvg"), squares = call.tensors(2, "expAvgSq");
    const at::Tensor steps = call.tensor(3, "step");
    const AdamW adamw{call.number(4, "learningRate"), call.number(5, "beta1"), call.number(6, "beta2"),
                      call.number(7, "eps"), call.number(8, "weightDecay")};
    requireOneEach(all, averages, "expAvg");
    requireOneEach(all, squares, "expAvgSq");
    requireSteps(steps, all.size());
    // A parameter without a gradient took no part in the loss: it stays, and its count too, as in PyTorch.
    Tensors parameters, gradients;
    AdamWState state;
    for (size_t i = 0; i < all.size(); i++) {
      if (!all[i].grad().defined()) continue;
      parameters.push_back(all[i]);
      gradients.push_back(all[i].grad());
      state.averages.push_back(averages[i]);
      state.squares.push_back(squares[i]);
      state.steps.push_back(steps.select(0, static_cast<int64_t>(i)));
    }
    if (parameters.empty()) return call.nothing();
    at::_foreach_add_(state.steps, 1);
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    if (canFuse(parameters, {&gradients, &state.averages, &state.squares})) {
      // Nothing is allocated: there is nothing to rehearse.
      if (parameters[0].is_meta()) return call.nothing();
      Tensors rows = asRows(parameters), rowsOfAverages = asRows(state.averages), rowsOfSquares = asRows(state.squares);
      at::_fused_adamw_(rows, asRows(gradients), rowsOfAverages, rowsOfSquares, /*max_exp_avg_sqs=*/{}, state.steps,
                        adamw.learningRate, adamw.beta1, adamw.beta2, adamw.weightDecay, adamw.eps, /*amsgrad=*/false,
                        /*maximize=*/false);
      return call.nothing();
    }
#endif
    stepEach(parameters, gradients, state, adamw);
    return call.nothing();
  });
}

/** As torch.optim.Muon has it. */
constexpr int64_t kMaxIterations = 99;

struct Muon {
  double learningRate, momentum, weightDecay;
  bool nesterov;
  int64_t iterations;
  double eps;
  at::ScalarType type;
};

/**
 * About the nearest matrix of orthonormal rows, or columns where there are fewer: its singular values are 0.7 to 1.2 after five
 * iterations. The iteration of Newton and Schulz of fifth order with the coefficients of Jordan, "Muon" (2024).
 */
at::Tensor orthogonalised(const at::Tensor& matrix, const Muon& muon) {
  const double a = 3.4445, b = -4.7750, c = 2.0315;
  const bool isTall = matrix.size(0) > matrix.size(1);
  at::Tensor x = matrix.to(muon.type);
  if (isTall) x = x.t();
  x = x.div(x.norm().clamp_min(muon.eps));
  for (int64_t i = 0; i < muon.iterations; i++) {
    const at::Tensor gram = at::mm(x, x.t());
    x = at::addmm(x, at::addmm(gram, gram, gram, b, c), x, a);
  }
  return isTall ? x.t() : x;
}

/** torch.optim.Muon's update of one parameter, as a matrix of its first dimension and all others. */
void stepOne(const at::Tensor& parameter, const at::Tensor& buffer, const Muon& muon) {
  const at::Tensor& gradient = parameter.grad();
  buffer.lerp_(gradient, 1 - muon.momentum);
  const at::Tensor along = muon.nesterov ? gradient.lerp(buffer, muon.momentum) : buffer;
  const at::Tensor matrix = along.flatten(1);
  const at::Tensor update = orthogonalised(matrix, muon).reshape(parameter.sizes());
  const double ratio = static_cast<double>(matrix.size(0)) / static_cast<double>(matrix.size(1));
  parameter.mul_(1 - muon.learningRate * muon.weightDecay);
  parameter.add_(update, -muon.learningRate * std::sqrt(std::max(1.0, ratio)));
}

napi_value muonStep(napi_env env, napi_callback_info info) {
  return guarded<9>(env, info, "muonStep", [](Call& call) {
    at::NoGradGuard noGrad;
    forgetConvertedWeights();
    call.requireOneDevice();
    const Tensors parameters = call.tensors(0, "parameters"), buffers = call.tensors(1, "momentumBuffers");
    const Muon muon{call.number(2, "learningRate"), call.number(3, "momentum"), call.number(4, "weightDecay"),
                    call.boolean(5, "nesterov"), call.integer(6, "iterations"), call.number(7, "eps"),
                    call.boolean(8, "inFloat32") ? at::kFloat : at::kBFloat16};
    requireOneEach(parameters, buffers, "momentumBuffers");
    if (muon.iterations < 0 || muon.iterations > kMaxIterations) {
      throw CodedError("INVALID_ARGUMENT", "expected 0 to " + std::to_string(kMaxIterations) + " for iterations, got " +
                                               std::to_string(muon.iterations));
    }
    for (size_t i = 0; i < parameters.size(); i++) {
      if (buffers[i].scalar_type() != parameters[i].scalar_type()) {
        throw CodedError("INVALID_ARGUMENT", "expected the dtype of parameters[" + std::to_string(i) + "], " +
                                                 c10::toString(parameters[i].scalar_type()) + ", for momentumBuffers[" +
                                                 std::to_string(i) + "], got " + c10::toString(buffers[i].scalar_type()));
      }
      if (parameters[i].dim() >= 2 && parameters[i].numel() > 0 && parameters[i].is_floating_point()) continue;
      throw CodedError("INVALID_ARGUMENT", "expected floating point of two or more dimensions, none of size 0, for parameters[" +
                                               std::to_string(i) + "], got " + c10::toString(parameters[i].scalar_type()) + " " +
                                               describeShape(parameters[i].sizes()));
    }
    for (size_t i = 0; i < parameters.size(); i++) {
      if (parameters[i].grad().defined()) stepOne(parameters[i], buffers[i], muon);
    }
    return call.nothing();
  });
}

/** Whether all are finite, after the multiplication. */
bool multiplyAll(Tensors& gradients, double factor) {
  bool finite = true;
  for (at::Tensor& gradient : gradients) {
    gradient.mul_(factor);
    finite = at::isfinite(gradient).all().item<bool>() && finite;
  }
  return finite;
}

/** Multiplies every gradient by inverseScale; false when one of them is not finite, before or after. */
napi_value unscaleGradients(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "unscaleGradients", [](Call& call) {
    at::NoGradGuard noGrad;
    const double inverseScale = call.number(1, "inverseScale");
    const float inFloat = static_cast<float>(inverseScale);
    if (!std::isfinite(inFloat) || inFloat <= 0) {
      throw CodedError("INVALID_ARGUMENT", "expected a number above 0 that float32 holds for inverseScale, got " + describeNumber(inverseScale));
    }
    // LibTorch's kernel multiplies by a float32 and looks at the gradients before: not where one may become infinite by it.
    Tensors fused, others;
    for (const at::Tensor& tensor : call.tensors(0, "parameters")) {
      if (!tensor.grad().defined()) continue;
      const bool mayFuse = LAYERWISE_TORCH_AT_LEAST(2, 4) && inFloat <= 1 && tensor.grad().scalar_type() != at::kDouble;
      (mayFuse ? fused : others).push_back(tensor.grad());
    }
    bool finite = multiplyAll(others, inverseScale);
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    if (!fused.empty()) {
      const auto options = fused[0].options().dtype(at::kFloat);
      at::Tensor foundInf = at::zeros({}, options);
      at::_amp_foreach_non_finite_check_and_unscale_(fused, foundInf, at::full({}, inverseScale, options));
      finite = foundInf.item<float>() == 0 && finite;
    }
#endif
    return call.fromBoolean(finite);
  });
}

const NativeFunction kFunctions[] = {
    {"sgdStep", sgdStep},
    {"adamwStep", adamwStep},
    {"muonStep", muonStep},
    {"unscaleGradients", unscaleGradients},
};

}  // namespace

void exportOptimizers(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
