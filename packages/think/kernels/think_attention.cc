// think_attention: softmax attention over pruned and plain keys (ThinK, section 3.3; causal, packed, grouped queries).
//
//   out [T, Hq, D], lse f32 [T, Hq] or absent, q [T, Hq, D], kv of one or more sequences, lens queries of each
//
// Query head h reads kv head floor(h * Hk / Hq). With n rows in that head and m queries in the sequence, query i sees
// row j <= n - m + i, with a window only those less than so many positions away (ADR 0017). The logit of a row is
//   scale * sum over the kept channels of q_c k_c    for rows [0, encoded_keys), whose keys are pruned
//   scale * sum over all channels of q_c k_c         for the others
// which is what zeros in place of pruned channels give; the scale is that of all channels. Values have all channels.
// lse is the natural logarithm of the sum of exp of the logits. Nothing visible: out 0, lse -inf. Sums are float32.
//
// Packed rows of a kv head (queries times query heads) are worked on 16 at a time (think_segment.inc.h). A few of them
// against many keys, as in decoding, are cut along the keys as well, so that every thread has work; where depends on the
// numbers of queries and keys alone, and so do the sums.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <type_traits>

#include "think_args.h"
#include "think_segment.h"

namespace accel_think {

using namespace accel::host;
using namespace attention;

int attention_check(const accel_call* call) {
  Checker check{call, "think_attention"};
  const accel_kv& kv = *call->args[kKv].kv;
  const accel_tensor *out = call->args[kOut].tensor, *lse = call->args[kLse].tensor, *q = call->args[kQ].tensor;
  const accel_ints lens = call->args[kLens].ints;
  check.layout(kv, call->args[kChannels].i);
  check.queries(kQ, kv);
  check.require(lens.size == kv.sequences, "ERR_ACCEL_SHAPE", "lens must have a number for each sequence of kv");
  int64_t total = 0;
  for (int64_t b = 0; check.ok && b < lens.size; ++b) {
    check.require(lens.data[b] >= 0, "ERR_ACCEL_ARGUMENT", "lens must not be negative");
    total += lens.data[b];
  }
  check.require(check.ok && q->shape[0] == total, "ERR_ACCEL_SHAPE", "q must have as many queries as lens says");
  check.require(out->dtype.code == q->dtype.code && out->dtype.bits == q->dtype.bits && out->ndim == 3 && check.ok &&
                    out->shape[0] == total && out->shape[1] == q->shape[1] && out->shape[2] == q->shape[2],
                "ERR_ACCEL_SHAPE", "out must have the shape and the dtype of q");
  check.require(lse == nullptr || (is_f32(lse) && lse->ndim == 2 && check.ok && lse->shape[0] == total &&
                                   lse->shape[1] == q->shape[1]),
                "ERR_ACCEL_SHAPE", "lse must be float32 [T, Hq]");
  check.require(call->args[kWindow].i >= 0, "ERR_ACCEL_ARGUMENT", "window must be at least 0");
  return check.result();
}

namespace {

constexpr int64_t kSegmentKeys = 1024, kFewRows = 64;

// The widest instruction set of this machine, or the one that ACCEL_CPU_ISA names, as in @accel/kernels.
SegmentKernel segment_kernel() {
#if defined(__x86_64__) || defined(_M_X64)
  static const SegmentKernel chosen = [] {
    const char* asked = std::getenv("ACCEL_CPU_ISA");
    const auto below = [&](const char* level) { return asked != nullptr && strcmp(asked, level) == 0; };
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c") && !below("base");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && !below("avx2");
    return avx512 ? segment_avx512 : avx2 ? segment_avx2 : segment_base;
  }();
  return chosen;
#else
  return segment_base;
#endif
}

// Packed rows [row, row + rows) of a kv head, and its segments of keys.
struct Unit {
  int sequence, head;
  int64_t token;                  // of the sequence's first query
  int64_t queries, row, rows;
  int64_t first, segments, keys;  // segment numbers; keys of a segment
};

class Attention {
 public:
  explicit Attention(const accel_call* call) : call_(call), kv_(*call->args[kKv].kv) {
    const accel_tensor* q = call->args[kQ].tensor;
    heads_ = q->shape[1];
    group_ = heads_ / kv_.heads;
    dim_ = kv_.head_dim;
    kept_ = static_cast<int>(call->args[kChannels].i);
    scale_ = static_cast<float>(call->args[kScale].f);
    plan();
    top_ = scratch<float>(segments_ * kRows);
    sum_ = scratch<float>(segments_ * kRows);
    out_ = scratch<float>(segments_ * kRows * dim_);
    // Of a worker: queries, queries at kept channels, and an item.
    floats_ = 2 * kRows * dim_;
    work_ = scratch<float>(call->threads * floats_);
    items_ = scratch<uint8_t>(call->threads * static_cast<int64_t>(kv_.encoded_key.bytes));
  }

  void run() {
    const SegmentKernel kernel = segment_kernel();
    parallel(call_, segments_, 1, [&](int64_t begin, int64_t end, int32_t worker) {
      for (int64_t i = begin; i < end; ++i) {
        with_float(kv_.dtype, [&](auto* e) { segment<std::remove_pointer_t<decltype(e)>>(kernel, i, worker); });
      }
    });
    parallel(call_, units_, 1, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t i = begin; i < end; ++i) {
        with_float(kv_.dtype, [&](auto* e) { join<std::remove_pointer_t<decltype(e)>>(unit_[i]); });
      }
    });
  }

