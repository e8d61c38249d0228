// Tensors in and out: creation, typed arrays, and what a tensor says of itself.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "call.h"
#include "exports.h"

namespace layerwise {

namespace {

struct Bytes {
  void* data;
  size_t length;
};

size_t elementSize(napi_typedarray_type type) {
  switch (type) {
    case napi_int16_array:
    case napi_uint16_array: return 2;
    case napi_int32_array:
    case napi_uint32_array:
    case napi_float32_array: return 4;
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array: return 8;
    default: return 1;
  }
}

/** The memory of a typed array. It belongs to JavaScript: valid only during the call. */
Bytes bytesOf(Call& call, size_t i, const char* name) {
  bool isTypedArray = false;
  if (call.value(i) != nullptr) napi_is_typedarray(call.env, call.value(i), &isTypedArray);
  if (!isTypedArray) throw CodedError("INVALID_ARGUMENT", std::string("expected a typed array for ") + name);
  napi_typedarray_type type = napi_uint8_array;
  Bytes bytes{nullptr, 0};
  napi_get_typedarray_info(call.env, call.value(i), &type, &bytes.length, &bytes.data, nullptr, nullptr);
  bytes.length *= elementSize(type);
  return bytes;
}

int64_t elementsIn(const IntegerList& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0) throw CodedError("INVALID_ARGUMENT", "expected sizes >= 0 in shape, got " + std::to_string(size));
    if (size > 0 && count > std::numeric_limits<int64_t>::max() / 16 / size) {
      throw CodedError("OUT_OF_MEMORY", "a shape of more elements than memory can hold was asked for");
    }
    count *= size;
  }
  return count;
}

/** Page-locked memory is scarce: at most a batch of large images is staged in it. */
constexpr size_t kAsynchronousBytes = size_t{64} << 20;

napi_value fromTypedArray(napi_env env, napi_callback_info info) {
  return guarded<4>(env, info, "tensor", [](Call& call) {
    const IntegerList shape = call.integers(1, "shape");
    const at::ScalarType dtype = call.dtype(2, "dtype");
    const at::Device device = call.device(3, "device");
    // A raw pointer into JavaScript's memory is taken last: nothing runs between it and its use.
    const Bytes bytes = bytesOf(call, 0, "data");
    const auto expected = static_cast<size_t>(elementsIn(shape)) * c10::elementSize(dtype);
    if (bytes.length != expected) {
      throw CodedError("INVALID_ARGUMENT", "expected " + std::to_string(expected) + " bytes of data for shape and dtype, got " +
                                               std::to_string(bytes.length));
    }
    const auto options = at::TensorOptions().dtype(dtype);
    if (device.is_meta()) return call.result(at::empty(shape, options.device(device)));
    if (device.is_cuda()) {
      if (bytes.length > kAsynchronousBytes) {
        // Straight from JavaScript's memory to the device: the copy is over when this returns.
        return call.result(at::from_blob(bytes.data, shape, options).to(device));
      }
      // A batch and what is drawn for it: copied by the device when its turn comes, so that nobody waits. LibTorch keeps
      // the page-locked memory until then.
      at::Tensor staged = at::empty(shape, options.pinned_memory(true));
      if (bytes.length > 0) std::memcpy(staged.data_ptr(), bytes.data, bytes.length);
      return call.result(staged.to(device, /*non_blocking=*/true));
    }
    at::Tensor tensor = at::empty(shape, options);
    if (bytes.length > 0) std::memcpy(tensor.data_ptr(), bytes.data, bytes.length);
    return call.result(std::move(tensor));
  });
}

napi_value writeTypedArray(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "toTypedArray", [](Call& call) {
    const at::Tensor& tensor = call.tensor(0, "self");
    const Bytes bytes = bytesOf(call, 1, "target");
    const auto expected = static_cast<size_t>(tensor.numel()) * tensor.element_size();
    if (bytes.length != expected) {
      throw CodedError("INVALID_ARGUMENT", "expected a target of " + std::to_string(expected) + " bytes, got " +
                                               std::to_string(bytes.length));
    }
    if (bytes.length > 0) {
      // One copy, also from a device or a strided tensor: LibTorch writes straight into JavaScript's memory.
      at::from_blob(bytes.data, tensor.sizes(), at::TensorOptions().dtype(tensor.scalar_type())).copy_(tensor.detach());
    }
    return call.nothing();
  });
}

napi_value full(napi_env env, napi_callback_info info) {
  return guarded<4>(env, info, "full", [](Call& call) {
    const IntegerList shape = call.integers(0, "shape");
    elementsIn(shape);
    const at::Scalar value = call.scalar(1, "value");
    const at::ScalarType dtype = call.dtype(2, "dtype");
    requireElement(value, dtype, "value");
    return call.result(at::full(shape, value, at::TensorOptions().dtype(dtype).device(call.device(3, "device"))));
  });
}

