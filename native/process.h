// What concerns the whole process and not one environment of it.
#pragma once

#include <string>

namespace layerwise {

/** The version of the LibTorch that the process has loaded, such as 2.13.0; empty when it does not say. */
std::string loadedLibTorchVersion();

/** The instruction set that LibTorch's kernels use here, such as AVX512; empty when it does not say. */
std::string cpuCapability();

/** Gives the calling thread, an environment's, LibTorch's number of threads as it was at the start of the process. */
void startThreads();

/** Takes LibTorch's warnings on the calling thread, an environment's, for `takeMessages`. */
void hearWarnings();

/** Takes LibTorch's messages out of the standard error stream, for `takeMessages`. Once in the process. */
void takeMessagesFromStandardError();

}  // namespace layerwise
