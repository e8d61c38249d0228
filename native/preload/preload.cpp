// What must stand in the process's environment before LibTorch is loaded, whose libraries read it while they are. An addon of
// its own, which knows no LibTorch: process.env of a worker is a copy, and does not reach them.
#include <node_api.h>

#include <cstdlib>
#include <string>

namespace {

std::string text(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return "";
  std::string result(length, '\0');
  napi_get_value_string_utf8(env, value, result.data(), length + 1, &length);
  return result;
}

/** setDefault(name, value): sets a variable that is not set; returns whether it did. */
napi_value setDefault(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  bool isSet = false;
  if (count == 2) {
    const std::string name = text(env, arguments[0]), value = text(env, arguments[1]);
#ifndef _WIN32
    isSet = !name.empty() && getenv(name.c_str()) == nullptr && setenv(name.c_str(), value.c_str(), 0) == 0;
#endif
  }
  napi_value result;
  napi_get_boolean(env, isSet, &result);
  return result;
}

/** unset(name): takes it out again, so that child processes do not inherit it. */
napi_value unset(napi_env env, napi_callback_info info) {
  napi_value name;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &name, nullptr, nullptr);
#ifndef _WIN32
  if (count == 1) unsetenv(text(env, name).c_str());
#endif
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "setDefault", NAPI_AUTO_LENGTH, setDefault, nullptr, &function);
  napi_set_named_property(env, exports, "setDefault", function);
  napi_create_function(env, "unset", NAPI_AUTO_LENGTH, unset, nullptr, &function);
  napi_set_named_property(env, exports, "unset", function);
  return exports;
}
