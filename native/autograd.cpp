// Gradients: which tensors want one, the backward pass, reading and clearing.
#include <ATen/core/Tensor.h>

#include "call.h"
#include "exports.h"

namespace layerwise {

namespace {

napi_value requiresGrad(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "requiresGrad",
                    [](Call& call) { return call.fromBoolean(call.tensor(0, "self").requires_grad()); });
}

napi_value setRequiresGrad(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "setRequiresGrad", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    const bool required = call.boolean(1, "required");
    // LibTorch would leave it as it is, without a word.
    if (!required && self.requires_grad() && !self.is_leaf()) {
      throw CodedError("INVALID_ARGUMENT", "expected true for required: the tensor was computed from one that requires a gradient; detach() gives it without");
    }
    self.set_requires_grad(required);
    return call.nothing();
  });
}

napi_value backward(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, "backward", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    self.backward(call.optionalTensor(1, "gradient"), /*retain_graph=*/call.boolean(2, "retainGraph"));
    return call.nothing();
  });
}

/** The accumulated gradient, or the handle "none". */
napi_value gradient(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "grad", [](Call& call) {
    const at::Tensor& grad = call.tensor(0, "self").grad();
    if (!grad.defined()) return call.fromNumber(HandleTable<at::Tensor>::kNone);
    return call.result(grad);
  });
}

napi_value clearGradients(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "clearGradients", [](Call& call) {
    for (at::Tensor& tensor : call.tensors(0, "tensors")) tensor.mutable_grad().reset();
    return call.nothing();
  });
}

const NativeFunction kFunctions[] = {
    {"requiresGrad", requiresGrad}, {"setRequiresGrad", setRequiresGrad}, {"backward", backward},
    {"grad", gradient},             {"clearGradients", clearGradients},
};

}  // namespace

void exportAutograd(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