 private:
  template <class T>
  T* scratch(int64_t count) const {
    return static_cast<T*>(call_->scratch(call_, static_cast<size_t>(count) * sizeof(T)));
  }

  void plan() {
    const accel_ints lens = call_->args[kLens].ints;
    for (int64_t b = 0; b < lens.size; ++b) units_ += (lens.data[b] * group_ + kRows - 1) / kRows * kv_.heads;
    unit_ = scratch<Unit>(units_);
    Unit* next = unit_;
    int64_t token = 0;
    for (int b = 0; b < kv_.sequences; ++b) {
      const int64_t queries = lens.data[b], packed = queries * group_;
      for (int h = 0; h < kv_.heads; ++h) {
        const int64_t n = kv_.head[b * kv_.heads + h].rows, keys = packed <= kFewRows ? kSegmentKeys : n + kItemRows;
        for (int64_t row = 0; row < packed; row += kRows) {
          const int64_t count = n == 0 ? 1 : (n + keys - 1) / keys;
          *next++ = {b, h, token, queries, row, packed - row < kRows ? packed - row : kRows, segments_, count, keys};
          segments_ += count;
        }
      }
      token += queries;
    }
  }

  const Unit& unit_of(int64_t segment) const {
    int64_t low = 0, high = units_ - 1;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      if (unit_[middle].first <= segment) low = middle;
      else high = middle - 1;
    }
    return unit_[low];
  }

  // Where a packed row is in q and out, in rows of D.
  int64_t place(const Unit& u, int64_t row) const {
    return (u.token + row / group_) * heads_ + u.head * group_ + row % group_;
  }

  template <class T>
  void segment(SegmentKernel kernel, int64_t index, int32_t worker) {
    const Unit& u = unit_of(index);
    const int64_t n = kv_.head[u.sequence * kv_.heads + u.head].rows;
    float* whole = work_ + worker * floats_;
    float* pruned = whole + kRows * dim_;
    uint16_t list[kMostChannels] = {};
    const KvHead head(kv_, u.sequence, u.head);
    int64_t begins[kRows], ends[kRows], end = (index - u.first + 1) * u.keys;
    // Without pruned rows there need not be a header yet.
    if (head.head().encoded_keys > 0) read_header(head, kept_, list);
    for (int64_t r = 0; r < u.rows; ++r) {
      const T* from = data<const T>(call_->args[kQ].tensor) + place(u, u.row + r) * dim_;
      for (int64_t c = 0; c < dim_; ++c) whole[r * dim_ + c] = widen(from[c]) * scale_;
      for (int64_t c = 0; c < kept_; ++c) pruned[r * kept_ + c] = whole[r * dim_ + list[c]];
      ends[r] = n - u.queries + (u.row + r) / group_ + 1;
      begins[r] = head.window_begin(ends[r] - 1, call_->args[kWindow].i);
    }
    // The last row sees the newest keys, the first one the oldest.
    if (end > ends[u.rows - 1]) end = ends[u.rows - 1];
    const int64_t begin = std::max((index - u.first) * u.keys, begins[0] / kItemRows * kItemRows);
    kernel({&kv_, u.sequence, u.head, kept_, static_cast<int>(u.rows), whole, pruned, begins, ends, begin, end,
            items_ + worker * static_cast<int64_t>(kv_.encoded_key.bytes), top_ + index * kRows, sum_ + index * kRows,
            out_ + index * kRows * dim_});
  }

  template <class T>
  void join(const Unit& u) {
    float* lse = data<float>(call_->args[kLse].tensor);
    for (int64_t r = 0; r < u.rows; ++r) {
      float top = -INFINITY, sum = 0;
      for (int64_t s = u.first; s < u.first + u.segments; ++s) top = std::fmax(top, top_[s * kRows + r]);
      float* all = out_ + (u.first * kRows + r) * dim_;
      for (int64_t s = u.first; s < u.first + u.segments; ++s) {
        const float part = sum_[s * kRows + r], factor = part == 0 ? 0 : std::exp(top_[s * kRows + r] - top);
        const float* values = out_ + (s * kRows + r) * dim_;
        sum += part * factor;
        for (int64_t c = 0; c < dim_; ++c) all[c] = (s == u.first ? 0 : all[c]) + values[c] * factor;
      }
      const int64_t to = place(u, u.row + r);
      const float inverse = sum == 0 ? 0 : 1 / sum;
      T* out = data<T>(call_->args[kOut].tensor) + to * dim_;
      for (int64_t c = 0; c < dim_; ++c) narrow(all[c] * inverse, out + c);
      if (lse != nullptr) lse[to] = sum == 0 ? -INFINITY : top + std::log(sum);
    }
  }

  const accel_call* call_;
  const accel_kv& kv_;
  int64_t heads_, group_, dim_, units_ = 0, segments_ = 0, floats_;
  int kept_;
  float scale_;
  Unit* unit_;
  float *top_, *sum_, *out_, *work_;
  uint8_t* items_;
};

}  // namespace

int attention_cpu(const accel_call* call) {
  call->ran(call, "think_attention");
  Attention(call).run();
  return ACCEL_OK;
}

}  // namespace accel_think
