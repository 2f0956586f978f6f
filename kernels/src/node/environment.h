// What the addon keeps for one JavaScript environment (the main thread or a worker thread).
//
// JavaScript holds native objects as numbers: indices into this table. The façade (kernels/ts) is the only caller and
// keeps the numbers private; a disposed object has the number 0. Numbers make an op call cheap: the façade writes the
// arguments into one shared array and calls `run` once.
#ifndef ACCEL_NODE_ENVIRONMENT_H
#define ACCEL_NODE_ENVIRONMENT_H

#include <napi.h>

#include <memory>
#include <vector>

#include "common/enqueue.h"
#include "common/error.h"
#include "common/kv_sequence.h"
#include "common/mapped_file.h"
#include "common/page_pool.h"
#include "common/stream.h"
#include "common/tensor.h"
#include "node/completions.h"

namespace accel::node {

enum class Kind : uint8_t { free, stream, tensor, pool, sequence, file };

template <typename T>
constexpr Kind kind_of();
template <>
constexpr Kind kind_of<Stream>() { return Kind::stream; }
template <>
constexpr Kind kind_of<Tensor>() { return Kind::tensor; }
template <>
constexpr Kind kind_of<PagePool>() { return Kind::pool; }
template <>
constexpr Kind kind_of<KvSequence>() { return Kind::sequence; }
template <>
constexpr Kind kind_of<MappedFile>() { return Kind::file; }

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  static Environment& of(napi_env env);

  template <typename T>
  uint32_t add(Ref<T> object, int64_t bytes = 0) {
    uint32_t id = take_slot();
    object->retain();
    slots_[id] = {object.get(), bytes, kind_of<T>()};
    if (bytes > 0) account(bytes);
    return id;
  }
  template <typename T>
  T& get(uint32_t id, const char* what) const {
    if (id >= slots_.size() || slots_[id].kind != kind_of<T>()) no_such(id, what);
    return *static_cast<T*>(slots_[id].object);
  }
  // Lets go of an object. Streams end after what they still have to do, pools and sequences stop giving pages.
  void dispose(uint32_t id);

  // Tells the garbage collector about `bytes` more (or fewer) bytes that JavaScript objects hold on to.
  void account(int64_t bytes);

  // Drops what has not started: the environment is going away.
  void close();

  // The argument array: written by the façade, read here.
  double* values = nullptr;
  size_t values_size = 0;
  Napi::Reference<Napi::Float64Array> values_array;

  Napi::FunctionReference error_constructor;
  std::shared_ptr<Completions> completions;
  KvView kv_views[kMaxArgs];  // reused by `run`
  std::vector<int32_t> ints;  // reused by `run`

 private:
  struct Slot {
    RefCounted* object = nullptr;
    int64_t bytes = 0;  // that came into being with this object
    Kind kind = Kind::free;
  };
  uint32_t take_slot();
  [[noreturn]] void no_such(uint32_t id, const char* what) const;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  napi_env env_;
  int64_t unreported_bytes_ = 0;
};

// An AccelError with this failure's code and message.
Napi::Error make_error(Napi::Env env, const Failure& failure);

// Wraps a function so that failures inside it become AccelErrors.
using Function = Napi::Value (*)(const Napi::CallbackInfo&);
template <Function function>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return function(info);
  } catch (const Failure& failure) {
    throw make_error(info.Env(), failure);
  } catch (const std::bad_alloc&) {
    throw make_error(info.Env(), Failure("ERR_ACCEL_OUT_OF_MEMORY", "the process has no memory left"));
  }
}

// Arguments of the addon's functions. The façade has checked their types; these only convert.
inline uint32_t id_at(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>(); }
inline int32_t int_at(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>(); }
inline double number_at(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>(); }
inline std::string text_at(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::String>(); }
// A whole number of bytes or elements; throws unless it is one.
size_t size_at(const Napi::CallbackInfo& info, size_t index, const char* name);
// A shape: `ndim` numbers at the start of the argument array.
Shape shape_from(const Environment& environment, size_t ndim);

void export_devices(Napi::Env env, Napi::Object exports);
void export_tensors(Napi::Env env, Napi::Object exports);
void export_kv(Napi::Env env, Napi::Object exports);
void export_ops(Napi::Env env, Napi::Object exports);

}  // namespace accel::node
#endif
