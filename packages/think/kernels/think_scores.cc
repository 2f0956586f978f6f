// think_queries and think_scores: how much each key channel matters to the last queries (ThinK, section 3.2). The product
// of the two means is, but for a constant, the squared Frobenius norm of the channel's part of the logits, |q_d k_d^T|^2.
//
//   think_queries  out f32 [Hk, D]  mean over the w queries of q^2, then mean or largest over the kv head's query heads
//                  q [w, Hq, D]; reduce 0 mean, 1 max
//   think_scores   out f32 [Hk, D]  queries times the mean of k^2 over rows [0, rows) of each head, or all that it has
//                  queries f32 [Hk, D]; kv one sequence in which these rows are plain
//
// Two ops, because queries are gone by the time that rows leave after a later layer. Sums are float32, of blocks of 256
// rows and then of blocks, in row order, whatever the number of threads.
#include <algorithm>
#include <type_traits>

#include "think_args.h"

namespace accel_think {

using namespace accel::host;

int queries_check(const accel_call* call) {
  using namespace queries;
  Checker check{call, "think_queries"};
  const accel_tensor *out = call->args[kOut].tensor, *q = call->args[kQ].tensor;
  const uint8_t code = q->dtype.code;
  check.require((code == ACCEL_FLOAT || code == ACCEL_BFLOAT) && q->dtype.bits <= 32, "ERR_ACCEL_DTYPE",
                "q must be float32, bfloat16 or float16");
  check.require(q->ndim == 3 && q->shape[0] >= 1, "ERR_ACCEL_SHAPE", "q must be [w, Hq, D] with at least one query");
  check.require(is_f32(out) && out->ndim == 2 && check.ok && out->shape[1] == q->shape[2] && out->shape[0] >= 1 &&
                    q->shape[1] >= 1 && q->shape[1] % out->shape[0] == 0,
                "ERR_ACCEL_SHAPE", "out must be float32 [Hk, D], D that of q, whose heads are a multiple of Hk");
  check.require(call->args[kReduce].i == kMean || call->args[kReduce].i == kMax, "ERR_ACCEL_ARGUMENT",
                "reduce must be 0 (mean) or 1 (max)");
  return check.result();
}

int queries_cpu(const accel_call* call) {
  using namespace queries;
  const accel_tensor *out = call->args[kOut].tensor, *q = call->args[kQ].tensor;
  const int64_t w = q->shape[0], heads = q->shape[1], dim = q->shape[2], group = heads / out->shape[0];
  const bool most = call->args[kReduce].i == kMax;
  with_float(q->dtype, [&](auto* e) {
    using T = std::remove_pointer_t<decltype(e)>;
    const T* x = data<const T>(q);
    for (int64_t i = 0; i < out->shape[0] * dim; ++i) {
      const int64_t first = i / dim * group, channel = i % dim;
      float result = 0;
      for (int64_t h = first; h < first + group; ++h) {
        float sum = 0;
        for (int64_t row = 0; row < w; ++row) {
          const float value = widen(x[(row * heads + h) * dim + channel]);
          sum += value * value;
        }
        const float mean = sum / static_cast<float>(w);
        // Squares are not negative, and a NaN must not get lost.
        result = most ? (mean <= result ? result : mean) : result + mean;
      }
      data<float>(out)[i] = most ? result : result / static_cast<float>(group);
    }
  });
  call->ran(call, "think_queries");
  return ACCEL_OK;
}

int scores_check(const accel_call* call) {
  using namespace scores;
  Checker check{call, "think_scores"};
  const accel_kv& kv = *call->args[kKv].kv;
  check.one_sequence(kv);
  check.require(kv.head_dim <= kMostChannels, "ERR_ACCEL_SHAPE", "the head dimension of kv must be at most 256");
  check.floats(kOut, kv.heads, kv.head_dim, "out must be float32 [Hk, D]");
  check.floats(kQueries, kv.heads, kv.head_dim, "queries must be float32 [Hk, D]");
  check.require(call->args[kRows].i >= 1 && call->args[kRows].i <= INT32_MAX, "ERR_ACCEL_ARGUMENT",
                "rows must be at least 1");
  for (int h = 0; check.ok && h < kv.heads; ++h) {
    check.require(kv.head[h].plain_keys == 0, "ERR_ACCEL_ARGUMENT", "the rows to score must not be encoded yet");
    check.require(kv.head[h].rows >= 1, "ERR_ACCEL_ARGUMENT", "every head must have rows");
  }
  return check.result();
}

int scores_cpu(const accel_call* call) {
  using namespace scores;
  const accel_kv& kv = *call->args[kKv].kv;
  const int64_t dim = kv.head_dim, most = call->args[kRows].i;
  const auto rows_of = [&](int64_t h) { return most < kv.head[h].rows ? most : kv.head[h].rows; };
  int64_t blocks = 0;
  for (int h = 0; h < kv.heads; ++h) blocks = std::max(blocks, (rows_of(h) + kBlock - 1) / kBlock);
  float* parts = static_cast<float*>(call->scratch(call, sizeof(float) * kv.heads * blocks * dim));

  parallel(call, kv.heads * blocks, 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      const KvHead head(kv, 0, static_cast<int>(i / blocks));
      const int64_t first = i % blocks * kBlock, stop = std::min(first + kBlock, rows_of(i / blocks));
      float* sums = parts + i * dim;
      for (int64_t c = 0; c < dim; ++c) sums[c] = 0;
      with_float(kv.dtype, [&](auto* e) {
        using T = std::remove_pointer_t<decltype(e)>;
        for (int64_t row = first; row < stop; ++row) {
          const T* key = head.key<const T>(row);
          for (int64_t c = 0; c < dim; ++c) sums[c] += widen(key[c]) * widen(key[c]);
        }
      });
    }
  });
  for (int64_t i = 0; i < kv.heads * dim; ++i) {
    const int64_t h = i / dim;
    float sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += parts[(h * blocks + b) * dim + i % dim];
    data<float>(call->args[kOut].tensor)[i] =
        data<float>(call->args[kQueries].tensor)[i] * (sum / static_cast<float>(rows_of(h)));
  }
  call->ran(call, "think_scores");
  return ACCEL_OK;
}

}  // namespace accel_think
