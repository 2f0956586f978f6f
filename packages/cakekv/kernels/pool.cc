// cake_pool: spreads every score over its neighbours.
//
//   out    f32 [H, n]  average over `size` columns around each column of the prefix; `rest` in the columns from `prefix`
//                      on: +inf, so that a top-k keeps them, or another number
//   scores f32 [H, n]
//
// Pooling sees the prefix only, stride 1. Columns outside count as 0 and the divisor is always `size`, so both ends are
// attenuated. Every output is summed anew, in column order: equal inputs give equal sums, and ties are decided by
// position.
#include "accel/host.h"
#include "cakekv.h"

namespace accel_cakekv {

int pool_cpu(const accel_call* call) {
  const accel_tensor* shape = call->args[kScores].tensor;
  const int64_t heads = shape->shape[0], n = shape->shape[1], prefix = call->args[kPrefix].i,
                size = call->args[kSize].i;
  const float* scores = tensor_data<const float>(call->args[kScores]);
  float* out = tensor_data<float>(call->args[kPooled]);
  const float rest = static_cast<float>(call->args[kRest].f);
  accel::host::parallel(call, heads * n, 4096, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t column = at % n;
      if (column >= prefix) {
        out[at] = rest;
        continue;
      }
      const float* row = scores + (at - column);
      const int64_t from = column > size / 2 ? column - size / 2 : 0;
      const int64_t to = column + size / 2 + 1 < prefix ? column + size / 2 + 1 : prefix;
      float sum = 0;
      for (int64_t j = from; j < to; ++j) sum += row[j];
      out[at] = sum / static_cast<float>(size);
    }
  });
  call->ran(call, "cake_pool");
  return ACCEL_OK;
}

}  // namespace accel_cakekv
