#include "parallel.h"

#include <ATen/Parallel.h>

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

// Of the OpenMP runtime that LibTorch itself loads; null where it uses none.
extern "C" void omp_set_num_threads(int) __attribute__((weak));
// Of the MKL that LibTorch is linked with; null where it has none. Takes 0 for what holds for the process, and returns what was set.
extern "C" int MKL_Set_Num_Threads_Local(int) __attribute__((weak));

namespace layerwise {

namespace {

int setThreadsOfMkl(int threads) { return MKL_Set_Num_Threads_Local == nullptr ? 0 : MKL_Set_Num_Threads_Local(threads); }

}  // namespace

// at::set_num_threads is for the whole process, OpenMP's own function for the calling thread. LibTorch's first call on a thread
// sets the process's number there, so it is asked before.
SingleThread::SingleThread() : before_(at::get_num_threads()), beforeInMkl_(setThreadsOfMkl(1)) {
  if (omp_set_num_threads != nullptr) omp_set_num_threads(1);
}

SingleThread::~SingleThread() {
  setThreadsOfMkl(beforeInMkl_);
  if (omp_set_num_threads != nullptr) omp_set_num_threads(before_);
}

bool SingleThread::isSupported() {
  static const bool isOne = [] {
    SingleThread guard;
    return at::get_num_threads() == 1;
  }();
  return isOne;
}

bool canStart(int count) {
  std::mutex isStarting;
  std::vector<std::thread> threads;
  bool isPossible = true;
  {
    // Until all are started each waits for this one.
    const std::lock_guard<std::mutex> guard(isStarting);
    try {
      threads.reserve(static_cast<size_t>(count));
      for (int i = 0; i < count; i++) threads.emplace_back([&] { const std::lock_guard<std::mutex> after(isStarting); });
    } catch (const std::exception&) {
      isPossible = false;
    }
  }
  for (std::thread& thread : threads) thread.join();
  return isPossible;
}

}  // namespace layerwise
