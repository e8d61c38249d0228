// CUDA graphs: the kernels of a piece of work recorded once, and launched again as a whole.
#include <c10/core/DeviceGuard.h>

#include <map>
#include <memory>
#include <mutex>

#include "call.h"
#include "exports.h"

#if defined(LAYERWISE_CUDA_HEADERS) && LAYERWISE_TORCH_AT_LEAST(2, 4)
#define LAYERWISE_CUDA_GRAPHS
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
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

/** One capture at a time in the process: what is done around one, on the whole device, would break another. */
std::mutex& captureMutex() {
  static auto* const mutex = new std::mutex();
  return *mutex;
}

/** A second capture inside a capture's body would wait for itself. */
thread_local bool isCapturing = false;

/**
 * The stream of all captures on a device, and of the warm-up before them: cuBLAS keeps a workspace for each stream that it
 * has ever been used on.
 */
c10::cuda::CUDAStream captureStream(c10::DeviceIndex device) {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)).first->second;
}

/** Runs a function of JavaScript on the stream of captures, after what the current stream was given and before its rest. */
napi_value onCaptureStream(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "onCaptureStream", [](Call& call) {
    const at::Device device = cudaDevice(call);
    c10::cuda::getCurrentCUDAStream(device.index()).synchronize();
    const c10::cuda::CUDAStream stream = captureStream(device.index());
    {
      c10::cuda::CUDAStreamGuard guard(stream);
      call.invoke(1, "body");
    }
    stream.synchronize();
    return call.nothing();
  });
}

/** Ends a capture whose body or end has failed, so that the allocator no longer routes memory to a graph that is dead. */
void abandon(Graph& graph, at::cuda::MempoolId_t pool) {
  try {
    graph.captured.capture_end();
    return;
  } catch (const std::exception&) {
    // It ends the stream's capture even when it fails.
  }
#if LAYERWISE_TORCH_AT_LEAST(2, 14)
  (void)pool;
  graph.captured.reset();
#else
  // Before 2.14 a failed end leaves the pool in use, and the graph's destructor does not release it either.
  try {
    c10::cuda::CUDACachingAllocator::endAllocateToPool(graph.device, pool);
    c10::cuda::CUDACachingAllocator::releasePool(graph.device, pool);
  } catch (const std::exception&) {
    // The capture failed after its end had come so far: then the destructor releases the pool.
  }
#endif
}

napi_value captureGraph(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "captureGraph", [](Call& call) {
    const at::Device device = cudaDevice(call);
    if (isCapturing) throw CodedError("INVALID_ARGUMENT", "expected no capture inside the body of another");
    std::lock_guard<std::mutex> lock(captureMutex());
    auto graph = std::make_shared<Graph>();
    graph->device = device.index();
    // The body reads what the current stream was given. Not the whole device: that is forbidden while anybody captures.
    c10::cuda::getCurrentCUDAStream(device.index()).synchronize();
    // What the warm-up left in the cache cannot be used by a graph, whose memory is a pool of its own.
    c10::cuda::CUDACachingAllocator::emptyCache();
#if LAYERWISE_TORCH_AT_LEAST(2, 5) && !LAYERWISE_TORCH_AT_LEAST(2, 14)
    // From 2.14 on a generator joins a capture at its first draw.
    for (const at::Generator& generator : call.environment->generators.slots()) {
      if (!generator.defined() || generator.device() != device) continue;
      at::check_generator<at::CUDAGeneratorImpl>(generator)->register_graph(&graph->captured);
    }
#endif
    {
      c10::cuda::CUDAStreamGuard stream(captureStream(device.index()));
      const at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
      isCapturing = true;
      try {
        // What other threads do, workers that train beside this one, is no part of the capture and does not break it.
        graph->captured.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
        call.invoke(1, "body");
        graph->captured.capture_end();
      } catch (...) {
        isCapturing = false;
        abandon(*graph, pool);
        throw;
      }
      isCapturing = false;
    }
    return call.fromNumber(call.environment->graphs.insert({std::move(graph)}));
  });
}

napi_value replayGraph(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "replayGraph", [](Call& call) {
    GraphSlot* slot = call.environment->graphs.find(call.handle(0, "graph", "a graph"));
    if (slot == nullptr) throw CodedError("TENSOR_DISPOSED", "the graph has been disposed");
    const c10::DeviceGuard device(at::Device(at::kCUDA, slot->graph->device));
    slot->graph->captured.replay();
    return call.nothing();
  });
}

napi_value disposeGraph(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "disposeGraph", [](Call& call) {
    const int32_t handle = call.handle(0, "graph", "a graph");
    GraphSlot* slot = call.environment->graphs.find(handle);
    if (slot == nullptr) return call.fromBoolean(false);
    // Its memory must not be given away while its kernels run; they were launched on this stream.
    c10::cuda::getCurrentCUDAStream(slot->graph->device).synchronize();
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

napi_value onCaptureStream(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "onCaptureStream", [](Call& call) -> napi_value {
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
    {"onCaptureStream", onCaptureStream},
    {"replayGraph", replayGraph},
    {"disposeGraph", disposeGraph},
};

}  // namespace

void exportGraphs(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
