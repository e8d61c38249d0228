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
#include <unordered_map>
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

/** The storages that V8 was told of, each with the tensors that are watched for it. */
class WatchedStorages {
 public:
  /** Returns the bytes that this adds. */
  int64_t add(int32_t handle, const void* storage, size_t bytes) {
    if (!handles_.emplace(handle, storage).second || storage == nullptr) return 0;
    Storage& entry = storages_[storage];
    if (entry.handles++ > 0) return 0;
    entry.bytes = static_cast<int64_t>(bytes);
    bytes_ += entry.bytes;
    return entry.bytes;
  }

  /** Returns the bytes that this takes away. */
  int64_t remove(int32_t handle) {
    const auto found = handles_.find(handle);
    if (found == handles_.end()) return 0;
    const void* storage = found->second;
    handles_.erase(found);
    const auto entry = storages_.find(storage);
    if (entry == storages_.end() || --entry->second.handles > 0) return 0;
    const int64_t bytes = entry->second.bytes;
    storages_.erase(entry);
    bytes_ -= bytes;
    return bytes;
  }

  int64_t bytes() const { return bytes_; }

 private:
  struct Storage {
    int64_t handles = 0;
    int64_t bytes = 0;
  };
  std::unordered_map<int32_t, const void*> handles_;
  std::unordered_map<const void*, Storage> storages_;
  int64_t bytes_ = 0;
};

struct Environment {
  HandleTable<at::Tensor> tensors;
  HandleTable<at::Generator> generators;
  HandleTable<GraphSlot> graphs;
  WatchedStorages watched;
  /** Batches of images that are being decoded; null before the first (decoding.cpp). */
  std::shared_ptr<void> decoding;
  /** The groups of processes that it has joined; null before the first (distributed.cpp). */
  std::shared_ptr<void> groups;
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
