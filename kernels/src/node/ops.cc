#include <cmath>
#include <span>

#include "node/environment.h"

namespace accel::node {
namespace {

Napi::Value describe(Napi::Env env, const OpLibrary& library) {
  Napi::Array ops = Napi::Array::New(env);
  for (size_t i = 0; i < library.ops.size(); i++) {
    Napi::Object op = Napi::Object::New(env);
    op["name"] = library.ops[i].op->name;
    op["signature"] = library.ops[i].op->signature;
    op["id"] = library.ids[i];
    op["cpu"] = library.ops[i].op->cpu != nullptr;
    op["cuda"] = library.ops[i].op->cuda != nullptr;
    ops[static_cast<uint32_t>(i)] = op;
  }
  Napi::Object object = Napi::Object::New(env);
  object["name"] = library.name;
  object["version"] = library.version;
  object["ops"] = ops;
  return object;
}

Napi::Value builtin_library(const Napi::CallbackInfo& info) { return describe(info.Env(), builtin_op_library()); }

// loadLibrary(path)
Napi::Value load_library(const Napi::CallbackInfo& info) {
  return describe(info.Env(), load_op_library(text_at(info, 0)));
}

// What the façade writes for each argument into the values (kernels/ts/stream.ts):
//   0                          absent tensor
//   1, tensor
//   3, number
//   4, length, value ...       list of integers
//   5, layers, layer ..., sequences, sequence ...
struct Reader {
  Environment& environment;
  const double* at;
  const double* end;

  double next() {
    if (at == end) fail("ERR_ACCEL_INTERNAL", "an op call is incomplete");
    return *at++;
  }
  // A length, and as many numbers.
  std::span<const double> list() {
    auto size = static_cast<int64_t>(next());
    if (size > end - at) fail("ERR_ACCEL_INTERNAL", "an op call is incomplete");
    const double* begin = at;
    at += size;
    return {begin, at};
  }
};

[[noreturn]] void disposed_arg(const OpEntry& entry, size_t index) {
  const char* name = index < entry.parameters.size() ? entry.parameters[index].name.c_str() : "?";
  fail("ERR_ACCEL_DISPOSED", "%s: argument \"%s\" was disposed", entry.op->name, name);
}

void read_arg(Reader& reader, const OpEntry& entry, size_t index, HostArg& arg, KvView& view) {
  arg.kind = static_cast<int>(reader.next());
  switch (arg.kind) {
    case 0:
      return;
    case ACCEL_ARG_TENSOR: {
      auto id = static_cast<uint32_t>(reader.next());
      if (id == 0) disposed_arg(entry, index);
      arg.tensor = &reader.environment.get<Tensor>(id, "tensor");
      return;
    }
    case ACCEL_ARG_FLOAT:
      arg.number = reader.next();
      return;
    case ACCEL_ARG_INTS: {
      const std::span<const double> list = reader.list();
      arg.ints_size = static_cast<int64_t>(list.size());
      std::vector<int32_t>& ints = reader.environment.ints;
      for (double number : list) ints.push_back(static_cast<int32_t>(number));
      return;
    }
    case ACCEL_ARG_KV: {
      const std::span<const double> layers = reader.list(), sequences = reader.list();
      view.clear();
      arg.kv = &view;
      for (double layer : layers) {
        for (double sequence : sequences) {
          auto id = static_cast<uint32_t>(sequence);
          if (id == 0) disposed_arg(entry, index);
          view.add(reader.environment.get<KvSequence>(id, "KV sequence"), static_cast<int32_t>(layer));
        }
      }
      return;
    }
    default:
      fail("ERR_ACCEL_INTERNAL", "an op call has an argument of kind %d", arg.kind);
  }
}

void run_checked(Environment& environment, uint32_t stream_id, int32_t op_id, uint32_t count, uint32_t size) {
  auto& stream = environment.get<Stream>(stream_id, "stream");
  const OpEntry* entry = find_op(op_id);
  if (!entry) fail("ERR_ACCEL_OP_UNKNOWN", "there is no op with number %d", op_id);
  if (count > kMaxArgs) fail("ERR_ACCEL_ARGUMENT", "an op takes at most %d arguments, got %u", kMaxArgs, count);
  if (size > environment.values_size) fail("ERR_ACCEL_INTERNAL", "an op call is incomplete");
  HostArg args[kMaxArgs];
  environment.ints.clear();
  Reader reader{environment, environment.values, environment.values + size};
  for (uint32_t i = 0; i < count; i++) read_arg(reader, *entry, i, args[i], environment.kv_views[i]);
  // Only now: the list may have moved while it grew.
  const int32_t* ints = environment.ints.data();
  for (uint32_t i = 0; i < count; i++) {
    if (args[i].kind != ACCEL_ARG_INTS) continue;
    args[i].ints = ints;
    ints += args[i].ints_size;
  }
  enqueue_op(stream, *entry, args, count);
}

// run(stream, op, argument count, used values). Plain Node-API: this is called for every op.
napi_value run(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4];
  uint32_t numbers[4] = {};
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  for (int i = 0; i < 4; i++) napi_get_value_uint32(env, argv[i], &numbers[i]);
  void* environment = nullptr;
  napi_get_instance_data(env, &environment);
  try {
    run_checked(*static_cast<Environment*>(environment), numbers[0], static_cast<int32_t>(numbers[1]), numbers[2],
                numbers[3]);
  } catch (const Failure& failure) {
    make_error(env, failure).ThrowAsJavaScriptException();
  } catch (const std::bad_alloc&) {
    make_error(env, Failure("ERR_ACCEL_OUT_OF_MEMORY", "the process has no memory left")).ThrowAsJavaScriptException();
  }
  return nullptr;
}

}  // namespace

void export_ops(Napi::Env env, Napi::Object exports) {
  exports["builtinLibrary"] = Napi::Function::New<guarded<builtin_library>>(env);
  exports["loadLibrary"] = Napi::Function::New<guarded<load_library>>(env);
  napi_value function;
  napi_create_function(env, "run", NAPI_AUTO_LENGTH, run, nullptr, &function);
  exports["run"] = Napi::Value(env, function);
}

}  // namespace accel::node
