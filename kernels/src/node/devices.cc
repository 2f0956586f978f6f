#include <string>

#include "common/backend_registry.h"
#include "node/environment.h"

namespace accel::node {
namespace {

// setup(AccelError, backendFolder)
Napi::Value setup(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  environment.error_constructor = Napi::Persistent(info[0].As<Napi::Function>());
  set_backend_folder(text_at(info, 1));
  return info.Env().Undefined();
}

// setValues(Float64Array): the array that carries shapes and op arguments from now on.
Napi::Value set_values(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto array = info[0].As<Napi::Float64Array>();
  environment.values_array = Napi::Persistent(array);
  environment.values = array.Data();
  environment.values_size = array.ElementLength();
  return info.Env().Undefined();
}

Napi::Object describe(Napi::Env env, const DeviceInfo& device) {
  Napi::Object memory = Napi::Object::New(env);
  memory["total"] = static_cast<double>(device.memory.total);
  memory["free"] = static_cast<double>(device.memory.free);
  if (device.memory.counted) {
    memory["used"] = static_cast<double>(device.memory.used);
    memory["peak"] = static_cast<double>(device.memory.peak);
    memory["idle"] = static_cast<double>(device.memory.idle);
  }
  Napi::Object object = Napi::Object::New(env);
  object["id"] = device.id;
  object["kind"] = device.kind;
  object["name"] = device.name;
  object["isa"] = device.isa;
  object["threads"] = device.threads;
  object["memory"] = memory;
  return object;
}

// devices() → DeviceInfo[]
Napi::Value devices(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (Backend* backend : backends()) list[list.Length()] = describe(info.Env(), backend->info());
  return list;
}

// openDevice(id) → index into devices()
Napi::Value open_device(const Napi::CallbackInfo& info) {
  size_t index = find_backend(text_at(info, 0));
  backend_at(index).check();
  return Napi::Number::New(info.Env(), static_cast<double>(index));
}

// deviceInfo(device) → DeviceInfo
Napi::Value device_info(const Napi::CallbackInfo& info) {
  return describe(info.Env(), backend_at(id_at(info, 0)).info());
}

// deviceResetPeak(device)
Napi::Value device_reset_peak(const Napi::CallbackInfo& info) {
  backend_at(id_at(info, 0)).reset_peak();
  return info.Env().Undefined();
}

// streamCreate(device) → id
Napi::Value stream_create(const Napi::CallbackInfo& info) {
  Backend& backend = backend_at(id_at(info, 0));
  return Napi::Number::New(info.Env(), Environment::of(info.Env()).add(Stream::create(backend)));
}

// streamSync(stream) → Promise<void>
Napi::Value stream_sync(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& stream = environment.get<Stream>(id_at(info, 0), "stream");
  napi_deferred deferred;
  Napi::Value promise = environment.completions->promise(info.Env(), &deferred);
  stream.push_signal(nullptr, [deferred, completions = environment.completions](const Failure* error) {
    completions->post(deferred, error, [](Napi::Env env) { return env.Undefined(); });
  });
  return promise;
}

// streamKernels(stream) → {name: runs}
Napi::Value stream_kernels(const Napi::CallbackInfo& info) {
  auto& stream = Environment::of(info.Env()).get<Stream>(id_at(info, 0), "stream");
  Napi::Object object = Napi::Object::New(info.Env());
  for (auto& [name, runs] : stream.kernels()) object[name] = static_cast<double>(runs);
  return object;
}

// streamGraphBegin(stream), streamGraphEnd(stream)
Napi::Value stream_graph_begin(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).get<Stream>(id_at(info, 0), "stream").graph_begin();
  return info.Env().Undefined();
}

Napi::Value stream_graph_end(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).get<Stream>(id_at(info, 0), "stream").graph_end();
  return info.Env().Undefined();
}

// streamGraphs(stream) → {captured, replayed, eager, reason}
Napi::Value stream_graphs(const Napi::CallbackInfo& info) {
  GraphCounts counts = Environment::of(info.Env()).get<Stream>(id_at(info, 0), "stream").graphs();
  Napi::Object object = Napi::Object::New(info.Env());
  object["captured"] = static_cast<double>(counts.captured);
  object["replayed"] = static_cast<double>(counts.replayed);
  object["eager"] = static_cast<double>(counts.eager);
  if (!counts.reason.empty()) object["reason"] = counts.reason;
  return object;
}

// dispose(id)
Napi::Value dispose(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).dispose(id_at(info, 0));
  return info.Env().Undefined();
}

}  // namespace

void export_devices(Napi::Env env, Napi::Object exports) {
  exports["setup"] = Napi::Function::New<guarded<setup>>(env);
  exports["setValues"] = Napi::Function::New<guarded<set_values>>(env);
  exports["devices"] = Napi::Function::New<guarded<devices>>(env);
  exports["openDevice"] = Napi::Function::New<guarded<open_device>>(env);
  exports["streamCreate"] = Napi::Function::New<guarded<stream_create>>(env);
  exports["streamSync"] = Napi::Function::New<guarded<stream_sync>>(env);
  exports["deviceInfo"] = Napi::Function::New<guarded<device_info>>(env);
  exports["deviceResetPeak"] = Napi::Function::New<guarded<device_reset_peak>>(env);
  exports["streamGraphBegin"] = Napi::Function::New<guarded<stream_graph_begin>>(env);
  exports["streamGraphEnd"] = Napi::Function::New<guarded<stream_graph_end>>(env);
  exports["streamGraphs"] = Napi::Function::New<guarded<stream_graphs>>(env);
  exports["streamKernels"] = Napi::Function::New<guarded<stream_kernels>>(env);
  exports["dispose"] = Napi::Function::New<guarded<dispose>>(env);
}

}  // namespace accel::node
