#include "call.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <new>

#if __has_include(<oneapi/dnnl/dnnl_common.hpp>)
#include <oneapi/dnnl/dnnl_common.hpp>
#define LAYERWISE_KNOWS_ONEDNN_ERRORS 1
#endif

namespace layerwise {

namespace {

const char* typeName(napi_env env, napi_value value) {
  if (value == nullptr) return "nothing";
  napi_valuetype type;
  napi_typeof(env, value, &type);
  switch (type) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return "a boolean";
    case napi_number: return "a number";
    case napi_string: return "a string";
    case napi_function: return "a function";
    case napi_bigint: return "a bigint";
    case napi_symbol: return "a symbol";
    default: return "an object";
  }
}

std::string shortest(double number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.15g", number);
  return text.data();
}

bool isInteger(double number) { return number == std::trunc(number) && std::abs(number) <= 9007199254740991.0; }

bool looksLikeOutOfMemory(const std::string& message) {
  return message.find("can't allocate memory") != std::string::npos ||
         message.find("not enough memory") != std::string::npos || message.find("out of memory") != std::string::npos;
}

}  // namespace

void Call::reject(const char* name, const char* expected, size_t i) const {
  std::string got = typeName(env, value(i));
  if (got == "a number") {
    double number = 0;
    napi_get_value_double(env, value(i), &number);
    got = describeNumber(number);
  }
  throw CodedError("INVALID_ARGUMENT", std::string("expected ") + expected + " for " + name + ", got " + got);
}

void Call::rejectDevice(const at::Tensor& tensor, const char* name) const {
  throw CodedError("INVALID_ARGUMENT", "expected all tensors on one device, got " + tensor.device().str() + " for " + name +
                                           " beside " + device_.str());
}

bool Call::isNull(size_t i) const {
  napi_valuetype type = napi_undefined;
  if (value(i) != nullptr) napi_typeof(env, value(i), &type);
  return type == napi_undefined || type == napi_null;
}

const at::Tensor& Call::lookUp(size_t i, int32_t handle, const char* name) {
  at::Tensor* found = environment->tensors.find(handle);
  if (found == nullptr) {
    throw CodedError("TENSOR_DISPOSED", std::string("the tensor given for ") + name + " has been disposed");
  }
  seen_.emplace_back(i, handle);
  if (isOnOneDevice_) {
    if (seen_.size() == 1) device_ = found->device();
    if (found->device() != device_) rejectDevice(*found, name);
  }
  return *found;
}

int32_t Call::handle(size_t i, const char* name, const char* expected, bool noneAllowed) {
  double number = 0;
  // Node-API's own conversion would make another tensor's handle of 2^32 + n, and "none" of NaN.
  if (value(i) == nullptr || napi_get_value_double(env, value(i), &number) != napi_ok || number != std::trunc(number) ||
      std::abs(number) > std::numeric_limits<int32_t>::max() || (number == 0 && !noneAllowed)) {
    reject(name, expected, i);
  }
  return static_cast<int32_t>(number);
}

const at::Tensor& Call::tensor(size_t i, const char* name) { return lookUp(i, handle(i, name, "a tensor"), name); }

at::Tensor Call::optionalTensor(size_t i, const char* name) {
  const int32_t found = handle(i, name, "a tensor or null", /*noneAllowed=*/true);
  if (found == HandleTable<at::Tensor>::kNone) return at::Tensor();
  return lookUp(i, found, name);
}

const void* Call::elements(size_t i, napi_typedarray_type wanted, size_t* length) const {
  bool isTypedArray = false;
  if (value(i) != nullptr) napi_is_typedarray(env, value(i), &isTypedArray);
  if (!isTypedArray) return nullptr;
  // Not set for a kind that this Node-API does not know.
  napi_typedarray_type type = napi_uint8_clamped_array;
  void* data = nullptr;
  napi_get_typedarray_info(env, value(i), &type, length, &data, nullptr, nullptr);
  if (type != wanted) return nullptr;
  // An empty array may have no memory.
  static const char none = 0;
  return data == nullptr ? &none : data;
}

