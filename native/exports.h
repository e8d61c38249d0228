// What each source file adds to the addon's exports.
#pragma once

#include <node_api.h>

#include "environment.h"

namespace layerwise {

void exportOperators(napi_env env, napi_value exports, Environment* environment);
void exportTensors(napi_env env, napi_value exports, Environment* environment);
void exportModes(napi_env env, napi_value exports, Environment* environment);
void exportAutograd(napi_env env, napi_value exports, Environment* environment);
void exportRandom(napi_env env, napi_value exports, Environment* environment);
void exportOptimizers(napi_env env, napi_value exports, Environment* environment);
void exportGraphs(napi_env env, napi_value exports, Environment* environment);
void exportMemory(napi_env env, napi_value exports, Environment* environment);
void exportMessages(napi_env env, napi_value exports, Environment* environment);
void exportWaiting(napi_env env, napi_value exports, Environment* environment);
void exportDecoding(napi_env env, napi_value exports, Environment* environment);
void exportDistributed(napi_env env, napi_value exports, Environment* environment);
void exportRuntime(napi_env env, napi_value exports, Environment* environment);

}  // namespace layerwise
