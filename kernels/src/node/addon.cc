// The addon: functions that take numbers and typed arrays and hand them to the runtime. No maths here.
#include <napi.h>

#include "node/environment.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace accel::node;
  auto* environment = new Environment(env);
  napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); }, nullptr);
  // Runs before Node takes the thread-safe function apart (hooks run last in, first out).
  napi_add_env_cleanup_hook(env, [](void* data) { static_cast<Environment*>(data)->close(); }, environment);
  export_devices(env, exports);
  export_tensors(env, exports);
  export_kv(env, exports);
  export_ops(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(accel_kernels, init)
