// Body of the segment kernel. Included by one source per instruction set, which defines THINK_SEGMENT, its name.
//
// A tile is 16 keys: one item, or as many plain rows, or some of both where the pruned rows end inside an item. Logits of
// an item grow channel by channel, 16 keys side by side; those of a plain row are dot products. Keys and values are
// widened where they lie, once for up to four queries. Sums have a fixed order, whatever else is in the batch.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "accel/host.h"
#include "think_layout.h"
#include "think_segment.h"
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
// GCC's own AVX-512 intrinsics warn about their "undefined" helper values (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace accel_think {
namespace {

using accel::host::KvHead;

#include "think_vector.inc.h"

constexpr int kTile = kItemRows, kParts = kTile / W;

// Calls f(row, N) for all rows, four at a time as long as there are so many, then two, then one; N is a constant.
template <class F>
inline void by_four(int rows, const F& f) {
  int r = 0;
  for (; r + 4 <= rows; r += 4) f(r, std::integral_constant<int, 4>());
  if (r + 2 <= rows) f(r, std::integral_constant<int, 2>()), r += 2;
  if (r < rows) f(r, std::integral_constant<int, 1>());
}

// Logits [N][16] of N queries [N][channels] and an item [channels][16]. Few sums at a time would wait for each other, so
// then even and odd channels have their own.
template <int N, class T>
inline void item_logits(const float* queries, int64_t channels, const T* item, float* logits) {
  constexpr int chains = N * kParts >= 8 ? 1 : 2;
  F sum[chains][N][kParts] = {};
  for (int64_t c = 0; c < channels; c += chains) {
#pragma GCC unroll 2
    for (int i = 0; i < chains; ++i) {
      if (c + i == channels) break;
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const F key = load(item + (c + i) * kTile + p * W);
#pragma GCC unroll 4
        for (int r = 0; r < N; ++r) sum[i][r][p] += key * queries[r * channels + c + i];
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < N; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const F other = chains == 2 ? sum[chains - 1][r][p] : F{};
      store(logits + r * kTile + p * W, sum[0][r][p] + other);
    }
  }
}

// Logits of N queries [N][dim] and one plain key, a column of [N][16].
template <int N, class T>
inline void key_logits(const float* queries, int64_t dim, const T* key, float* logits) {
  F sum[N] = {};
  float rest[N] = {};
  int64_t c = 0;
  for (; c + W <= dim; c += W) {
    const F x = load(key + c);
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r) sum[r] += x * load(queries + r * dim + c);
  }
  for (; c < dim; ++c) {
    for (int r = 0; r < N; ++r) rest[r] += accel::host::widen(key[c]) * queries[r * dim + c];
  }
#pragma GCC unroll 4
  for (int r = 0; r < N; ++r) logits[r * kTile] = sum_of(sum[r]) + rest[r];
}

