// l2compress_scores: how small every cached key is (Devoto et al. 2024, arXiv:2406.11430).
//
//   out  f32 [Hk, n]   -(sum over d of K[h, j, d]^2); the first `sink` and the last `recent` columns are +inf
//   kv   one sequence with n rows in every head
//
// The squared norm orders rows as the norm does and needs no root. Sums are float32 whatever the cache holds: norms that
// are rounded to bfloat16 tie in most positions (NVIDIA/kvpress #276). Rotation leaves a norm as it is, so it does not
// matter that keys are stored rotated. The sign makes "the largest stay, of equal ones the lower column" what the method
// wants: the smallest norm, then the older row. NaN stays NaN, and the top-k after us reports it.
#include <cmath>
#include <type_traits>

#include "accel/host.h"
#include "l2compress.h"

namespace accel_l2compress {

int check_kv(const accel_call* call, const char* op) {
  const accel_kv* kv = call->args[kKv].kv;
  const bool wide = kv->dtype.code == ACCEL_FLOAT && kv->dtype.bits == 32;
  const bool half = (kv->dtype.code == ACCEL_FLOAT || kv->dtype.code == ACCEL_BFLOAT) && kv->dtype.bits == 16;
  if (!wide && !half) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "%s: kv must hold float32, bfloat16 or float16 rows.", op);
  }
  if (kv->sequences != 1) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "%s: kv has %d sequences, expected 1.", op, kv->sequences);
  }
  for (int32_t h = 0; h < kv->heads; ++h) {
    if (kv->head[h].rows == kv->head[0].rows) continue;
    return call->fail(call, "ERR_ACCEL_SHAPE", "%s: head 0 of kv has %d rows, head %d has %d; they must agree.", op,
                      kv->head[0].rows, h, kv->head[h].rows);
  }
  const int64_t sink = call->args[kSink].i, recent = call->args[kRecent].i;
  if (sink < 0 || recent < 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "%s: sink %lld and recent %lld must not be negative.", op,
                      (long long)sink, (long long)recent);
  }
  return ACCEL_OK;
}

int l2compress_scores_check(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_kv* kv = call->args[kKv].kv;
  if (out->ndim != 2 || out->dtype.code != ACCEL_FLOAT || out->dtype.bits != 32) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "l2compress_scores: out must be a float32 matrix [kv heads, rows].");
  }
  if (check_kv(call, "l2compress_scores") != ACCEL_OK) return ACCEL_FAILED;
  if (out->shape[0] != kv->heads || out->shape[1] != kv->head[0].rows) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "l2compress_scores: out is [%lld, %lld] but kv has %d heads of %d rows.",
                      (long long)out->shape[0], (long long)out->shape[1], kv->heads, kv->head[0].rows);
  }
  return ACCEL_OK;
}

namespace {

// Sixteen running sums, so that the compiler can use whatever vectors there are.
template <class T>
float squared_norm(const T* key, int dim) {
  constexpr int kLanes = 16;
  float sums[kLanes] = {};
  int c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      const float x = accel::host::widen(key[c + i]);
      sums[i] += x * x;
    }
  }
  for (int i = 0; c < dim; ++c, ++i) {
    const float x = accel::host::widen(key[c]);
    sums[i] += x * x;
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace

void score_on_cpu(const accel_call* call, float* out, int64_t stride) {
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t rows = kv.head[0].rows, sink = call->args[kSink].i, recent = call->args[kRecent].i;
  accel::host::with_float(kv.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    // Rows are counted through all heads.
    accel::host::parallel(call, rows * kv.heads, 256, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t h = at / rows, row = at % rows;
        const bool chosen = row >= sink && row < rows - recent;
        const accel::host::KvHead head(kv, 0, static_cast<int>(h));
        out[h * stride + row] = chosen ? 0.0f - squared_norm(head.key<T>(row), kv.head_dim) : INFINITY;
      }
    });
  });
}

int l2compress_scores_cpu(const accel_call* call) {
  call->ran(call, "l2compress_scores");
  score_on_cpu(call, data<float>(call->args[kOut]), call->args[kOut].tensor->shape[1]);
  return ACCEL_OK;
}

}  // namespace accel_l2compress
