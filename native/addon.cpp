// The addon's entry: checks that the loaded LibTorch is the one it was built against, then exports everything, with a
// state of its own for each Node environment that loads it.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <node_api.h>
#include <torch/version.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "compat.h"
#include "exports.h"
#include "process.h"
#include "waiting.h"

namespace {

using layerwise::Environment;

void deleteEnvironment(napi_env, void* data, void*) { delete static_cast<Environment*>(data); }

/** "2.13.0+cpu" and "2.13.0" are one release. */
std::string release(const std::string& version) { return version.substr(0, version.find('+')); }

/**
 * Lets LibTorch ask the kernel for huge pages for large tensors on the CPU: fresh memory then costs few page faults.
 * Whoever has set the variable decides. LibTorch reads it once, at its first allocation, which is made here, so that
 * child processes do not inherit what was set.
 */
void preferHugePages() {
#ifdef __linux__
  constexpr const char* kVariable = "THP_MEM_ALLOC_ENABLE";
  if (getenv(kVariable) != nullptr) return;
  setenv(kVariable, "1", /*overwrite=*/0);
  at::empty({1});
  unsetenv(kVariable);
#endif
}

/**
 * LibTorch asks NNPACK for float32 convolutions that oneDNN does not take, and warns of each where it does not like the
 * processor. It gives it none of them (bench/RESULTS.md).
 */
void dropNnpack() {
#if LAYERWISE_TORCH_AT_LEAST(2, 3)
  at::globalContext().setUserEnabledNNPACK(false);
#endif
}

}  // namespace

NAPI_MODULE_INIT() {
  const std::string loaded = layerwise::loadedLibTorchVersion();
  if (!loaded.empty() && release(loaded) != release(TORCH_VERSION)) {
    const std::string message = "the addon was built against LibTorch " TORCH_VERSION ", but LibTorch " + loaded +
                                " is loaded; it has to be built again";
    napi_throw_error(env, "LIBTORCH_VERSION", message.c_str());
    return nullptr;
  }
  static std::once_flag once;
  std::call_once(once, [] {
    layerwise::takeMessagesFromStandardError();
    preferHugePages();
    dropNnpack();
    layerwise::watchCores();
  });
  layerwise::hearWarnings();
  layerwise::startThreads();
  auto* environment = new Environment();
  napi_set_instance_data(env, environment, deleteEnvironment, nullptr);
  layerwise::exportOperators(env, exports, environment);
  layerwise::exportTensors(env, exports, environment);
  layerwise::exportModes(env, exports, environment);
  layerwise::exportAutograd(env, exports, environment);
  layerwise::exportRandom(env, exports, environment);
  layerwise::exportOptimizers(env, exports, environment);
  layerwise::exportGraphs(env, exports, environment);
  layerwise::exportMemory(env, exports, environment);
  layerwise::exportMessages(env, exports, environment);
  layerwise::exportWaiting(env, exports, environment);
  layerwise::exportDecoding(env, exports, environment);
  layerwise::exportDistributed(env, exports, environment);
  layerwise::exportRuntime(env, exports, environment);
  return exports;
}