napi_value empty(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, "empty", [](Call& call) {
    const IntegerList shape = call.integers(0, "shape");
    elementsIn(shape);
    return call.result(
        at::empty(shape, at::TensorOptions().dtype(call.dtype(1, "dtype")).device(call.device(2, "device"))));
  });
}

/** A tensor on the host that is filled there and then sent to a device. */
napi_value emptyStaged(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, "emptyStaged", [](Call& call) {
    const IntegerList shape = call.integers(0, "shape");
    const at::ScalarType dtype = call.dtype(1, "dtype");
    const auto bytes = static_cast<size_t>(elementsIn(shape)) * c10::elementSize(dtype);
    const bool isPageLocked = call.device(2, "device").is_cuda() && bytes <= kAsynchronousBytes;
    return call.result(at::empty(shape, at::TensorOptions().dtype(dtype).pinned_memory(isPageLocked)));
  });
}

napi_value isPageLocked(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "isPageLocked", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    return call.fromBoolean(self.is_cpu() && self.is_pinned());
  });
}

/**
 * Copies to a device when its turn comes, without waiting; nothing on the CPU. LibTorch records the copy with page-locked memory, a
 * view's too, and gives that to nobody else before the copy is over, though the tensor be freed. Other memory has been read when this
 * returns.
 */
napi_value send(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "send", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    return call.result(self.to(call.device(1, "device"), self.scalar_type(), /*non_blocking=*/true));
  });
}

napi_value arange(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, "arange", [](Call& call) {
    const int64_t end = call.integer(0, "end");
    const at::ScalarType dtype = call.dtype(1, "dtype");
    if (end > 0) requireElement(at::Scalar(end - 1), dtype, "the last element");
    return call.result(at::arange(end, at::TensorOptions().dtype(dtype).device(call.device(2, "device"))));
  });
}

napi_value dispose(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "dispose", [](Call& call) {
    return call.fromBoolean(call.environment->tensors.remove(call.handle(0, "self", "a tensor")));
  });
}

/** The tensors of a scope that has ended: as many of the handles as are told. */
napi_value disposeAll(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "dispose", [](Call& call) {
    const c10::ArrayRef<int32_t> handles = call.handles(0, "handles");
    const int64_t count = call.integer(1, "count");
    if (count < 0 || count > static_cast<int64_t>(handles.size())) {
      throw CodedError("INVALID_ARGUMENT", "expected at most " + std::to_string(handles.size()) + " for count, got " +
                                               std::to_string(count));
    }
    for (const int32_t handle : handles.slice(0, static_cast<size_t>(count))) call.environment->tensors.remove(handle);
    return call.nothing();
  });
}

napi_value shape(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "shape", [](Call& call) { return call.fromIntegers(call.tensor(0, "self").sizes()); });
}

napi_value strides(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "strides",
                    [](Call& call) { return call.fromIntegers(call.tensor(0, "self").strides()); });
}

napi_value dtype(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "dtype", [](Call& call) {
    return call.fromNumber(static_cast<int>(call.tensor(0, "self").scalar_type()));
  });
}

napi_value device(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "device", [](Call& call) {
    const at::Device device = call.tensor(0, "self").device();
    return call.fromNumber(device.is_cpu() ? -1 : device.is_meta() ? -2 : device.index());
  });
}

/** Whether another tensor lies in the same memory, such as a view of this one. */
napi_value sharesMemory(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "sharesMemory", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    return call.fromBoolean(!self.has_storage() || self.storage().use_count() > 1);
  });
}

napi_value byteLength(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "byteLength", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    // The product may be beyond 64 bits for a view that repeats its elements.
    return call.fromNumber(static_cast<double>(self.numel()) * static_cast<double>(self.element_size()));
  });
}

napi_value isContiguous(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "isContiguous", [](Call& call) {
    return call.fromBoolean(call.tensor(0, "self").is_contiguous(call.memoryFormat(1, "memoryFormat")));
  });
}

napi_value item(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "item", [](Call& call) {
    const at::Tensor& self = call.tensor(0, "self");
    if (self.numel() != 1) {
      throw CodedError("INVALID_ARGUMENT", "expected a tensor of one element, got " + std::to_string(self.numel()));
    }
    return call.fromNumber(self.item().toDouble());
  });
}

const NativeFunction kFunctions[] = {
    {"fromTypedArray", fromTypedArray}, {"writeTypedArray", writeTypedArray},
    {"full", full},                     {"empty", empty},
    {"emptyStaged", emptyStaged},       {"send", send},
    {"isPageLocked", isPageLocked},
    {"arange", arange},                 {"dispose", dispose},
    {"disposeAll", disposeAll},
    {"shape", shape},                   {"strides", strides},
    {"dtype", dtype},                   {"device", device},
    {"byteLength", byteLength},         {"isContiguous", isContiguous},
    {"sharesMemory", sharesMemory},
    {"item", item},
};

}  // namespace

void exportTensors(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
