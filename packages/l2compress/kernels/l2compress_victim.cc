// l2compress_victim: the one row of each head that leaves in a decode step.
//
//   out  i32 [Hk]   the row with the largest key norm; of equal ones the newest, so that the older row stays
//   kv              one sequence; the first `sink` and the last `recent` rows stay
//
// What it leaves is exactly what a top-k of all but one of the scores would (l2compress_scores). A NaN is an error, as it
// is there. One op, so that a replayed decode step has no tensor of scores that changes its shape.
#include <cmath>

#include "l2compress.h"

namespace accel_l2compress {

int l2compress_victim_check(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_kv* kv = call->args[kKv].kv;
  if (out->ndim != 1 || out->dtype.code != ACCEL_INT || out->dtype.bits != 32) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "l2compress_victim: out must be an int32 list [kv heads].");
  }
  if (check_kv(call, "l2compress_victim") != ACCEL_OK) return ACCEL_FAILED;
  if (out->shape[0] != kv->heads) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "l2compress_victim: out is [%lld] but kv has %d heads.",
                      (long long)out->shape[0], kv->heads);
  }
  const int64_t sink = call->args[kSink].i, recent = call->args[kRecent].i;
  if (sink + recent >= kv->head[0].rows) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "l2compress_victim: sink %lld and recent %lld protect all of %d rows; none can leave.",
                      (long long)sink, (long long)recent, kv->head[0].rows);
  }
  return ACCEL_OK;
}

int l2compress_victim_cpu(const accel_call* call) {
  const accel_kv* kv = call->args[kKv].kv;
  int32_t* out = data<int32_t>(call->args[kOut]);
  const int64_t n = kv->head[0].rows;
  float* scores = static_cast<float*>(call->scratch(call, static_cast<size_t>(kv->heads * n) * sizeof(float)));
  score_on_cpu(call, scores, n);
  for (int32_t h = 0; h < kv->heads; ++h) {
    const float* row = scores + h * n;
    int64_t victim = 0;
    for (int64_t j = 0; j < n; ++j) {
      if (row[j] != row[j]) {
        return call->fail(call, "ERR_ACCEL_NAN", "l2compress_victim: a key of head %d has a NaN", h);
      }
      if (row[j] <= row[victim]) victim = j;
    }
    out[h] = static_cast<int32_t>(victim);
  }
  call->ran(call, "l2compress_victim");
  return ACCEL_OK;
}

}  // namespace accel_l2compress
