// snapkv_pool: spreads every vote over its neighbours and protects the observation window.
//
//   out    f32 [H, n]   pooled scores; columns from `prefix` on are +inf, so a top-k over the row keeps them
//   scores f32 [H, n]   votes of the observed queries
//
// Pooling sees the prefix only, stride 1, `kernel` odd. Average: columns outside the prefix count as 0 and the divisor
// is always `kernel` (both ends are attenuated). Maximum: columns outside count as -inf.
#include <stdint.h>

#include <cmath>

#include "snapkv_pool.h"

namespace {

using namespace accel_snapkv;

bool is_f32_matrix(const accel_tensor* t) {
  return t->ndim == 2 && t->dtype.code == ACCEL_FLOAT && t->dtype.bits == 32;
}

int check(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_tensor* scores = call->args[kScores].tensor;
  const int64_t prefix = call->args[kPrefix].i;
  const int64_t kernel = call->args[kKernel].i;
  const int64_t kind = call->args[kKind].i;
  if (!is_f32_matrix(out) || !is_f32_matrix(scores)) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "snapkv_pool: out and scores must be float32 matrices [heads, rows].");
  }
  if (out->shape[0] != scores->shape[0] || out->shape[1] != scores->shape[1]) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "snapkv_pool: out is [%lld, %lld] but scores is [%lld, %lld]; they must agree.",
                      (long long)out->shape[0], (long long)out->shape[1], (long long)scores->shape[0],
                      (long long)scores->shape[1]);
  }
  if (out->data == scores->data && out->byte_offset == scores->byte_offset) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "snapkv_pool: out and scores must be different tensors.");
  }
  if (prefix < 0 || prefix > scores->shape[1]) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "snapkv_pool: prefix %lld is outside the %lld columns of scores.",
                      (long long)prefix, (long long)scores->shape[1]);
  }
  if (kernel < 1 || kernel % 2 == 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "snapkv_pool: kernel %lld must be odd and at least 1.", (long long)kernel);
  }
  if (kind != kAverage && kind != kMaximum) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "snapkv_pool: kind %lld must be 0 (average) or 1 (maximum).", (long long)kind);
  }
  return ACCEL_OK;
}

// Every output is summed anew, in column order: a running sum would give equal inputs unequal sums, and ties are
// decided by position.
float pooled(const Pool& pool, const float* row, int64_t column) {
  const int64_t reach = pool.kernel / 2;
  const int64_t begin = column > reach ? column - reach : 0;
  const int64_t end = column + reach + 1 < pool.prefix ? column + reach + 1 : pool.prefix;
  if (pool.kind == kMaximum) {
    float most = -INFINITY;
    for (int64_t j = begin; j < end; ++j) {
      // NaN wins, as it does in the average: the top-k after us reports it.
      if (row[j] > most || row[j] != row[j]) most = row[j];
    }
    return most;
  }
  float sum = 0;
  for (int64_t j = begin; j < end; ++j) sum += row[j];
  return sum / static_cast<float>(pool.kernel);
}

// Elements [begin, end) of the whole matrix.
void run_range(void* user, int64_t begin, int64_t end, int32_t) {
  const Pool& pool = *static_cast<const Pool*>(user);
  while (begin < end) {
    const int64_t head = begin / pool.columns;
    const int64_t first = head * pool.columns;
    const int64_t stop = end < first + pool.columns ? end : first + pool.columns;
    for (int64_t at = begin; at < stop; ++at) {
      const int64_t column = at - first;
      pool.out[at] = column < pool.prefix ? pooled(pool, pool.scores + first, column) : INFINITY;
    }
    begin = stop;
  }
}

int run(const accel_call* call) {
  const accel_tensor* scores = call->args[kScores].tensor;
  Pool pool = pool_of(call);
  call->ran(call, "snapkv_pool");
  call->parallel(call, scores->shape[0] * scores->shape[1], 4096, run_range, &pool);
  return ACCEL_OK;
}

const accel_op ops[] = {
    {"snapkv_pool", "out:tensor, scores:tensor, prefix:int, kernel:int, kind:int", check, run,
     snapkv_pool_cuda},
};
const accel_op_library library = {ACCEL_OP_ABI, ACCEL_LIBRARY_NAME, ACCEL_LIBRARY_VERSION, 1, ops};

}  // namespace

extern "C" ACCEL_EXPORT const accel_op_library* accel_op_library_get(uint32_t) { return &library; }