// Columns [c, c + C W) of add_values.
template <int N, int C, class T>
inline void add_columns(const float* weights, const T* const* values, int64_t count, int64_t dim, float* out,
                        int64_t c) {
  F sum[N][C];
#pragma GCC unroll 4
  for (int r = 0; r < N; ++r) {
#pragma GCC unroll 4
    for (int b = 0; b < C; ++b) sum[r][b] = load(out + r * dim + c + b * W);
  }
  for (int64_t j = 0; j < count; ++j) {
#pragma GCC unroll 4
    for (int b = 0; b < C; ++b) {
      const F value = load(values[j] + c + b * W);
#pragma GCC unroll 4
      for (int r = 0; r < N; ++r) sum[r][b] += value * weights[r * kTile + j];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < N; ++r) {
#pragma GCC unroll 4
    for (int b = 0; b < C; ++b) store(out + r * dim + c + b * W, sum[r][b]);
  }
}

// out [N][dim] += weights [N][16] times `count` values.
template <int N, class T>
inline void add_values(const float* weights, const T* const* values, int64_t count, int64_t dim, float* out) {
  constexpr int together = W == 16 ? 4 : 2;
  int64_t c = 0;
  for (; c + together * W <= dim; c += together * W) add_columns<N, together>(weights, values, count, dim, out, c);
  for (; c + W <= dim; c += W) add_columns<N, 1>(weights, values, count, dim, out, c);
  for (; c < dim; ++c) {
    for (int64_t j = 0; j < count; ++j) {
      for (int r = 0; r < N; ++r) out[r * dim + c] += weights[r * kTile + j] * accel::host::widen(values[j][c]);
    }
  }
}

// Makes weights of a row's logits for `count` keys from `key` on, relative to its largest so far.
inline void weigh(const Segment& s, int row, int64_t key, int64_t count, float* logits) {
  const int64_t seen = std::max<int64_t>(0, std::min(s.ends[row] - key, count));
  for (int64_t j = 0; j < std::min<int64_t>(s.begins[row] - key, kTile); ++j) logits[j] = -INFINITY;
  for (int64_t j = seen; j < kTile; ++j) logits[j] = -INFINITY;
  F most = load(logits), total = {};
  for (int p = 1; p < kParts; ++p) most = max(most, load(logits + p * W));
  const float here = largest_of(most), before = s.top[row], top = here > before ? here : before;
  // Nothing seen yet: the weights are 0 whatever they are relative to.
  const float origin = top == -INFINITY ? 0.0f : top;
  for (int p = 0; p < kParts; ++p) {
    const F weights = exp_of(load(logits + p * W) - origin);
    store(logits + p * W, weights);
    total += weights;
  }
  const float factor = before == top ? 1.0f : exp_of(F{} + (before - origin))[0];
  s.sum[row] = s.sum[row] * factor + sum_of(total);
  s.top[row] = top;
  if (factor == 1.0f) return;
  for (int64_t c = 0; c < s.kv->head_dim; ++c) s.out[row * s.kv->head_dim + c] *= factor;
}

// Bytes of the stream of encoded keys, where it is in one piece; else a copy of them.
inline const uint8_t* stream_bytes(const KvHead& head, int64_t page_bytes, int64_t at, int64_t n, uint8_t* copy) {
  if (at % page_bytes + n <= page_bytes) return head.encoded_key(at);
  for (int64_t done = 0; done < n;) {
    const int64_t piece = std::min(n - done, page_bytes - (at + done) % page_bytes);
    memcpy(copy + done, head.encoded_key(at + done), static_cast<size_t>(piece));
    done += piece;
  }
  return copy;
}

template <class T>
void run(const Segment& s) {
  const KvHead head(*s.kv, s.sequence, s.head);
  const int64_t dim = s.kv->head_dim, pruned_rows = head.head().encoded_keys, bytes = s.kv->encoded_key.bytes;
  float logits[kRows * kTile];
  for (int64_t key = s.begin; key < s.end; key += kTile) {
    const int64_t count = std::min<int64_t>(kTile, s.end - key);
    const int64_t pruned = std::max<int64_t>(0, std::min(pruned_rows - key, count));
    const T* values[kTile];
    for (int64_t j = 0; j < count; ++j) {
      values[j] = head.value<const T>(key + j);
      // They are needed right after the keys, and lie elsewhere.
      for (int64_t c = 0; c < dim; c += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(values[j] + c);
    }
    if (pruned > 0) {
      const int64_t at = s.kv->encoded_key.header + key / kTile * bytes;
      const T* item = reinterpret_cast<const T*>(stream_bytes(head, s.kv->page_bytes, at, bytes, s.item));
      by_four(s.rows, [&](int r, auto n) {
        item_logits<n()>(s.pruned + r * static_cast<int64_t>(s.kept), s.kept, item, logits + r * kTile);
      });
    }
    for (int64_t j = pruned; j < count; ++j) {
      const T* plain = head.key<const T>(key + j);
      by_four(s.rows, [&](int r, auto n) { key_logits<n()>(s.whole + r * dim, dim, plain, logits + r * kTile + j); });
    }
    for (int r = 0; r < s.rows; ++r) weigh(s, r, key, count, logits + r * kTile);
    by_four(s.rows, [&](int r, auto n) {
      add_values<n()>(logits + r * kTile, values, count, dim, s.out + r * dim);
    });
  }
}

}  // namespace

void THINK_SEGMENT(const Segment& segment) {
  for (int r = 0; r < segment.rows; ++r) {
    segment.top[r] = -INFINITY;
    segment.sum[r] = 0;
  }
  std::fill_n(segment.out, static_cast<int64_t>(segment.rows) * segment.kv->head_dim, 0.0f);
  accel::host::with_float(segment.kv->dtype, [&](auto* e) { run<std::remove_pointer_t<decltype(e)>>(segment); });
}

}  // namespace accel_think
