#include "parallel.h"

#include <ATen/Parallel.h>

// Of the OpenMP runtime that LibTorch itself loads; null where it uses none.
extern "C" void omp_set_num_threads(int) __attribute__((weak));

namespace layerwise {

// at::set_num_threads is for the whole process, OpenMP's own function for the calling thread. LibTorch's first call on a thread
// sets the process's number there, so it is asked before.
SingleThread::SingleThread() : before_(at::get_num_threads()) {
  if (omp_set_num_threads != nullptr) omp_set_num_threads(1);
}

SingleThread::~SingleThread() {
  if (omp_set_num_threads != nullptr) omp_set_num_threads(before_);
}

bool SingleThread::isSupported() {
  static const bool isOne = [] {
    SingleThread guard;
    return at::get_num_threads() == 1;
  }();
  return isOne;
}

}  // namespace layerwise
