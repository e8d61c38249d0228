// One call from JavaScript: reads its arguments, runs the body, turns every C++ exception into a JavaScript error.
// The plain Node-API is used here instead of its C++ wrapper, because this is the path of every operator.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>
#include <node_api.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "compat.h"
#include "environment.h"
#include "waiting.h"

namespace layerwise {

/** A failure with a code of its own, e.g. INVALID_ARGUMENT, TENSOR_DISPOSED, DEVICE_UNAVAILABLE. */
class CodedError : public std::runtime_error {
 public:
  CodedError(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
  const char* code;
};

/** What errors call a number: 1, 0.5, NaN. */
std::string describeNumber(double number);

/** "[2, 3]". */
std::string describeShape(c10::IntArrayRef sizes);

/** Throws INVALID_ARGUMENT for a number that elements of `dtype` cannot hold: a fraction, NaN or another range for integers. */
void requireElement(const at::Scalar& value, at::ScalarType dtype, const char* name);

/** A JavaScript exception is already pending (a callback threw): only unwind. */
class PendingException : public std::exception {};

using IntegerList = c10::SmallVector<int64_t, 6>;

class Call {
 public:
  Call(napi_env env, Environment* environment, const char* name, const napi_value* values, size_t count)
      : env(env), environment(environment), name_(name), values_(values), count_(count) {}

  /**
   * From here on the call refuses a tensor that lies on another device than those read before. LibTorch compares devices on a GPU,
   * and on the CPU in some operators only; in others tensors on meta, which have no values, would make a result without values.
   */
  void requireOneDevice() { isOnOneDevice_ = true; }

  const at::Tensor& tensor(size_t i, const char* name);
  /** An undefined tensor for the handle "none". */
  at::Tensor optionalTensor(size_t i, const char* name);
  std::vector<at::Tensor> tensors(size_t i, const char* name);
  /** The handles of an Int32Array, in JavaScript's memory: valid only during the call. */
  c10::ArrayRef<int32_t> handles(size_t i, const char* name);
  at::Scalar scalar(size_t i, const char* name);
  /** A number beside the tensor `self`, argument 0, as an operand of the same operator. */
  at::Scalar operand(size_t i, const char* name);
  /** A number that becomes elements of the tensor of argument 0: refused where its dtype would make another of it. */
  at::Scalar element(size_t i, const char* name);
  int64_t integer(size_t i, const char* name);
  Optional<int64_t> optionalInteger(size_t i, const char* name);
  double number(size_t i, const char* name);
  bool boolean(size_t i, const char* name);
  std::string string(size_t i, const char* name);
  /**
   * From a Float64Array. JavaScript's arrays are copied into one before the call: reading an element of theirs can run code
   * of the caller, which could free or move what this call has read already.
   */
  IntegerList integers(size_t i, const char* name);
  at::OptionalIntArrayRef optionalIntegers(size_t i, const char* name);
  /** One number for both dimensions, or a Float64Array [height, width]. */
  IntegerList pair(size_t i, const char* name);
  at::ScalarType dtype(size_t i, const char* name);
  Optional<at::ScalarType> optionalDType(size_t i, const char* name);
  /** A handle of the tables of `Environment`; kNone only where that is allowed. */
  int32_t handle(size_t i, const char* name, const char* expected, bool noneAllowed = false);
  /** -1 is the CPU, -2 meta, n >= 0 is cuda:n, which must exist. */
  at::Device device(size_t i, const char* name);
  Optional<at::Device> optionalDevice(size_t i, const char* name);
  at::MemoryFormat memoryFormat(size_t i, const char* name);
  Optional<at::MemoryFormat> optionalMemoryFormat(size_t i, const char* name);
  at::Generator& generator(size_t i, const char* name);
  Optional<at::Generator> optionalGenerator(size_t i, const char* name);
  napi_value value(size_t i) const { return i < count_ ? values_[i] : nullptr; }
  /** Calls a JavaScript function without arguments; throws PendingException when it throws. */
  void invoke(size_t i, const char* name);

  napi_value result(at::Tensor tensor);
  napi_value result(std::tuple<at::Tensor, at::Tensor> tensors);
  napi_value nothing() const { return nullptr; }
  napi_value fromNumber(double value) const;
  napi_value fromBoolean(bool value) const;
  napi_value fromString(const std::string& value) const;
  napi_value fromIntegers(c10::IntArrayRef values) const;

  /** Throws the JavaScript error for a failure of this call. */
  void raise(const char* code, const std::string& message);

  napi_env env;
  Environment* environment;

 private:
  bool isNull(size_t i) const;
  /** The memory of a typed array of the wanted kind, which belongs to JavaScript; nullptr for anything else. */
  const void* elements(size_t i, napi_typedarray_type wanted, size_t* length) const;
  const at::Tensor& lookUp(size_t i, int32_t handle, const char* name);
  int64_t code(size_t i, const char* name, int64_t last);
  [[noreturn]] void reject(const char* name, const char* expected, size_t i) const;
  [[noreturn]] void rejectDevice(const at::Tensor& tensor, const char* name) const;
  napi_value describeTensors() const;

  const char* name_;
  const napi_value* values_;
  size_t count_;
  bool isOnOneDevice_ = false;
  /** Where the tensors read so far lie, if all must lie on one device. */
  at::Device device_ = at::Device(at::kCPU);
  IntegerList ownedIntegers_;
  /** The tensors read so far, by argument: C++ may read the arguments of one call in any order. */
  c10::SmallVector<std::pair<size_t, int32_t>, 8> seen_;
};

/** Runs body(Call&) and throws its failure into JavaScript. `name` is what errors call the operation. */
template <size_t N, typename Body>
napi_value guarded(napi_env env, napi_callback_info info, const char* name, Body&& body);

void raiseCurrentException(Call& call);

template <size_t N, typename Body>
napi_value guarded(napi_env env, napi_callback_info info, const char* name, Body&& body) {
  std::array<napi_value, (N == 0 ? 1 : N)> values;
  size_t count = N;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, values.data(), nullptr, &data);
  noteCall();
  Call call(env, static_cast<Environment*>(data), name, values.data(), N);
  try {
    return body(call);
  } catch (...) {
    raiseCurrentException(call);
    return nullptr;
  }
}

}  // namespace layerwise
