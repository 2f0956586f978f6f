// kivi_attention: causal attention of packed queries over encoded and plain rows, with log-sum-exp.
//
//   out, q  [T, Hq, d] in the dtype of kv; lse f32 [T, Hq], natural logarithm, optional
//   lens    queries of each sequence; of m over n rows query i sees rows up to n - m + i
//   window  of these, those less than so many positions away (ADR 0017); 0: all
//   key_bits, value_bits, group, channels  the layout of the encoded rows (kivi_layout.h)
//
// Query head h reads kv head floor(h Hk / Hq). Keys and values may stop being encoded at different rows. Encoded numbers
// are scale * code + minimum in fp32, and so is all arithmetic.
//
// A block is the packed rows (query, head of the group) of some queries of a sequence. A sequence that has one block is cut
// along the keys, at fixed rows, and its parts are joined by log-sum-exp, so results depend on neither threads nor batch.
#include <cmath>
#include <cstdlib>
#include <type_traits>

#include "kivi_args.h"
#include "kivi_tiles.h"

namespace accel_kivi {

using namespace accel::host;
using namespace attention;

int attention_check(const accel_call* call) {
  if (check_layout(call, "kivi_attention", kKv, kKeyBits) != ACCEL_OK) return ACCEL_FAILED;
  const accel_kv& kv = *call->args[kKv].kv;
  const accel_tensor *out = call->args[kOut].tensor, *lse = call->args[kLse].tensor, *q = call->args[kQ].tensor;
  const accel_ints lens = call->args[kLens].ints;
  if (lens.size != kv.sequences) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "kivi_attention: lens has %lld entries but kv has %d sequences.",
                      (long long)lens.size, kv.sequences);
  }
  int64_t total = 0;
  for (int b = 0; b < kv.sequences; ++b) {
    for (int h = 0; h < kv.heads; ++h) {
      if (lens.data[b] >= 0 && lens.data[b] <= kv.head[b * kv.heads + h].rows) continue;
      return call->fail(call, "ERR_ACCEL_ARGUMENT", "kivi_attention: lens[%d] is %d, but head %d has %d rows.", b,
                        lens.data[b], h, kv.head[b * kv.heads + h].rows);
    }
    total += lens.data[b];
  }
  const auto is_kv = [&](const accel_tensor* t) { return t->dtype.code == kv.dtype.code && t->dtype.bits == kv.dtype.bits; };
  if (!is_kv(q) || !is_kv(out)) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "kivi_attention: q and out must have the dtype of kv.");
  }
  const int64_t heads = q->ndim == 3 ? q->shape[1] : 0;
  if (heads == 0 || heads % kv.heads != 0 || !has_shape(q, total, heads, kv.head_dim) ||
      !has_shape(out, total, heads, kv.head_dim)) {
    return call->fail(call, "ERR_ACCEL_SHAPE",
                      "kivi_attention: q and out must be [%lld, heads, %d], heads a multiple of kv's %d.", (long long)total,
                      kv.head_dim, kv.heads);
  }
  if (lse != nullptr && (!is_f32(lse) || lse->ndim != 2 || lse->shape[0] != total || lse->shape[1] != heads)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "kivi_attention: lse must be float32 [%lld, %lld].", (long long)total,
                      (long long)heads);
  }
  if (call->args[kWindow].i < 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "kivi_attention: window must be at least 0, got %lld.",
                      (long long)call->args[kWindow].i);
  }
  return ACCEL_OK;
}

namespace {

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

constexpr int kMostRows = 16;      // packed rows of a block, or those of one query
constexpr int64_t kSplit = 1024;   // rows of kv

struct Block {
  int sequence, head, first, queries;
  float* partial;  // of all its parts; null when there is one
  int parts;
};

class Runner {
 public:
  explicit Runner(const accel_call* call)
      : call_(call),
        kv_(*call->args[kKv].kv),
        layout_(layout_of(call, kKv, kKeyBits)),
        lens_(call->args[kLens].ints.data),
        heads_(static_cast<int>(call->args[kQ].tensor->shape[1])),
        group_(heads_ / kv_.heads),
        stride_(partial_floats(kv_.head_dim)) {}

