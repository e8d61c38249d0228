// The addon's entry: checks that the loaded LibTorch is the one it was built against, then exports everything, with a
// state of its own for each Node environment that loads it.
#include <node_api.h>
#include <torch/version.h>

#include <memory>
#include <string>

#include "exports.h"
#include "versions.h"

namespace {

using layerwise::Environment;

void deleteEnvironment(napi_env, void* data, void*) { delete static_cast<Environment*>(data); }

/** "2.13.0+cpu" and "2.13.0" are one release. */
std::string release(const std::string& version) { return version.substr(0, version.find('+')); }

}  // namespace

NAPI_MODULE_INIT() {
  const std::string loaded = layerwise::loadedLibTorchVersion();
  if (!loaded.empty() && release(loaded) != release(TORCH_VERSION)) {
    const std::string message = "the addon was built against LibTorch " TORCH_VERSION ", but LibTorch " + loaded +
                                " is loaded; build it again with: npm run build";
    napi_throw_error(env, "LIBTORCH_VERSION", message.c_str());
    return nullptr;
  }
  auto* environment = new Environment();
  napi_set_instance_data(env, environment, deleteEnvironment, nullptr);
  layerwise::exportOperators(env, exports, environment);
  layerwise::exportTensors(env, exports, environment);
  layerwise::exportModes(env, exports, environment);
  layerwise::exportAutograd(env, exports, environment);
  layerwise::exportRandom(env, exports, environment);
  layerwise::exportOptimizers(env, exports, environment);
  layerwise::exportMemory(env, exports, environment);
  layerwise::exportRuntime(env, exports, environment);
  return exports;
}
