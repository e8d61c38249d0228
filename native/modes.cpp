// Modes that hold while a JavaScript function runs: gradients off, inference, autocast. Each is a C++ guard around the
// call, so it ends with the call, on an exception too, and belongs to the thread of this environment.
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include "call.h"
#include "exports.h"
#include "modes.h"

namespace layerwise {

void forgetConvertedWeights() { at::autocast::clear_cache(); }

void forgetConverted(const at::Tensor& changed) {
  const bool isWeight = changed.requires_grad() || (changed.is_view() && changed._base().requires_grad());
  if (isWeight) forgetConvertedWeights();
}

namespace {

class AutocastGuard {
 public:
  AutocastGuard(bool cuda, at::ScalarType dtype) : device_(cuda ? at::kCUDA : at::kCPU) {
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    wasEnabled_ = at::autocast::is_autocast_enabled(device_);
    dtypeBefore_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, dtype);
#else
    if (cuda) {
      wasEnabled_ = at::autocast::is_enabled();
      dtypeBefore_ = at::autocast::get_autocast_gpu_dtype();
      at::autocast::set_enabled(true);
      at::autocast::set_autocast_gpu_dtype(dtype);
    } else {
      wasEnabled_ = at::autocast::is_cpu_enabled();
      dtypeBefore_ = at::autocast::get_autocast_cpu_dtype();
      at::autocast::set_cpu_enabled(true);
      at::autocast::set_autocast_cpu_dtype(dtype);
    }
#endif
    at::autocast::increment_nesting();
  }

  ~AutocastGuard() {
    // Leaving the outermost autocast drops the cache of converted weights: they may change before the next one.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
#if LAYERWISE_TORCH_AT_LEAST(2, 4)
    at::autocast::set_autocast_enabled(device_, wasEnabled_);
    at::autocast::set_autocast_dtype(device_, dtypeBefore_);
#else
    if (device_ == at::kCUDA) {
      at::autocast::set_enabled(wasEnabled_);
      at::autocast::set_autocast_gpu_dtype(dtypeBefore_);
    } else {
      at::autocast::set_cpu_enabled(wasEnabled_);
      at::autocast::set_autocast_cpu_dtype(dtypeBefore_);
    }
#endif
  }

  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  at::DeviceType device_;
  bool wasEnabled_;
  at::ScalarType dtypeBefore_;
};

napi_value withGradMode(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "withGradMode", [](Call& call) {
    at::AutoGradMode guard(call.boolean(0, "enabled"));
    call.invoke(1, "body");
    return call.nothing();
  });
}

napi_value withInferenceMode(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "withInferenceMode", [](Call& call) {
    c10::InferenceMode guard(true);
    call.invoke(0, "body");
    return call.nothing();
  });
}

napi_value withAutocast(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, "withAutocast", [](Call& call) {
    const bool cuda = call.device(0, "device").is_cuda();
    const at::ScalarType dtype = call.dtype(1, "dtype");
    if (dtype != at::kBFloat16 && dtype != at::kHalf) {
      throw CodedError("INVALID_ARGUMENT", "expected bfloat16 or float16 for dtype");
    }
#if !LAYERWISE_TORCH_AT_LEAST(2, 4)
    if (!cuda && dtype == at::kHalf) {
      throw CodedError("INVALID_ARGUMENT", "float16 autocast on the CPU needs LibTorch 2.4 or later; use bfloat16");
    }
#endif
    AutocastGuard guard(cuda, dtype);
    call.invoke(2, "body");
    return call.nothing();
  });
}

napi_value isGradEnabled(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "isGradEnabled",
                    [](Call& call) { return call.fromBoolean(at::GradMode::is_enabled()); });
}

const NativeFunction kFunctions[] = {
    {"withGradMode", withGradMode},
    {"withInferenceMode", withInferenceMode},
    {"withAutocast", withAutocast},
    {"isGradEnabled", isGradEnabled},
};

}  // namespace

void exportModes(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
