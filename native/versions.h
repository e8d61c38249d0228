#pragma once

#include <string>

namespace layerwise {

/** The version of the LibTorch that the process has loaded, such as 2.13.0; empty when it does not say. */
std::string loadedLibTorchVersion();

}  // namespace layerwise
