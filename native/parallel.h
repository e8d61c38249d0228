// Loops over LibTorch's own pool of threads, and work that is to stay on one of them.
#pragma once

#include <ATen/TensorIterator.h>

#include <ATen/ops/empty.h>

#include <cstdint>

namespace layerwise {

/**
 * Runs body(index) for each index below count, on the threads of LibTorch's own pool: an iteration over as many bytes, since a
 * parallel loop of our own would bring a second pool of threads along. What body throws is thrown here.
 */
template <typename Body>
void forEachIndex(int64_t count, const Body& body) {
  at::Tensor bytes = at::empty({count}, at::kByte);
  char* const base = static_cast<char*>(bytes.data_ptr());
  at::TensorIterator iterator = at::TensorIteratorConfig()
                                    .check_all_same_dtype(false)
                                    .resize_outputs(false)
                                    .declare_static_shape(bytes.sizes())
                                    .add_output(bytes)
                                    .build();
  iterator.for_each(
      [&](char** data, const int64_t* strides, int64_t size) {
        for (int64_t i = 0; i < size; i++) body(data[0] + i * strides[0] - base);
      },
      /*grain_size=*/1);
}

/** Whether so many threads can be started now: OpenMP ends the process where it cannot start one. */
bool canStart(int count);

/**
 * While it lives, what this thread calls uses no other thread. Inside a parallel loop LibTorch sees to that by itself, but oneDNN
 * still divides its work among as many threads as it would have outside, and waits at a barrier for them: for ever. MKL divides its
 * work too, and does the parts one after another: other sums, and so other bits, for another number of threads.
 */
class SingleThread {
 public:
  SingleThread();
  ~SingleThread();
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

  /** Whether it has effect: LibTorch's threads are OpenMP's, and its runtime was found. */
  static bool isSupported();

 private:
  const int before_;
  const int beforeInMkl_;
};

}  // namespace layerwise
