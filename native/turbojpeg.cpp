#include "turbojpeg.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>

namespace layerwise {

namespace {

std::atomic<const TurboJpeg*> theLibrary{nullptr};
std::mutex isOpening;

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

const TurboJpeg* TurboJpeg::opened() { return theLibrary.load(std::memory_order_acquire); }

const TurboJpeg* TurboJpeg::open(const std::string& path) {
  const std::lock_guard<std::mutex> lock(isOpening);
  if (opened() != nullptr) return opened();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  // Kept as long as the process lives.
  auto* found = new TurboJpeg();
  const bool isWhole = find(library, "tj3Init", found->init) && find(library, "tj3Destroy", found->destroy) &&
                       find(library, "tj3Set", found->set) && find(library, "tj3Get", found->get) &&
                       find(library, "tj3DecompressHeader", found->decompressHeader) &&
                       find(library, "tj3SetScalingFactor", found->setScalingFactor) &&
                       find(library, "tj3SetCroppingRegion", found->setCroppingRegion) &&
                       find(library, "tj3Decompress8", found->decompress);
  if (!isWhole) {
    delete found;
    dlclose(library);
    return nullptr;
  }
  Dl_info info;
  const bool isKnown = dladdr(reinterpret_cast<void*>(found->init), &info) != 0 && info.dli_fname != nullptr;
  found->file = isKnown ? info.dli_fname : path;
  theLibrary.store(found, std::memory_order_release);
  return found;
}

}  // namespace layerwise
