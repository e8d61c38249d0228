// Random numbers: the default generators' seed, and generators of one's own.
#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include "call.h"
#include "exports.h"

namespace layerwise {

namespace {

napi_value manualSeed(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "manualSeed", [](Call& call) {
    at::manual_seed(static_cast<uint64_t>(call.integer(0, "seed")));
    return call.nothing();
  });
}

napi_value fromGenerator(Call& call, at::Generator generator) {
  return call.fromNumber(call.environment->generators.insert(std::move(generator)));
}

napi_value createGenerator(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "generator", [](Call& call) {
    at::Generator shared = at::globalContext().defaultGenerator(call.device(0, "device"));
    std::unique_lock<std::mutex> lock(shared.mutex());
    at::Generator generator = shared.clone();
    lock.unlock();
    generator.set_current_seed(static_cast<uint64_t>(call.integer(1, "seed")));
    return fromGenerator(call, std::move(generator));
  });
}

napi_value defaultGenerator(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "defaultGenerator", [](Call& call) {
    return fromGenerator(call, at::globalContext().defaultGenerator(call.device(0, "device")));
  });
}

napi_value generatorState(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "generatorState", [](Call& call) {
    at::Generator& generator = call.generator(0, "generator");
    std::lock_guard<std::mutex> lock(generator.mutex());
    return call.result(generator.get_state());
  });
}

napi_value setGeneratorState(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "setGeneratorState", [](Call& call) {
    at::Generator& generator = call.generator(0, "generator");
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(call.tensor(1, "state"));
    return call.nothing();
  });
}

napi_value disposeGenerator(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "dispose", [](Call& call) {
    return call.fromBoolean(call.environment->generators.remove(call.handle(0, "self", "a generator")));
  });
}

const NativeFunction kFunctions[] = {
    {"manualSeed", manualSeed},         {"createGenerator", createGenerator},
    {"defaultGenerator", defaultGenerator}, {"generatorState", generatorState},
    {"setGeneratorState", setGeneratorState}, {"disposeGenerator", disposeGenerator},
};

}  // namespace

void exportRandom(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