c10::ArrayRef<int32_t> Call::handles(size_t i, const char* name) {
  size_t length = 0;
  const auto* found = static_cast<const int32_t*>(elements(i, napi_int32_array, &length));
  if (found == nullptr) reject(name, "a list of tensors", i);
  return {found, length};
}

std::vector<at::Tensor> Call::tensors(size_t i, const char* name) {
  const c10::ArrayRef<int32_t> given = handles(i, name);
  std::vector<at::Tensor> list;
  list.reserve(given.size());
  for (const int32_t handle : given) list.push_back(lookUp(i, handle, name));
  return list;
}

double Call::number(size_t i, const char* name) {
  double result = 0;
  if (value(i) == nullptr || napi_get_value_double(env, value(i), &result) != napi_ok) reject(name, "a number", i);
  return result;
}

at::Scalar Call::scalar(size_t i, const char* name) {
  const double result = number(i, name);
  // An integral number must not turn an integer tensor into a floating-point one.
  if (isInteger(result)) return at::Scalar(static_cast<int64_t>(result));
  return at::Scalar(result);
}

std::string describeNumber(double number) {
  if (std::isfinite(number) && number == std::trunc(number) && std::abs(number) < 1e15) {
    return std::to_string(static_cast<int64_t>(number));
  }
  return std::isnan(number) ? "NaN" : std::isinf(number) ? (number > 0 ? "Infinity" : "-Infinity") : shortest(number);
}

at::Scalar Call::operand(size_t i, const char* name) {
  const double result = number(i, name);
  // As it is beside floating-point numbers: -0, and what is beyond exact integers.
  if (!at::isIntegralType(tensor(0, "self").scalar_type(), /*includeBool=*/true)) return at::Scalar(result);
  if (isInteger(result)) return at::Scalar(static_cast<int64_t>(result));
  if (std::isfinite(result) && result == std::trunc(result)) {
    throw CodedError("INVALID_ARGUMENT", std::string("expected an integer of at most 2^53 - 1 in size beside integers for ") + name +
                                             ", got " + describeNumber(result));
  }
  return at::Scalar(result);
}

