#include "node/environment.h"

#include <cmath>
#include <utility>

namespace accel::node {
namespace {

constexpr int64_t kReportBytes = 32 << 20;

}  // namespace

Environment::Environment(Napi::Env env) : completions(Completions::create(env)), env_(env) {
  slots_.push_back({});  // number 0 is no object
}

Environment::~Environment() {
  close();
  for (Slot& slot : slots_) {
    if (slot.object) slot.object->release();
  }
}

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

uint32_t Environment::take_slot() {
  if (!free_.empty()) {
    uint32_t id = free_.back();
    free_.pop_back();
    return id;
  }
  slots_.push_back({});
  return static_cast<uint32_t>(slots_.size() - 1);
}

void Environment::no_such(uint32_t id, const char* what) const {
  if (id == 0) fail("ERR_ACCEL_DISPOSED", "this %s was disposed", what);
  fail("ERR_ACCEL_INTERNAL", "object %u is not a %s", id, what);
}

void Environment::dispose(uint32_t id) {
  if (id == 0 || id >= slots_.size()) return;
  Slot slot = std::exchange(slots_[id], {});
  switch (slot.kind) {
    case Kind::free:
      return;
    case Kind::stream:
      static_cast<Stream*>(slot.object)->close();
      break;
    case Kind::pool:
      static_cast<PagePool*>(slot.object)->close();
      break;
    case Kind::sequence:
      static_cast<KvSequence*>(slot.object)->dispose();
      break;
    case Kind::tensor:
    case Kind::file:
      break;
  }
  slot.object->release();
  free_.push_back(id);
  if (slot.bytes > 0) account(-slot.bytes);
}

void Environment::account(int64_t bytes) {
  // In large steps: a call costs more than an op.
  unreported_bytes_ += bytes;
  if (unreported_bytes_ < kReportBytes && unreported_bytes_ > -kReportBytes) return;
  int64_t total;
  napi_adjust_external_memory(env_, std::exchange(unreported_bytes_, 0), &total);
}

void Environment::close() {
  completions->close();
  for (Slot& slot : slots_) {
    if (slot.kind == Kind::stream) static_cast<Stream*>(slot.object)->cancel();
  }
}

Napi::Error make_error(Napi::Env env, const Failure& failure) {
  Environment& environment = Environment::of(env);
  if (environment.error_constructor.IsEmpty()) return Napi::Error::New(env, failure.message());
  Napi::Value error = environment.error_constructor.New(
      {Napi::String::New(env, failure.code()), Napi::String::New(env, failure.message())});
  return Napi::Error(env, error);
}

size_t size_at(const Napi::CallbackInfo& info, size_t index, const char* name) {
  double value = info[index].IsNumber() ? number_at(info, index) : std::nan("");
  if (!(value >= 0 && value <= 0x1p53) || value != std::floor(value)) {
    fail("ERR_ACCEL_ARGUMENT", "%s is %g; it must be a whole number, at least 0", name, value);
  }
  return static_cast<size_t>(value);
}

Shape shape_from(const Environment& environment, size_t ndim) {
  if (ndim > kMaxDims) {
    fail("ERR_ACCEL_SHAPE", "a tensor has at most %d dimensions, not %zu", kMaxDims, ndim);
  }
  Shape shape;
  shape.ndim = static_cast<int32_t>(ndim);
  for (size_t i = 0; i < ndim; i++) {
    double dim = environment.values[i];
    if (!(dim >= 0 && dim <= 0x1p53) || dim != std::floor(dim)) {
      fail("ERR_ACCEL_SHAPE", "dimension %zu of a shape is %g; it must be a whole number, at least 0", i, dim);
    }
    shape.dims[i] = static_cast<int64_t>(dim);
  }
  return shape;
}

}  // namespace accel::node