  int run() {
    lay_out(nullptr, nullptr, nullptr);
    if (items_ == 0) return ACCEL_OK;
    Block* blocks = scratch<Block>(blocks_);
    int64_t* first = scratch<int64_t>(blocks_ + 1);
    lay_out(blocks, first, scratch<float>(floats_ + 1));
    const TileKernels& kernels = tile_kernels();
    const int rows = group_ > kMostRows ? group_ : kMostRows;
    const int64_t own = (kernels.workspace_floats(layout_, rows) + rows * stride_ + 31) / 16 * 16;
    float* workspace = scratch<float>(own * call_->threads);
    find_windows();
    call_->ran(call_, "kivi_attention");
    parallel(call_, items_, 1, [&](int64_t begin, int64_t end, int32_t worker) {
      int64_t at = 0;
      for (int64_t i = begin; i < end; ++i) {
        while (first[at + 1] <= i) ++at;
        run_part(kernels, blocks[at], i - first[at], workspace + worker * own, rows);
      }
    });
    parallel(call_, blocks_, 1, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t i = begin; i < end; ++i) {
        if (blocks[i].parts > 1) join(blocks[i], blocks[i].partial);
      }
    });
    return ACCEL_OK;
  }

 private:
  template <class T>
  T* scratch(int64_t n) {
    return static_cast<T*>(call_->scratch(call_, static_cast<size_t>(n) * sizeof(T)));
  }

  // Counts blocks, parts and partial results, and writes the blocks and their first parts if there is memory.
  void lay_out(Block* blocks, int64_t* first, float* partial) {
    blocks_ = items_ = floats_ = 0;
    for (int b = 0; b < kv_.sequences; ++b) {
      const int step = group_ > kMostRows ? 1 : kMostRows / group_;
      for (int h = 0; h < kv_.heads; ++h) {
        const int64_t n = kv_.head[b * kv_.heads + h].rows;
        const int parts = lens_[b] <= step ? static_cast<int>((n + kSplit - 1) / kSplit) : 1;
        for (int at = 0; at < lens_[b]; at += step) {
          const int queries = lens_[b] - at < step ? lens_[b] - at : step;
          if (blocks != nullptr) {
            blocks[blocks_] = {b, h, at, queries, parts > 1 ? partial + floats_ : nullptr, parts};
            first[blocks_] = items_;
          }
          ++blocks_;
          items_ += parts;
          if (parts > 1) floats_ += parts * queries * group_ * stride_;
        }
      }
    }
    if (first != nullptr) first[blocks_] = items_;
  }

  // The first row that each query sees, [kv heads, queries].
  void find_windows() {
    const int64_t window = call_->args[kWindow].i, queries = call_->args[kQ].tensor->shape[0];
    if (window == 0) return;
    windows_ = scratch<int32_t>(queries * kv_.heads);
    for (int h = 0; h < kv_.heads; ++h) {
      int32_t* to = windows_ + h * queries;
      for (int b = 0; b < kv_.sequences; to += lens_[b++]) {
        const KvHead head(kv_, b, h);
        head.window_begins(head.rows() - lens_[b], lens_[b], window, to);
      }
    }
  }

  int64_t token(const Block& block) const {
    int64_t token = block.first;
    for (int b = 0; b < block.sequence; ++b) token += lens_[b];
    return token;
  }

  void run_part(const TileKernels& kernels, const Block& block, int64_t part, float* workspace, int most_rows) {
    const int rows = block.queries * group_;
    const int64_t n = kv_.head[block.sequence * kv_.heads + block.head].rows, d = kv_.head_dim;
    const int64_t end = block.parts > 1 && (part + 1) * kSplit < n ? (part + 1) * kSplit : n;
    float* partial = block.parts > 1 ? block.partial + part * rows * stride_ : workspace;
    const int64_t queries = call_->args[kQ].tensor->shape[0];
    const int32_t* windows = windows_ == nullptr ? nullptr : windows_ + block.head * queries + token(block);
    // Rows in front of the window do not matter; blocks of rows are whole.
    int64_t begin = part * kSplit;
    if (windows != nullptr && *windows > begin) begin = *windows / kBlockRows * kBlockRows;
    const int64_t element = (token(block) * heads_ + static_cast<int64_t>(block.head) * group_) * d;
    const AttendBlock x = {&kv_,
                           layout_,
                           block.sequence,
                           block.head,
                           group_,
                           block.queries,
                           data<uint8_t>(call_->args[kQ].tensor) + element * (kv_.dtype.bits / 8),
                           heads_ * d,
                           static_cast<float>(call_->args[kScale].f * 1.44269504088896340736),
                           n - lens_[block.sequence] + block.first,
                           windows,
                           begin,
                           end,
                           partial};
    kernels.attend(x, workspace + most_rows * stride_);
    if (block.parts == 1) join(block, partial);
  }

  void join(const Block& block, float* partial) {
    with_float(kv_.dtype, [&](auto* e) { join_as<std::remove_pointer_t<decltype(e)>>(block, partial); });
  }

  // Adds the parts up in the first of them, and finishes.
  template <class T>
  void join_as(const Block& block, float* partial) {
    const int rows = block.queries * group_, d = kv_.head_dim;
    float* lse = data<float>(call_->args[kLse].tensor);
    for (int r = 0; r < rows; ++r) {
      const auto part = [&](int s) { return partial + (static_cast<int64_t>(s) * rows + r) * stride_; };
      float* sums = part(0);
      float top = sums[0];
      for (int s = 1; s < block.parts; ++s) top = part(s)[0] > top ? part(s)[0] : top;
      const float first = std::exp2(sums[0] - top);
      for (int64_t i = 1; i < stride_; ++i) sums[i] *= first;
      for (int s = 1; s < block.parts; ++s) {
        const float* more = part(s);
        const float weight = std::exp2(more[0] - top);
        for (int64_t i = 1; i < stride_; ++i) sums[i] += more[i] * weight;
      }
      const int64_t at = (token(block) + r / group_) * heads_ + static_cast<int64_t>(block.head) * group_ + r % group_;
      if (lse != nullptr) lse[at] = (top + std::log2(sums[1])) * 0.69314718055994530942f;
      T* out = data<T>(call_->args[kOut].tensor) + at * d;
      for (int c = 0; c < d; ++c) narrow(sums[2 + c] / sums[1], out + c);
    }
  }

  const accel_call* call_;
  const accel_kv& kv_;
  const KiviLayout layout_;
  const int32_t* lens_;
  const int heads_, group_;
  const int64_t stride_;
  int32_t* windows_ = nullptr;
  int64_t blocks_ = 0, items_ = 0, floats_ = 0;
};

}  // namespace

int attention_cpu(const accel_call* call) { return Runner(call).run(); }

}  // namespace accel_kivi