std::string describeShape(c10::IntArrayRef sizes) {
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

void requireElement(const at::Scalar& value, at::ScalarType dtype, const char* name) {
  if (!at::isIntegralType(dtype, /*includeBool=*/false)) return;
  const bool isByte = dtype == at::kByte;
  const double number = value.toDouble();
  if (isInteger(number) && (!isByte || (number >= 0 && number <= 255))) return;
  throw CodedError("INVALID_ARGUMENT", std::string("expected an integer ") +
                                           (isByte ? "from 0 to 255" : "of at most 2^53 - 1 in size") + " for " + name +
                                           ", got " + describeNumber(number));
}

at::Scalar Call::element(size_t i, const char* name) {
  const at::Scalar result = scalar(i, name);
  requireElement(result, tensor(0, "self").scalar_type(), name);
  return result;
}

int64_t Call::integer(size_t i, const char* name) {
  double result = 0;
  if (value(i) == nullptr || napi_get_value_double(env, value(i), &result) != napi_ok || !isInteger(result)) {
    reject(name, "an integer", i);
  }
  return static_cast<int64_t>(result);
}

Optional<int64_t> Call::optionalInteger(size_t i, const char* name) {
  if (isNull(i)) return kNullopt;
  return integer(i, name);
}

bool Call::boolean(size_t i, const char* name) {
  bool result = false;
  if (value(i) == nullptr || napi_get_value_bool(env, value(i), &result) != napi_ok) reject(name, "a boolean", i);
  return result;
}

std::string Call::string(size_t i, const char* name) {
  size_t length = 0;
  if (value(i) == nullptr || napi_get_value_string_utf8(env, value(i), nullptr, 0, &length) != napi_ok) {
    reject(name, "a string", i);
  }
  std::string result(length, '\0');
  napi_get_value_string_utf8(env, value(i), result.data(), length + 1, &length);
  return result;
}

IntegerList Call::integers(size_t i, const char* name) {
  size_t length = 0;
  const auto* numbers = static_cast<const double*>(elements(i, napi_float64_array, &length));
  if (numbers == nullptr) reject(name, "an array of integers", i);
  IntegerList list;
  list.reserve(length);
  for (size_t k = 0; k < length; k++) {
    if (!isInteger(numbers[k])) {
      throw CodedError("INVALID_ARGUMENT", std::string("expected an integer for ") + name + "[" + std::to_string(k) +
                                               "], got " + describeNumber(numbers[k]));
    }
    list.push_back(static_cast<int64_t>(numbers[k]));
  }
  return list;
}

at::OptionalIntArrayRef Call::optionalIntegers(size_t i, const char* name) {
  if (isNull(i)) return kNullopt;
  ownedIntegers_ = integers(i, name);
  return at::OptionalIntArrayRef(c10::IntArrayRef(ownedIntegers_));
}

IntegerList Call::pair(size_t i, const char* name) {
  bool isTypedArray = false;
  if (value(i) != nullptr) napi_is_typedarray(env, value(i), &isTypedArray);
  if (!isTypedArray) {
    const int64_t both = integer(i, name);
    return {both, both};
  }
  IntegerList list = integers(i, name);
  if (list.size() != 2) reject(name, "one integer or [height, width]", i);
  return list;
}

/** The value of one of LibTorch's enumerations, which are a byte each: nothing is narrowed unchecked. */
int64_t Call::code(size_t i, const char* name, int64_t last) {
  const int64_t result = integer(i, name);
  if (result < 0 || result > last) {
    throw CodedError("INVALID_ARGUMENT", std::string("expected a code from 0 to ") + std::to_string(last) + " for " + name +
                                             ", got " + std::to_string(result));
  }
  return result;
}

at::ScalarType Call::dtype(size_t i, const char* name) {
  return static_cast<at::ScalarType>(code(i, name, static_cast<int64_t>(at::ScalarType::NumOptions) - 1));
}

Optional<at::ScalarType> Call::optionalDType(size_t i, const char* name) {
  if (isNull(i)) return kNullopt;
  return dtype(i, name);
}

at::Device Call::device(size_t i, const char* name) {
  const int64_t code = integer(i, name);
  if (code == -2) return at::Device(at::kMeta);
  if (code < 0) return at::Device(at::kCPU);
  if (!at::globalContext().hasCUDA()) {
    throw CodedError("DEVICE_UNAVAILABLE",
                     "cuda:" + std::to_string(code) +
                         " was asked for, but this LibTorch is a CPU build or finds no NVIDIA driver");
  }
  const auto count = static_cast<int64_t>(at::detail::getCUDAHooks().getNumGPUs());
  if (code >= count) {
    throw CodedError("DEVICE_UNAVAILABLE", "cuda:" + std::to_string(code) + " was asked for, but there are " +
                                               std::to_string(count) + " visible CUDA devices");
  }
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(code));
}

Optional<at::Device> Call::optionalDevice(size_t i, const char* name) {
  if (isNull(i)) return kNullopt;
  return device(i, name);
}

at::MemoryFormat Call::memoryFormat(size_t i, const char* name) {
  return static_cast<at::MemoryFormat>(code(i, name, static_cast<int64_t>(at::MemoryFormat::NumOptions) - 1));
}

Optional<at::MemoryFormat> Call::optionalMemoryFormat(size_t i, const char* name) {
  if (isNull(i)) return kNullopt;
  return memoryFormat(i, name);
}

at::Generator& Call::generator(size_t i, const char* name) {
  at::Generator* found = environment->generators.find(handle(i, name, "a generator"));
  if (found == nullptr) {
    throw CodedError("TENSOR_DISPOSED", std::string("the generator given for ") + name + " has been disposed");
  }
  return *found;
}

Optional<at::Generator> Call::optionalGenerator(size_t i, const char* name) {
  if (handle(i, name, "a generator or null", /*noneAllowed=*/true) == HandleTable<at::Generator>::kNone) return kNullopt;
  return generator(i, name);
}

void Call::invoke(size_t i, const char* name) {
  napi_valuetype type = napi_undefined;
  if (value(i) != nullptr) napi_typeof(env, value(i), &type);
  if (type != napi_function) reject(name, "a function", i);
  napi_value global;
  napi_get_global(env, &global);
  if (napi_call_function(env, global, value(i), 0, nullptr, nullptr) != napi_ok) throw PendingException();
}

