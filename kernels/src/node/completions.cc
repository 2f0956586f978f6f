#include "node/completions.h"

#include <utility>

#include "node/environment.h"

namespace accel::node {

std::shared_ptr<Completions> Completions::create(Napi::Env env) {
  auto made = std::make_shared<Completions>();
  made->env_ = env;
  napi_value name = Napi::String::New(env, "accel stream");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, made.get(), on_event_loop,
                                      &made->wake_) != napi_ok) {
    throw Napi::Error::New(env, "cannot create the stream's wake-up");
  }
  napi_unref_threadsafe_function(env, made->wake_);
  return made;
}

Napi::Value Completions::promise(Napi::Env env, napi_deferred* deferred) {
  napi_value promise;
  if (napi_create_promise(env, deferred, &promise) != napi_ok) throw Napi::Error::New(env);
  if (pending_++ == 0) napi_ref_threadsafe_function(env, wake_);
  return Napi::Value(env, promise);
}

void Completions::post(napi_deferred deferred, const Failure* error, Make value) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  results_.push_back({deferred, error ? std::optional(*error) : std::nullopt, std::move(value)});
  // One wake-up settles everything that has come in.
  if (results_.size() == 1) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Completions::close() {
  // After this no worker calls the function any more, so Node may delete it.
  std::lock_guard lock(mutex_);
  closed_ = true;
  results_.clear();
}

void Completions::on_event_loop(napi_env env, napi_value, void* context, void*) {
  if (env) static_cast<Completions*>(context)->settle_all(env);
}

void Completions::settle_all(Napi::Env env) {
  std::vector<Result> results;
  {
    std::lock_guard lock(mutex_);
    results.swap(results_);
  }
  Napi::HandleScope scope(env);
  for (Result& result : results) {
    try {
      if (result.error) throw make_error(env, *result.error);
      napi_resolve_deferred(env, result.deferred, result.value(env));
    } catch (const Failure& failure) {
      napi_reject_deferred(env, result.deferred, make_error(env, failure).Value());
    } catch (const Napi::Error& error) {
      napi_reject_deferred(env, result.deferred, error.Value());
    }
  }
  pending_ -= results.size();
  if (pending_ == 0 && !results.empty()) napi_unref_threadsafe_function(env, wake_);
}

}  // namespace accel::node
