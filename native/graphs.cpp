// CUDA graphs: the kernels of a piece of work recorded once, and launched again as a whole.
#include <c10/core/DeviceGuard.h>

#include <memory>

#include "call.h"
#include "exports.h"

#if defined(LAYERWISE_CUDA_HEADERS) && LAYERWISE_TORCH_AT_LEAST(2, 4)
#define LAYERWISE_CUDA_GRAPHS
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace layerwise {

namespace {

at::Device cudaDevice(Call& call) {
  const at::Device device = call.device(0, "device");
  if (device.is_cuda()) return device;
  throw CodedError("INVALID_ARGUMENT", "expected a CUDA device for device, got " + device.str());
}

}  // namespace

#if defined(LAYERWISE_CUDA_GRAPHS)

/** A captured graph, with the memory that its kernels use. */
struct Graph {
  at::cuda::CUDAGraph captured;
  c10::DeviceIndex device;
};

namespace {

napi_value captureGraph(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "captureGraph", [](Call& call) {
    const at::Device device = cudaDevice(call);
    auto graph = std::make_shared<Graph>();
    graph->device = device.index();
    // A graph is captured from a stream of its own, and nothing else may be under way.
    at::detail::getCUDAHooks().deviceSynchronize(device.index());
    {
      c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index()));
      // What other threads do, workers that train beside this one, is no part of the capture and does not break it.
      graph->captured.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      try {
        call.invoke(1, "body");
      } catch (...) {
        // The capture must end before anything else can run; that it is broken is told by the body's error.
        try {
          graph->captured.capture_end();
        } catch (const std::exception&) {
        }
        throw;
      }
      graph->captured.capture_end();
    }
    return call.fromNumber(call.environment->graphs.insert({std::move(graph)}));
  });
}

napi_value replayGraph(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "replayGraph", [](Call& call) {
    GraphSlot* slot = call.environment->graphs.find(static_cast<int32_t>(call.integer(0, "graph")));
    if (slot == nullptr) throw CodedError("TENSOR_DISPOSED", "the graph has been disposed");
    const c10::DeviceGuard device(at::Device(at::kCUDA, slot->graph->device));
    slot->graph->captured.replay();
    return call.nothing();
  });
}

napi_value disposeGraph(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "disposeGraph", [](Call& call) {
    const auto handle = static_cast<int32_t>(call.integer(0, "graph"));
    GraphSlot* slot = call.environment->graphs.find(handle);
    if (slot == nullptr) return call.fromBoolean(false);
    // Its memory must not be given away while its kernels run.
    at::detail::getCUDAHooks().deviceSynchronize(slot->graph->device);
    return call.fromBoolean(call.environment->graphs.remove(handle));
  });
}

}  // namespace

#else

/** Never made: `captureGraph` refuses. */
struct Graph {};

namespace {

[[noreturn]] void refuse() {
  throw CodedError("DEVICE_UNAVAILABLE",
                   "CUDA graphs need an addon built with CUDA's headers against a CUDA build of LibTorch 2.4 or later");
}

napi_value captureGraph(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "captureGraph", [](Call& call) -> napi_value {
    cudaDevice(call);
    refuse();
  });
}

napi_value replayGraph(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "replayGraph", [](Call&) -> napi_value { refuse(); });
}

napi_value disposeGraph(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "disposeGraph", [](Call&) -> napi_value { refuse(); });
}

}  // namespace

#endif

namespace {

const NativeFunction kFunctions[] = {
    {"captureGraph", captureGraph},
    {"replayGraph", replayGraph},
    {"disposeGraph", disposeGraph},
};

}  // namespace

void exportGraphs(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
