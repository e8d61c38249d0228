// The process's side of LibTorch: threads, versions, and what the machine and the build offer.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <napi.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "backends.h"
#include "call.h"
#include "exports.h"
#include "parallel.h"
#include "process.h"

namespace layerwise {

namespace {

/** Threads that Node and this addon may start later. */
constexpr int kSpareThreads = 4;

/** More threads than this only slow each other, and many more end the process: OpenMP cannot refuse them. */
int mostThreads() { return std::max(16, 4 * static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace

std::string loadedLibTorchVersion() {
  // LibTorch has no function for its own version; its build settings carry it.
  const std::string config = at::show_config();
  const std::string key = "TORCH_VERSION=";
  const size_t start = config.find(key);
  if (start == std::string::npos) return "";
  return config.substr(start + key.size(), config.find_first_of(", \n", start) - start - key.size());
}

std::string cpuCapability() {
#if LAYERWISE_TORCH_AT_LEAST(2, 0)
  return at::get_cpu_capability();
#else
  return "";
#endif
}

void startThreads() {
  // LibTorch's own number, or that of OMP_NUM_THREADS; a new thread would otherwise take over what another one has set last.
  static const int initial = std::min(at::get_num_threads(), mostThreads());
  // Each environment's thread has a team of its own.
  const bool isPossible = initial == 1 || canStart(initial - 1 + kSpareThreads);
  if (!isPossible) {
    TORCH_WARN("this system does not let the process start ", initial - 1, " threads more: one thread is used");
  }
  at::set_num_threads(isPossible ? initial : 1);
}

namespace {

std::string cudaReason() {
#if defined(LAYERWISE_WITH_CUDA)
  if (!at::globalContext().hasCUDA()) return "no usable NVIDIA driver or device was found";
  return "";
#else
  return "this LibTorch is a CPU build";
#endif
}

napi_value buildInfo(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "buildInfo", [](Call& call) -> napi_value {
    Napi::Object object = Napi::Object::New(call.env);
    const bool cudaAvailable = at::globalContext().hasCUDA();
    object.Set("libtorchBuilt", TORCH_VERSION);
    object.Set("libtorchLoaded", loadedLibTorchVersion());
#if defined(LAYERWISE_WITH_CUDA)
    object.Set("cudaBuild", true);
#else
    object.Set("cudaBuild", false);
#endif
    object.Set("cudaAvailable", cudaAvailable);
    object.Set("cudaDeviceCount", cudaAvailable ? at::detail::getCUDAHooks().getNumGPUs() : 0);
    object.Set("cudaReason", cudaReason());
    object.Set("glooReason", whyNoBackend("gloo"));
    object.Set("ncclReason", whyNoBackend("nccl"));
    object.Set("cpuCapability", cpuCapability());
    object.Set("threads", at::get_num_threads());
    object.Set("mostThreads", mostThreads());
    return object;
  });
}

napi_value getThreads(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "getThreads", [](Call& call) { return call.fromNumber(at::get_num_threads()); });
}

napi_value setThreads(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "setThreads", [](Call& call) {
    const int64_t threads = call.integer(0, "threads");
    if (threads < 1 || threads > mostThreads()) {
      throw CodedError("INVALID_ARGUMENT", "expected an integer from 1 to " + std::to_string(mostThreads()) +
                                               " for threads on this machine, got " + std::to_string(threads));
    }
    const int added = static_cast<int>(threads) - at::get_num_threads();
    if (added > 0 && !canStart(added)) {
      throw CodedError("INVALID_ARGUMENT", "threads: this system does not let the process start " +
                                               std::to_string(added) + " threads more (ulimit -u, pids.max)");
    }
    at::set_num_threads(static_cast<int>(threads));
    return call.nothing();
  });
}

/** Lets cuDNN time its algorithms for each new shape and keep the fastest. */
napi_value setCudnnBenchmark(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "setCudnnBenchmark", [](Call& call) {
    at::globalContext().setBenchmarkCuDNN(call.boolean(0, "enabled"));
    return call.nothing();
  });
}

napi_value synchronize(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "synchronize", [](Call& call) {
    const at::Device device = call.device(0, "device");
    if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
    return call.nothing();
  });
}

/**
 * Ends the process now, without waiting for any thread. Node's own exit waits for its workers, and a worker can be in the
 * middle of a long operator.
 */
napi_value exitImmediately(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "exitImmediately", [](Call& call) -> napi_value {
    const int64_t code = call.integer(0, "code");
    if (code < 0 || code > 255) {
      throw CodedError("INVALID_ARGUMENT", "expected an integer from 0 to 255 for code, got " + std::to_string(code));
    }
    std::_Exit(static_cast<int>(code));
  });
}

/** Takes createError({code, operator, message, tensors}) -> Error. */
napi_value setErrorFactory(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "setErrorFactory", [](Call& call) {
    napi_ref createError = nullptr;
    napi_valuetype type = napi_undefined;
    napi_typeof(call.env, call.value(0), &type);
    if (type != napi_function || napi_create_reference(call.env, call.value(0), 1, &createError) != napi_ok) {
      throw CodedError("INVALID_ARGUMENT", "expected a function for createError");
    }
    if (call.environment->createError != nullptr) napi_delete_reference(call.env, call.environment->createError);
    call.environment->createError = createError;
    return call.nothing();
  });
}

const NativeFunction kFunctions[] = {
    {"buildInfo", buildInfo},     {"getThreads", getThreads},           {"setThreads", setThreads},
    {"synchronize", synchronize}, {"setCudnnBenchmark", setCudnnBenchmark}, {"setErrorFactory", setErrorFactory},
    {"exitImmediately", exitImmediately},
};

}  // namespace

void exportRuntime(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
