// What memory the tensors of this environment hold, what V8 is told of it, and the highest point that a function reaches.
#include <ATen/Context.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <unordered_set>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "call.h"
#include "exports.h"
#include "meta.h"

#if LAYERWISE_TORCH_AT_LEAST(2, 9)
#include <c10/core/CachingDeviceAllocator.h>
#endif

namespace layerwise {

namespace {

void setNumber(const Call& call, napi_value object, const char* name, double value) {
  napi_set_named_property(call.env, object, name, call.fromNumber(value));
}

/** Tensors in use and the bytes of their storages, each storage counted once however many views it has. */
napi_value memoryStats(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "memoryStats", [](Call& call) {
    std::unordered_set<const void*> seen;
    size_t cpuBytes = 0, cudaBytes = 0;
    for (const at::Tensor& tensor : call.environment->tensors.slots()) {
      if (!tensor.defined() || !tensor.has_storage() || tensor.is_meta()) continue;
      const auto& storage = tensor.storage();
      if (!seen.insert(storage.unsafeGetStorageImpl()).second) continue;
      (tensor.is_cuda() ? cudaBytes : cpuBytes) += storage.nbytes();
    }
    napi_value stats;
    napi_create_object(call.env, &stats);
    setNumber(call, stats, "liveTensors", static_cast<double>(call.environment->tensors.live()));
    setNumber(call, stats, "liveGenerators", static_cast<double>(call.environment->generators.live()));
    setNumber(call, stats, "cpuBytes", static_cast<double>(cpuBytes));
    setNumber(call, stats, "cudaBytes", static_cast<double>(cudaBytes));
    setNumber(call, stats, "externalBytes", static_cast<double>(call.environment->watched.bytes()));
    return stats;
  });
}

/**
 * Hears of every allocation on this thread, of a type of device, also of those that only the autograd graph holds, and passes it on to the
 * recorder around it.
 */
class PeakRecorder : public c10::MemoryReportingInfoBase {
 public:
  explicit PeakRecorder(c10::DeviceType device)
      : device_(device), outer_(c10::ThreadLocalDebugInfo::get(c10::DebugInfoKind::PROFILER_STATE)) {}

#if LAYERWISE_TORCH_AT_LEAST(2, 0)
  using Total = size_t;
#else
  using Total = int64_t;
#endif

  void reportMemoryUsage(void* pointer, int64_t size, Total allocated, Total reserved, c10::Device device) override {
    if (outer_ != nullptr) {
      static_cast<c10::MemoryReportingInfoBase*>(outer_)->reportMemoryUsage(pointer, size, allocated, reserved, device);
    }
    if (device.type() != device_) return;
    const int64_t now = current_ += size;
    int64_t peak = peak_.load();
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  const c10::DeviceType device_;
  /** It lives as long: its guard is below this one's on the stack. */
  c10::DebugInfoBase* const outer_;
  std::atomic<int64_t> current_{0};
  std::atomic<int64_t> peak_{0};
};

void tell(const Call& call, int64_t change) {
  int64_t total = 0;
  if (change != 0) napi_adjust_external_memory(call.env, change, &total);
}

/** Gives freed memory back to the system, also between blocks in use; glibc by itself does so only at the end of its heap. */
napi_value releaseFreedMemory(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "releaseFreedMemory", [](Call& call) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    return call.nothing();
  });
}

/** Runs a function; returns the most CPU bytes that were allocated at one time above those at its start. */
napi_value measurePeak(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "measurePeak", [](Call& call) {
    auto recorder = std::make_shared<PeakRecorder>(c10::kCPU);
    c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, recorder);
    call.invoke(0, "body");
    return call.fromNumber(static_cast<double>(recorder->peak()));
  });
}

/**
 * Runs a function over tensors on meta; returns the most bytes that its tensors would take at one time, and its multiply-adds.
 */
napi_value rehearse(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "rehearse", [](Call& call) -> napi_value {
#if LAYERWISE_CAN_REHEARSE
    auto recorder = std::make_shared<PeakRecorder>(c10::kMeta);
    c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, recorder);
    MultiplyAddCount products;
    call.invoke(0, "body");
    napi_value object;
    napi_create_object(call.env, &object);
    setNumber(call, object, "peakBytes", static_cast<double>(recorder->peak()));
    setNumber(call, object, "multiplyAdds", products.count());
    return object;
#else
    throw CodedError("DEVICE_UNAVAILABLE", "rehearsing on meta needs LibTorch 2.4 or later");
#endif
  });
}

/** The CUDA caching allocator's counts in bytes, or null where this LibTorch does not tell them without CUDA headers. */
napi_value cudaMemoryStats(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "cudaMemoryStats", [](Call& call) -> napi_value {
    const at::Device device = call.device(0, "device");
    if (!device.is_cuda()) throw CodedError("INVALID_ARGUMENT", "expected a CUDA device for device, got " + device.str());
#if LAYERWISE_TORCH_AT_LEAST(2, 9)
    auto* allocator = c10::getDeviceAllocator(at::kCUDA);
    if (!allocator->initialized()) return call.nothing();
    const auto stats = allocator->getDeviceStats(device.index());
    const auto total = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    napi_value object;
    napi_create_object(call.env, &object);
    setNumber(call, object, "allocatedBytes", static_cast<double>(stats.allocated_bytes[total].current));
    setNumber(call, object, "peakAllocatedBytes", static_cast<double>(stats.allocated_bytes[total].peak));
    setNumber(call, object, "reservedBytes", static_cast<double>(stats.reserved_bytes[total].current));
    setNumber(call, object, "peakReservedBytes", static_cast<double>(stats.reserved_bytes[total].peak));
    return object;
#else
    return call.nothing();
#endif
  });
}

/** Tells V8 of the storage of a tensor that garbage collection would free, once however many views of it are watched. */
napi_value watch(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "watch", [](Call& call) {
    const int32_t handle = call.handle(0, "self", "a tensor");
    const at::Tensor& self = call.tensor(0, "self");
    WatchedStorages& watched = call.environment->watched;
    const bool hasMemory = self.has_storage() && !self.is_meta();
    const void* storage = hasMemory ? self.storage().unsafeGetStorageImpl() : nullptr;
    tell(call, watched.add(handle, storage, hasMemory ? self.storage().nbytes() : 0));
    return call.nothing();
  });
}

/** Ends the watch of a tensor; ignores one that is not watched. */
napi_value unwatch(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "unwatch", [](Call& call) {
    tell(call, -call.environment->watched.remove(call.handle(0, "self", "a tensor")));
    return call.nothing();
  });
}

const NativeFunction kFunctions[] = {
    {"memoryStats", memoryStats},
    {"measurePeak", measurePeak},
    {"rehearse", rehearse},
    {"cudaMemoryStats", cudaMemoryStats},
    {"watch", watch},
    {"unwatch", unwatch},
    {"releaseFreedMemory", releaseFreedMemory},
};

}  // namespace

void exportMemory(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
