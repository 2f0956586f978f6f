// The scalar twin of the attention kernels: the definitions, in fp64, one query and one key at a time.
#ifndef ACCEL_TEST_OPS_REFERENCE_H
#define ACCEL_TEST_OPS_REFERENCE_H

#include "ops_host.h"

namespace test {

struct Mask {
  bool causal = true;
  int64_t window = 0;  // in positions
  bool ranged = false;
  int64_t begin = 0, end = 0;
  bool sees(int64_t i, int64_t j, int64_t m, int64_t n) const {
    if (causal && j > n - m + i) return false;
    if (window > 0 && Cache::position_step * (n - m + i - j) >= window) return false;
    return !ranged || (j >= begin && j < end);
  }
};

// The keys (0) or values (1) of a head, widened.
inline std::vector<double> reference_rows(Cache& cache, int which, int head) {
  const int d = cache.kv.head_dim;
  std::vector<double> rows((size_t)cache.heads[head].rows * d);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = cache.get(which, head, (int64_t)i / d, (int)(i % d));
  return rows;
}

// Logits of query i of m (token `token` of q) against all rows of its kv head; -inf where masked.
inline std::vector<double> reference_logits(const Tensor& q, int64_t token, int head, const std::vector<double>& keys,
                                            int d, const Mask& mask, int64_t i, int64_t m, double scale) {
  const int64_t n = (int64_t)keys.size() / d, heads = q.shape[1];
  std::vector<double> logits((size_t)n, -INFINITY), row((size_t)d);
  for (int c = 0; c < d; ++c) row[c] = q.get((token * heads + head) * d + c);
  for (int64_t j = 0; j < n; ++j) {
    if (!mask.sees(i, j, m, n)) continue;
    double s = 0;
    for (int c = 0; c < d; ++c) s += row[c] * keys[j * d + c];
    logits[j] = s * scale;
  }
  return logits;
}

inline double reference_lse(const std::vector<double>& logits) {
  double top = -INFINITY, sum = 0;
  for (const double l : logits) top = std::max(top, l);
  if (top == -INFINITY) return top;
  for (const double l : logits) sum += exp(l - top);
  return top + log(sum);
}

inline void reference_attention(const Tensor& q, Cache& cache, const std::vector<int32_t>& lens,
                                const std::vector<Mask>& masks, double scale, std::vector<double>& out,
                                std::vector<double>& lse) {
  const int d = cache.kv.head_dim, heads = (int)q.shape[1], group = heads / cache.kv.heads;
  out.assign((size_t)q.size(), 0);
  lse.assign((size_t)(q.shape[0] * heads), -INFINITY);
  int64_t first = 0;
  for (int b = 0; b < (int)lens.size(); ++b) {
    for (int h = 0; h < heads; ++h) {
      const int kv_head = b * cache.kv.heads + h / group;
      const auto keys = reference_rows(cache, 0, kv_head), values = reference_rows(cache, 1, kv_head);
      for (int i = 0; i < lens[b]; ++i) {
        const int64_t row = (first + i) * heads + h;
        const auto logits = reference_logits(q, first + i, h, keys, d, masks[b], i, lens[b], scale);
        lse[row] = reference_lse(logits);
        if (lse[row] == -INFINITY) continue;
        for (size_t j = 0; j < logits.size(); ++j) {
          const double p = exp(logits[j] - lse[row]);
          if (p == 0) continue;
          for (int c = 0; c < d; ++c) out[row * d + c] += p * values[j * d + c];
        }
      }
    }
    first += lens[b];
  }
}

// [Hs, n]; reduce 0 none, 1 mean, 2 max, 3 sum
inline std::vector<double> reference_columns(const Tensor& q, Cache& cache, double scale, int reduce) {
  const int heads = (int)q.shape[1], group = heads / cache.kv.heads;
  const int64_t m = q.shape[0], n = cache.heads[0].rows;
  std::vector<double> all((size_t)(heads * n), 0);
  for (int h = 0; h < heads; ++h) {
    const auto keys = reference_rows(cache, 0, h / group);
    for (int64_t i = 0; i < m; ++i) {
      const auto logits = reference_logits(q, i, h, keys, cache.kv.head_dim, Mask(), i, m, scale);
      const double l = reference_lse(logits);
      for (int64_t j = 0; j < n; ++j) all[h * n + j] += exp(logits[j] - l);
    }
  }
  if (reduce == 0) return all;
  std::vector<double> out((size_t)(cache.kv.heads * n), 0);
  for (int h = 0; h < heads; ++h) {
    for (int64_t j = 0; j < n; ++j) {
      double& o = out[h / group * n + j];
      o = reduce == 2 ? std::max(o, all[h * n + j]) : o + all[h * n + j] / (reduce == 1 ? group : 1);
    }
  }
  return out;
}

}  // namespace test
#endif
