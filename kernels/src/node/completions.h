// Brings results of stream work back to the event loop, where promises are settled.
#ifndef ACCEL_NODE_COMPLETIONS_H
#define ACCEL_NODE_COMPLETIONS_H

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/error.h"

namespace accel::node {

// One per environment. Workers may post at any time, also while the environment is going away: then nothing happens.
class Completions {
 public:
  static std::shared_ptr<Completions> create(Napi::Env env);

  // A promise that `post` settles. While promises are pending the event loop stays alive; otherwise it may end.
  Napi::Value promise(Napi::Env env, napi_deferred* deferred);

  // From any thread: settles a promise with what `value` makes on the event loop, or rejects it with `error`.
  using Make = std::function<Napi::Value(Napi::Env)>;
  void post(napi_deferred deferred, const Failure* error, Make value);

  // On the environment's thread, before it goes away.
  void close();

 private:
  struct Result {
    napi_deferred deferred;
    std::optional<Failure> error;
    Make value;
  };
  static void on_event_loop(napi_env env, napi_value, void* context, void*);
  void settle_all(Napi::Env env);

  std::mutex mutex_;
  std::vector<Result> results_;
  bool closed_ = false;
  napi_threadsafe_function wake_ = nullptr;
  napi_env env_ = nullptr;
  size_t pending_ = 0;  // used on the event loop only
};

}  // namespace accel::node
#endif
