#include <string>

#include "common/backend_registry.h"
#include "node/environment.h"

namespace accel::node {
namespace {

// setup(AccelError, backendFolder)
Napi::Value setup(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  environment.error_constructor = Napi::Persistent(info[0].As<Napi::Function>());
  backends(text_at(info, 1));
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
  Backend* backend = find_backend(text_at(info, 0));
  backend->check();
  const std::vector<Backend*>& known = backends();
  size_t index = 0;
  while (known[index] != backend) index++;
  return Napi::Number::New(info.Env(), static_cast<double>(index));
}

// streamCreate(device) → id
Napi::Value stream_create(const Napi::CallbackInfo& info) {
  Backend& backend = *backends().at(id_at(info, 0));
  return Napi::Number::New(info.Env(), Environment::of(info.Env()).add(Stream::create(backend)));
}

// streamSync(stream) → Promise<void>
Napi::Value stream_sync(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto& stream = environment.get<Stream>(id_at(info, 0), "stream");
  napi_deferred deferred;
  Napi::Value promise = environment.completions->promise(info.Env(), &deferred);
  stream.push_signal([deferred, completions = environment.completions](StreamBackend&, const Failure* error) {
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
  exports["streamKernels"] = Napi::Function::New<guarded<stream_kernels>>(env);
  exports["dispose"] = Napi::Function::New<guarded<dispose>>(env);
}

}  // namespace accel::node
