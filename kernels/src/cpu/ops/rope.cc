// rope_table, rope, rope_append: rotary position embedding (Su et al. 2021, arXiv:2104.09864).
//
// table [T, r/2, 2]: (cos, sin) of position * inv_freq, computed in fp64 and rounded once, times `scale` (YaRN's
// attention factor; 1 otherwise). Pair p of a head is channels (p, p + r/2), or (2p, 2p + 1) if interleaved:
//   x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin.  Channels from r on stay as they are.
#include <math.h>

#include "cpu/builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/elementwise_kernels.h"
#include "cpu/ops/kv_append.h"

namespace accel::cpu {
namespace {

// ---- rope_table  out:tensor f32[T,r/2,2], positions:tensor i32[T], inv_freq:tensor f64[r/2], scale:float

int rope_table_check(const accel_call* call) {
  Checker check(call, "rope_table");
  check.dtype(0, "out", {Type::f32}).dtype(1, "positions", {Type::i32}).dtype(2, "inv_freq", {Type::f64});
  check.shape(1, "positions", "[T]", {-1}).shape(2, "inv_freq", "[r/2]", {-1});
  return check.shape(0, "out", "[T,r/2,2]", {check.dim(1, 0), check.dim(2, 0), 2}).result();
}

int rope_table(const accel_call* call) {
  const int64_t tokens = dim(call, 1, 0), half = dim(call, 2, 0);
  float* out = data<float>(tensor(call, 0));
  const int32_t* positions = data<int32_t>(tensor(call, 1));
  const double* inv_freq = data<double>(tensor(call, 2));
  const double scale = call->args[3].f;
  parallel(call, tokens, grain_for(half * 64), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t p = 0; p < half; ++p) {
        const double angle = positions[t] * inv_freq[p];
        out[(t * half + p) * 2] = (float)(cos(angle) * scale);
        out[(t * half + p) * 2 + 1] = (float)(sin(angle) * scale);
      }
    }
  });
  call->ran(call, "rope_table");
  return ACCEL_OK;
}

// ---- rope  x:tensor[T,heads,d] in place, table:tensor f32[T,r/2,2], interleaved:int

void check_rotation(Checker& check, const accel_call* call, int x, const char* name, int table, int interleaved) {
  check.dtype(table, "table", {Type::f32}).shape(x, name, "[T,heads,d]", {-1, -1, -1});
  check.shape(table, "table", "[T,r/2,2]", {check.dim(x, 0), -1, 2});
  check.require(check.dim(table, 1) * 2 <= check.dim(x, 2) && check.dim(x, 2) <= 256, "ERR_ACCEL_SHAPE",
                "table rotates %lld channels but %s has head_dim %lld (at most 256)",
                (long long)check.dim(table, 1) * 2, name, (long long)check.dim(x, 2));
  const int64_t i = call->args[interleaved].i;
  check.require(i == 0 || i == 1, "ERR_ACCEL_ARGUMENT", "interleaved must be 0 or 1, got %lld", (long long)i);
}

int rope_check(const accel_call* call) {
  Checker check(call, "rope");
  check.activation(0, "x");
  check_rotation(check, call, 0, "x", 1, 2);
  return check.result();
}

void rotate(const accel_call* call, const accel_tensor* tensor, const accel_tensor* angles, bool interleaved) {
  const int64_t tokens = tensor->shape[0];
  const int heads = (int)tensor->shape[1], head_dim = (int)tensor->shape[2], half = (int)angles->shape[1];
  const Type t = type_of(tensor->dtype);
  uint8_t* x = data<uint8_t>(tensor);
  const float* table = data<float>(angles);
  const int64_t row = (int64_t)heads * head_dim * type_bytes(t);
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, tokens, grain_for((int64_t)heads * head_dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      kernels.rope(t, x + i * row, heads, head_dim, half, table + i * half * 2, interleaved);
    }
  });
}

int rope(const accel_call* call) {
  rotate(call, tensor(call, 0), tensor(call, 1), call->args[2].i != 0);
  call->ran(call, "rope");
  return ACCEL_OK;
}

// ---- rope_append  q:tensor?[T,Hq,d] in place, k:tensor[T,Hk,d], v:tensor[T,Hk,d], kv:kv, table:tensor f32[T,r/2,2],
//                   positions:tensor i32[T], lens:ints[B], interleaved:int
// rope(q), rope(k), kv_append(kv, k, v). k is left rotated here; other devices leave it alone.

constexpr AppendArgs append_args = {3, 1, 2, 5, 6};

int rope_append_check(const accel_call* call) {
  Checker check(call, "rope_append");
  check_append(check, call, append_args);
  if (!check.ok()) return check.result();
  check_rotation(check, call, 1, "k", 4, 7);
  if (check.has(0)) {
    const accel_kv& kv = *call->args[3].kv;
    check.kv_dtype(0, "q", 3, "kv").shape(0, "q", "[T,Hq,d]", {check.dim(1, 0), -1, kv.head_dim});
  }
  return check.result();
}

int rope_append(const accel_call* call) {
  const bool interleaved = call->args[7].i != 0;
  if (tensor(call, 0) != nullptr) rotate(call, tensor(call, 0), tensor(call, 4), interleaved);
  rotate(call, tensor(call, 1), tensor(call, 4), interleaved);
  append_rows(call, append_args);
  call->ran(call, "rope_append");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"rope_table", "out:tensor, positions:tensor, inv_freq:tensor, scale:float", rope_table_check, rope_table, nullptr},
    {"rope", "x:tensor, table:tensor, interleaved:int", rope_check, rope, nullptr},
    {"rope_append",
     "q:tensor?, k:tensor, v:tensor, kv:kv+, table:tensor, positions:tensor, lens:ints, interleaved:int",
     rope_append_check, rope_append, nullptr},
};

}  // namespace

OpTable rope_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
