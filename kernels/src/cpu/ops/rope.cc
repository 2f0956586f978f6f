// rope_table, rope: rotary position embedding (Su et al. 2021, arXiv:2104.09864).
//
// table [T, r/2, 2]: (cos, sin) of position * inv_freq, computed in fp64 and rounded once, times `scale` (YaRN's
// attention factor; 1 otherwise). Pair p of a head is channels (p, p + r/2), or (2p, 2p + 1) if interleaved:
//   x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin.  Channels from r on stay as they are.
#include <math.h>

#include "cpu/builtin.h"
#include "cpu/ops/args.h"
#include "cpu/ops/elementwise_kernels.h"

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

int rope_check(const accel_call* call) {
  Checker check(call, "rope");
  check.activation(0, "x").dtype(1, "table", {Type::f32});
  check.shape(0, "x", "[T,heads,d]", {-1, -1, -1}).shape(1, "table", "[T,r/2,2]", {check.dim(0, 0), -1, 2});
  check.require(check.dim(1, 1) * 2 <= check.dim(0, 2) && check.dim(0, 2) <= 256, "ERR_ACCEL_SHAPE",
                "table rotates %lld channels but x has head_dim %lld (at most 256)", (long long)check.dim(1, 1) * 2,
                (long long)check.dim(0, 2));
  return check
      .require(call->args[2].i == 0 || call->args[2].i == 1, "ERR_ACCEL_ARGUMENT", "interleaved must be 0 or 1, got %lld",
               (long long)call->args[2].i)
      .result();
}

int rope(const accel_call* call) {
  const int64_t tokens = dim(call, 0, 0);
  const int heads = (int)dim(call, 0, 1), head_dim = (int)dim(call, 0, 2), half = (int)dim(call, 1, 1);
  const Type t = type(call, 0);
  uint8_t* x = data<uint8_t>(tensor(call, 0));
  const float* table = data<float>(tensor(call, 1));
  const bool interleaved = call->args[2].i != 0;
  const int64_t row = (int64_t)heads * head_dim * type_bytes(t);
  const ElementwiseKernels& kernels = elementwise_kernels();
  parallel(call, tokens, grain_for((int64_t)heads * head_dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      kernels.rope(t, x + i * row, heads, head_dim, half, table + i * half * 2, interleaved);
    }
  });
  call->ran(call, "rope");
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"rope_table", "out:tensor, positions:tensor, inv_freq:tensor, scale:float", rope_table_check, rope_table, nullptr},
    {"rope", "x:tensor, table:tensor, interleaved:int", rope_check, rope, nullptr},
};

}  // namespace

OpTable rope_ops() { return {ops, sizeof ops / sizeof *ops}; }

}  // namespace accel::cpu