napi_value Call::result(at::Tensor tensor) {
  napi_value handle;
  napi_create_int32(env, environment->tensors.insert(std::move(tensor)), &handle);
  return handle;
}

napi_value Call::result(std::tuple<at::Tensor, at::Tensor> tensors) {
  napi_value list;
  napi_create_array_with_length(env, 2, &list);
  napi_set_element(env, list, 0, result(std::get<0>(tensors)));
  napi_set_element(env, list, 1, result(std::get<1>(tensors)));
  return list;
}

napi_value Call::fromNumber(double value) const {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

napi_value Call::fromBoolean(bool value) const {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

napi_value Call::fromString(const std::string& value) const {
  napi_value result;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

napi_value Call::fromIntegers(c10::IntArrayRef values) const {
  napi_value list;
  napi_create_array_with_length(env, values.size(), &list);
  for (size_t k = 0; k < values.size(); k++) napi_set_element(env, list, k, fromNumber(static_cast<double>(values[k])));
  return list;
}

/** The shape, dtype and device of each tensor that the call had read when it failed. */
napi_value Call::describeTensors() const {
  napi_value list;
  napi_create_array(env, &list);
  uint32_t index = 0;
  auto inOrder = seen_;
  std::stable_sort(inOrder.begin(), inOrder.end(), [](auto& a, auto& b) { return a.first < b.first; });
  for (const auto& [argument, handle] : inOrder) {
    const at::Tensor* tensor = environment->tensors.find(handle);
    if (tensor == nullptr) continue;
    napi_value entry;
    napi_create_object(env, &entry);
    napi_set_named_property(env, entry, "shape", fromIntegers(tensor->sizes()));
    napi_set_named_property(env, entry, "dtype", fromNumber(static_cast<int>(tensor->scalar_type())));
    napi_set_named_property(env, entry, "device", fromString(tensor->device().str()));
    napi_set_element(env, list, index++, entry);
  }
  return list;
}

void Call::raise(const char* code, const std::string& message) {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return;
  if (environment->createError == nullptr) {
    napi_throw_error(env, code, message.c_str());
    return;
  }
  napi_value details, createError, global, error;
  napi_create_object(env, &details);
  napi_set_named_property(env, details, "code", fromString(code));
  napi_set_named_property(env, details, "operator", fromString(name_));
  napi_set_named_property(env, details, "message", fromString(message));
  napi_set_named_property(env, details, "tensors", describeTensors());
  napi_get_reference_value(env, environment->createError, &createError);
  napi_get_global(env, &global);
  if (napi_call_function(env, global, createError, 1, &details, &error) == napi_ok) napi_throw(env, error);
}

void raiseCurrentException(Call& call) {
  try {
    throw;
  } catch (const PendingException&) {
    // The JavaScript exception is on its way already.
  } catch (const CodedError& error) {
    call.raise(error.code, error.what());
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    call.raise(looksLikeOutOfMemory(message) ? "OUT_OF_MEMORY" : "OPERATOR_FAILED", message);
  } catch (const std::bad_alloc&) {
    call.raise("OUT_OF_MEMORY", "the process is out of memory");
#ifdef LAYERWISE_KNOWS_ONEDNN_ERRORS
  } catch (const dnnl::error& error) {
    // Its text does not say why: "could not create a primitive".
    call.raise(error.status == dnnl_out_of_memory ? "OUT_OF_MEMORY" : "OPERATOR_FAILED", error.what());
#endif
  } catch (const std::exception& error) {
    call.raise(looksLikeOutOfMemory(error.what()) ? "OUT_OF_MEMORY" : "OPERATOR_FAILED", error.what());
  } catch (...) {
    call.raise("OPERATOR_FAILED", "an unknown C++ exception was thrown");
  }
}

void exportFunctions(napi_env env, napi_value exports, Environment* environment, const NativeFunction* functions,
                     size_t count) {
  for (size_t i = 0; i < count; i++) {
    napi_value function;
    napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].callback, environment, &function);
    napi_set_named_property(env, exports, functions[i].name, function);
  }
}

}  // namespace layerwise
