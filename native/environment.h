// The state of one Node environment (the main thread or one worker): its tensors, its generators and the JavaScript
// function that makes its errors. There is no state outside it, so environments never see each other.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <node_api.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace layerwise {

/** Owns values under small integer handles; JavaScript holds the handles. Slot 0 is never used. */
template <typename T>
class HandleTable {
 public:
  static constexpr int32_t kNone = 0;

  HandleTable() : slots_(1) {}

  int32_t insert(T value) {
    live_++;
    if (free_.empty()) {
      slots_.push_back(std::move(value));
      return static_cast<int32_t>(slots_.size() - 1);
    }
    const int32_t handle = free_.back();
    free_.pop_back();
    slots_[handle] = std::move(value);
    return handle;
  }

  /** The value, or nullptr for a handle that is not in use. */
  T* find(int32_t handle) {
    if (handle <= kNone || static_cast<size_t>(handle) >= slots_.size() || !slots_[handle].defined()) return nullptr;
    return &slots_[handle];
  }

  bool remove(int32_t handle) {
    T* value = find(handle);
    if (value == nullptr) return false;
    *value = T();
    free_.push_back(handle);
    live_--;
    return true;
  }

  size_t live() const { return live_; }
  const std::deque<T>& slots() const { return slots_; }

 private:
  /** A deque: a call holds references while JavaScript, in an array's getter, may make more tensors. */
  std::deque<T> slots_;
  std::vector<int32_t> free_;
  size_t live_ = 0;
};

/** A CUDA graph, known only where it is made. */
struct Graph;
struct GraphSlot {
  std::shared_ptr<Graph> graph;
  bool defined() const { return graph != nullptr; }
};

struct Environment {
  HandleTable<at::Tensor> tensors;
  HandleTable<at::Generator> generators;
  HandleTable<GraphSlot> graphs;
  /** createError({code, operator, message, tensors}) -> Error; set once from JavaScript. */
  napi_ref createError = nullptr;
};

/** A name and the function that implements it, as the addon exports it. */
struct NativeFunction {
  const char* name;
  napi_callback callback;
};

void exportFunctions(napi_env env, napi_value exports, Environment* environment, const NativeFunction* functions,
                     size_t count);

template <size_t N>
void exportFunctions(napi_env env, napi_value exports, Environment* environment, const NativeFunction (&functions)[N]) {
  exportFunctions(env, exports, environment, functions, N);
}

}  // namespace layerwise
