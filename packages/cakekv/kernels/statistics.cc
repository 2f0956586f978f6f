// cake_statistics: what the last queries of a prompt say about every cached row, and about the layer as a whole
// (CAKE, Qin et al., ICLR 2025, arXiv 2503.12491).
//
//   p[h, i, j] = softmax over all n rows of scale * q_i . k_j, query i the i-th of the last w, causal among the last w
//   columns j < n - window: rows of p are not renormalised over them
//   sliding: the model's sliding window in positions (ADR 0017); p is 0 outside of it. 0: no limit
//
//   indicator f32 [Hk, n]  mean over the queries + gamma * their unbiased variance, mean over the g query heads of the
//                          kv head; 0 for the window. Pooling along j is linear and comes later (cake_pool), so the
//                          mean over the group may come first. With one query the variance is 0.
//   sums f64 [2]           dispersion: - sum over h, i, j of p ln(p + 1e-10); shift: sum over h, j of the variance
//
// A tile is 32 keys of one kv head, transposed, so that a query's logits are one vector loop without reordered sums
// (tiles.inc.h). Tiles are worked on twice: for the queries' log-sum-exp, then for the sums. Sums over queries, columns and
// tiles are float64 and made in a fixed order, whatever the number of threads.
#include <cmath>
#include <cstdlib>
#include <type_traits>

#include "accel/host.h"
#include "cakekv.h"
#include "tiles.h"

namespace accel_cakekv {
namespace {

using accel::host::parallel;

// The widest instruction set of this machine, or the one that ACCEL_CPU_ISA names, as in @accel/kernels.
const TileKernels& tile_kernels() {
#if defined(__x86_64__) || defined(_M_X64)
  static const TileKernels& chosen = []() -> const TileKernels& {
    const char* asked = std::getenv("ACCEL_CPU_ISA");
    const auto below = [&](const char* level) { return asked != nullptr && strcmp(asked, level) == 0; };
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !below("base");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && !below("avx2");
    return avx512 ? tiles_avx512 : avx2 ? tiles_avx2 : tiles_base;
  }();
  return chosen;
#else
  return tiles_base;
#endif
}

void join_lse(const Problem& p, int64_t at) {
  const int64_t stride = p.kv->heads * p.group * p.w;
  float top = -INFINITY;
  for (int64_t t = 0; t < p.tiles; ++t) top = p.parts[t * stride + at].top > top ? p.parts[t * stride + at].top : top;
  double sum = 0;
  for (int64_t t = 0; t < p.tiles; ++t) {
    const Part& part = p.parts[t * stride + at];
    if (part.sum > 0) sum += part.sum * std::exp(static_cast<double>(part.top) - top);
  }
  p.lse[at] = static_cast<float>(top + std::log(sum));
}

template <class T>
T* scratch(const accel_call* call, int64_t count) {
  return static_cast<T*>(call->scratch(call, static_cast<size_t>(count) * sizeof(T)));
}

}  // namespace

int statistics_cpu(const accel_call* call) {
  const accel_tensor* q = call->args[kQueries].tensor;
  const accel_kv& kv = *call->args[kStatisticsKv].kv;
  Problem p = {};
  p.kv = &kv;
  p.rows = kv.head[0].rows;
  p.w = q->shape[0];
  p.group = q->shape[1] / kv.heads;
  p.dim = kv.head_dim;
  p.tiles = (p.rows + kTile - 1) / kTile;
  p.columns = p.rows - call->args[kStatisticsWindow].i;
  p.gamma = static_cast<float>(call->args[kGamma].f);
  p.begins = scratch<int32_t>(call, kv.heads * p.w);
  p.indicator = tensor_data<float>(call->args[kIndicator]);

  const int64_t packed = p.group * p.w, all = kv.heads * packed;
  float* queries = scratch<float>(call, all * p.dim);
  p.queries = queries;
  p.floats = scratch<float>(call, call->threads * p.dim * kTile);
  p.parts = scratch<Part>(call, p.tiles * all);
  p.lse = scratch<float>(call, all);
  p.sums = scratch<double>(call, p.tiles * kv.heads * 2);

  for (int h = 0; h < kv.heads; ++h) {
    accel::host::KvHead(kv, 0, h).window_begins(p.rows - p.w, p.w, call->args[kSliding].i, p.begins + h * p.w);
  }
  const float scale = static_cast<float>(call->args[kScale].f);
  accel::host::with_float(kv.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* from = tensor_data<const T>(call->args[kQueries]);
    for (int64_t head = 0; head < kv.heads * p.group; ++head) {
      for (int64_t i = 0; i < p.w; ++i) {
        const T* row = from + (i * kv.heads * p.group + head) * p.dim;
        for (int64_t c = 0; c < p.dim; ++c) queries[(head * p.w + i) * p.dim + c] = accel::host::widen(row[c]) * scale;
      }
    }
  });
  const TileKernels& kernels = tile_kernels();
  const int64_t items = p.tiles * kv.heads;
  parallel(call, items, 1, [&](int64_t begin, int64_t end, int32_t worker) {
    float* floats = p.floats + worker * p.dim * kTile;
    for (int64_t i = begin; i < end; ++i) kernels.lse(p, i % kv.heads, i / kv.heads, floats);
  });
  parallel(call, all, 64, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) join_lse(p, i);
  });
  parallel(call, items, 1, [&](int64_t begin, int64_t end, int32_t worker) {
    float* floats = p.floats + worker * p.dim * kTile;
    for (int64_t i = begin; i < end; ++i) kernels.statistics(p, i % kv.heads, i / kv.heads, floats);
  });
  if (double* sums = tensor_data<double>(call->args[kSums])) {
    sums[0] = sums[1] = 0;
    for (int64_t i = 0; i < items; ++i) {
      sums[0] += p.sums[2 * i];
      sums[1] += p.sums[2 * i + 1];
    }
  }
  call->ran(call, "cake_statistics");
  return ACCEL_OK;
}

}  // namespace accel_cakekv
