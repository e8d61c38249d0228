// What memory the tensors of this environment hold, and the highest point that a function reaches.
#include <ATen/Context.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <unordered_set>

#include "call.h"
#include "exports.h"

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
      if (!tensor.defined() || !tensor.has_storage()) continue;
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
    return stats;
  });
}

/** Hears of every CPU allocation on this thread, also of those that only the autograd graph holds. */
class PeakRecorder : public c10::MemoryReportingInfoBase {
 public:
#if LAYERWISE_TORCH_AT_LEAST(2, 0)
  using Total = size_t;
#else
  using Total = int64_t;
#endif

  void reportMemoryUsage(void*, int64_t size, Total, Total, c10::Device device) override {
    if (!device.is_cpu()) return;
    const int64_t now = current_ += size;
    int64_t peak = peak_.load();
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  std::atomic<int64_t> current_{0};
  std::atomic<int64_t> peak_{0};
};

/** Runs a function; returns the most CPU bytes that were allocated at one time above those at its start. */
napi_value measurePeak(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "measurePeak", [](Call& call) {
    auto recorder = std::make_shared<PeakRecorder>();
    c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, recorder);
    call.invoke(0, "body");
    return call.fromNumber(static_cast<double>(recorder->peak()));
  });
}

/** The CUDA caching allocator's counts in bytes, or null where this LibTorch does not tell them without CUDA headers. */
napi_value cudaMemoryStats(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "cudaMemoryStats", [](Call& call) -> napi_value {
    const at::Device device = call.device(0, "device");
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
    (void)device;
    return call.nothing();
#endif
  });
}

/** Tells V8 of native bytes that garbage collection would free. */
napi_value adjustExternalMemory(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "adjustExternalMemory", [](Call& call) {
    int64_t total = 0;
    napi_adjust_external_memory(call.env, call.integer(0, "bytes"), &total);
    return call.fromNumber(static_cast<double>(total));
  });
}

const NativeFunction kFunctions[] = {
    {"memoryStats", memoryStats},
    {"measurePeak", measurePeak},
    {"cudaMemoryStats", cudaMemoryStats},
    {"adjustExternalMemory", adjustExternalMemory},
};

}  // namespace

void exportMemory(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
