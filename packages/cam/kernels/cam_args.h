// Checks that both ops make, and what they read from a call. Host code.
#ifndef ACCEL_CAM_ARGS_H
#define ACCEL_CAM_ARGS_H

#include "accel/host.h"
#include "cam.h"

namespace accel_cam {
namespace {

// A tensor that may be absent is [heads], or [heads, columns] when there are columns.
inline bool fits(const accel_tensor* t, int64_t heads, int64_t columns) {
  if (t == nullptr) return true;
  if (columns < 0) return t->ndim == 1 && t->shape[0] == heads;
  return t->ndim == 2 && t->shape[0] == heads && t->shape[1] == columns;
}

inline int check_kv(const accel_call* call, const char* op, const accel_kv& kv) {
  if (kv.sequences != 1) {
    return call->fail(call, "ERR_ACCEL_BATCH", "%s: kv must be one sequence, got %d.", op, kv.sequences);
  }
  return ACCEL_OK;
}

inline int check_floats(const accel_call* call, const char* op, int i, const char* name, int64_t columns, int kv) {
  const accel_tensor* t = call->args[i].tensor;
  if (t != nullptr && (!accel::host::is_f32(t) || !fits(t, call->args[kv].kv->heads, columns))) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "%s: %s must be float32 with a number for each head%s.", op, name,
                      columns < 0 ? "" : " and row");
  }
  return ACCEL_OK;
}

inline int check_ints(const accel_call* call, const char* op, int i, const char* name, int64_t columns, int kv) {
  const accel_tensor* t = call->args[i].tensor;
  if (t != nullptr && (!accel::host::is_i32(t) || !fits(t, call->args[kv].kv->heads, columns))) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "%s: %s must be int32 with a number for each head%s.", op, name,
                      columns < 0 ? "" : " and row");
  }
  return ACCEL_OK;
}

inline int check_gate(const accel_call* call, const char* op, int gate, int seed, int layer) {
  const int64_t kind = call->args[gate].i;
  if (kind < kNever || kind > kBernoulli) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "%s: gate is %lld; it must be 0 (never), 1 (always) or 2 (bernoulli).",
                      op, (long long)kind);
  }
  if (call->args[seed].i < 0 || call->args[layer].i < 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "%s: seed and layer must not be negative.", op);
  }
  return ACCEL_OK;
}

inline Gate gate_of(const accel_call* call, int gate, int seed, int layer) {
  return {static_cast<int>(call->args[gate].i), static_cast<uint32_t>(call->args[layer].i),
          static_cast<uint64_t>(call->args[seed].i)};
}

}  // namespace
}  // namespace accel_cam
#endif
