// xattention_blocks: chooses the 128 x 128 blocks of a prompt's attention by antidiagonal scores.
//
//   mask       int32 [ceil(m / 128), Hq, ceil(columns / 32)]  bit j % 32 of word j / 32: block column j is computed
//   figures    f32 [Hq, 2]                       estimated share of the attention in the mask: mean over row blocks, least
//   sums       f32 [Hq, ceil(m / 128), columns]  optional: the estimate A itself, columns = ceil(n / 128)
//   q          [m, Hq, D]   queries of the last m rows, rotated, in the dtype of kv
//   kv         one sequence of n rows; n - m is a multiple of 128
//   thresholds f64 [Hq]     share of A that a row's blocks must hold
//   stride     S            4, 8, 16, 32 or 64
//   scale      softmax scale / (S norm)
//   first      rows of blocks from the sequence's start on that follow the published rule for the first chunk; 0: none
//
// T[r, c] = sum_t q[r S + S - 1 - t] . k[c S + t], t = 0 .. S - 1: queries backwards, keys forwards, so every S x S
// square gives its antidiagonal. P = softmax of scale T over c <= r; A[i, j] is the sum of P over a block's g x g
// entries, g = 128 / S. Tokens behind the last one count as zeros; reduced rows without any token are left out. Rows of
// blocks then follow xattention_rule.h. Xu, Xiao, Huang, Guo, Han 2025 (arXiv 2503.16428), sections 3.1 and 3.2.
//
// Keys of a kv head are packed once; the heads of its group and tiles of 32 reduced rows share them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <type_traits>

#include "accel/host.h"
#include "xattention.h"
#include "xattention_select.h"
#include "xattention_tiles.h"

namespace accel_xattention {

using namespace accel::host;

namespace {

int shape_error(const accel_call* call, const char* what) {
  return call->fail(call, "ERR_ACCEL_SHAPE", "xattention_blocks: %s", what);
}

int check_outputs(const accel_call* call, const Sizes& s) {
  const accel_tensor *mask = call->args[kMask].tensor, *figures = call->args[kFigureTable].tensor;
  const accel_tensor *sums = call->args[kSums].tensor, *thresholds = call->args[kThresholds].tensor;
  if (!is_i32(mask) || !is_f32(figures) || (sums != nullptr && !is_f32(sums)) ||
      thresholds->dtype.code != ACCEL_FLOAT || thresholds->dtype.bits != 64) {
    return call->fail(call, "ERR_ACCEL_DTYPE",
                      "xattention_blocks: mask must be int32, figures and sums float32, thresholds float64.");
  }
  if (mask->ndim != 3 || mask->shape[0] != s.row_blocks || mask->shape[1] != s.heads || mask->shape[2] != s.words) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "xattention_blocks: mask must be [%lld, %lld, %lld].",
                      (long long)s.row_blocks, (long long)s.heads, (long long)s.words);
  }
  if (figures->ndim != 2 || figures->shape[0] != s.heads || figures->shape[1] != kFigures) {
    return shape_error(call, "figures must be [query heads, 2].");
  }
  if (sums != nullptr &&
      (sums->ndim != 3 || sums->shape[0] != s.heads || sums->shape[1] != s.row_blocks || sums->shape[2] != s.columns)) {
    return call->fail(call, "ERR_ACCEL_SHAPE", "xattention_blocks: sums must be [%lld, %lld, %lld].",
                      (long long)s.heads, (long long)s.row_blocks, (long long)s.columns);
  }
  if (thresholds->ndim != 1 || thresholds->shape[0] != s.heads) {
    return shape_error(call, "thresholds must have one number a query head.");
  }
  return ACCEL_OK;
}

}  // namespace

int blocks_check(const accel_call* call) {
  const accel_kv& kv = *call->args[kKv].kv;
  const accel_tensor* q = call->args[kQ].tensor;
  const int64_t stride = call->args[kStride].i;
  const double scale = call->args[kScale].f;
  if (kv.sequences != 1 || kv.heads < 1) return shape_error(call, "kv must be one sequence.");
  if (q->dtype.code != kv.dtype.code || q->dtype.bits != kv.dtype.bits) {
    return call->fail(call, "ERR_ACCEL_DTYPE", "xattention_blocks: q must have the dtype of kv.");
  }
  if (q->ndim != 3 || q->shape[0] < 1 || q->shape[1] < 1 || q->shape[1] % kv.heads != 0 || q->shape[2] != kv.head_dim) {
    return call->fail(
        call, "ERR_ACCEL_SHAPE",
        "xattention_blocks: q must be [queries, heads, %d], heads a multiple of kv's %d, at least one query.",
        kv.head_dim, kv.heads);
  }
  if (stride != 4 && stride != 8 && stride != 16 && stride != 32 && stride != 64) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "xattention_blocks: stride must be 4, 8, 16, 32 or 64, got %lld.",
                      (long long)stride);
  }
  if (!(scale > 0) || !std::isfinite(scale)) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "xattention_blocks: scale must be above 0.");
  }
  if (call->args[kFirst].i < 0) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "xattention_blocks: first must not be negative.");
  }
  const int64_t m = q->shape[0], n = kv.head[0].rows;
  for (int h = 1; h < kv.heads; ++h) {
    if (kv.head[h].rows == n) continue;
    return call->fail(call, "ERR_ACCEL_ARGUMENT",
                      "xattention_blocks: heads must have equally many rows, but head 0 has %lld and head %d has %d.",
                      (long long)n, h, kv.head[h].rows);
  }
  if (n < m || (n - m) % kBlock != 0) {
    return call->fail(
        call, "ERR_ACCEL_ARGUMENT",
        "xattention_blocks: %lld rows before the %lld queries: must be a multiple of 128, because blocks are "
        "counted from the start of the sequence.",
        (long long)(n - m), (long long)m);
  }
  if (ceil_div(n, kBlock) > kMostColumns) {
    return call->fail(call, "ERR_ACCEL_ARGUMENT", "xattention_blocks: at most 65536 blocks of keys, got %lld rows.",
                      (long long)n);
  }
  return check_outputs(call, Sizes(call));
}

namespace {

// The widest instruction set of this machine, or the one that ACCEL_CPU_ISA names, as in @accel/kernels.
ScoreRows score_rows() {
#if defined(__x86_64__) || defined(_M_X64)
  static const ScoreRows chosen = [] {
    const char* asked = std::getenv("ACCEL_CPU_ISA");
    const auto below = [&](const char* level) { return asked != nullptr && strcmp(asked, level) == 0; };
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !below("base");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && !below("avx2");
    return avx512 ? score_rows_avx512 : avx2 ? score_rows_avx2 : score_rows_base;
  }();
  return chosen;
#else
  return score_rows_base;
#endif
}

class Runner {
 public:
  explicit Runner(const accel_call* call)
      : call_(call), kv_(*call->args[kKv].kv), s_(call), depth_(s_.stride * s_.head_dim) {}

  int run() {
    call_->ran(call_, "xattention_blocks");
    with_float(kv_.dtype, [&](auto* e) { run_as<std::remove_pointer_t<decltype(e)>>(); });
    write_figures();
    return ACCEL_OK;
  }

 private:
  // What a worker needs for a tile of rows.
  struct Room {
    float *q, *tops, *sums, *scores, *estimate;
    uint64_t* keys;
  };

  template <class T>
  T* scratch(int64_t n) {
    return static_cast<T*>(call_->scratch(call_, static_cast<size_t>(n) * sizeof(T)));
  }

  template <class T>
  void run_as() {
    const int64_t panels = s_.tiles * (kTile / kPanel), row_tiles = ceil_div(s_.rows, kTileRows);
    float* keys = scratch<float>(panels * depth_ * kPanel);
    recall_ = scratch<double>(s_.heads * s_.row_blocks);
    rooms_ = scratch<Room>(call_->threads);
    for (int w = 0; w < call_->threads; ++w) {
      rooms_[w] = {scratch<float>(kTileRows * depth_),
                   scratch<float>(kTileRows * s_.tiles),
                   scratch<float>(kTileRows * s_.tiles * s_.stride),
                   scratch<float>(kTileRows * kTile),
                   scratch<float>(s_.columns),
                   scratch<uint64_t>(s_.columns)};
    }
    for (int64_t head = 0; head < s_.kv_heads; ++head) {
      const KvHead cache(kv_, 0, static_cast<int>(head));
      parallel(call_, panels, 1, [&](int64_t begin, int64_t end, int32_t) {
        for (int64_t p = begin; p < end; ++p) pack_keys<T>(cache, p, keys + p * depth_ * kPanel);
      });
      parallel(call_, row_tiles * s_.group, 1, [&](int64_t begin, int64_t end, int32_t worker) {
        for (int64_t i = begin; i < end; ++i) {
          // Late rows see most columns: they go first.
          run_tile<T>(head * s_.group + i % s_.group, row_tiles - 1 - i / s_.group, keys, rooms_[worker]);
        }
      });
    }
  }

  template <class T>
  void pack_keys(const KvHead& cache, int64_t panel, float* to) const {
    for (int64_t c = 0; c < kPanel; ++c) {
      for (int64_t t = 0; t < s_.stride; ++t) {
        const int64_t token = (panel * kPanel + c) * s_.stride + t;
        const T* key = token < s_.n ? cache.key<T>(token) : nullptr;
        float* at = to + t * s_.head_dim * kPanel + c;
        for (int64_t x = 0; x < s_.head_dim; ++x) at[x * kPanel] = key == nullptr ? 0.f : widen(key[x]);
      }
    }
  }

  template <class T>
  void pack_queries(int64_t head, int64_t row_tile, float* to) const {
    const T* q = data<T>(call_->args[kQ].tensor);
    for (int64_t r = 0; r < kTileRows; ++r) {
      for (int64_t t = 0; t < s_.stride; ++t) {
        const int64_t token = (row_tile * kTileRows + r) * s_.stride + s_.stride - 1 - t;
        const T* query = token < s_.m ? q + (token * s_.heads + head) * s_.head_dim : nullptr;
        float* at = to + (r / kQueryLanes * depth_ + t * s_.head_dim) * kQueryLanes + r % kQueryLanes;
        for (int64_t x = 0; x < s_.head_dim; ++x) at[x * kQueryLanes] = query == nullptr ? 0.f : widen(query[x]);
      }
    }
  }

  template <class T>
  void run_tile(int64_t head, int64_t row_tile, const float* keys, const Room& room) {
    const int64_t first = row_tile * kTileRows, rows = std::min<int64_t>(kTileRows, s_.rows - first);
    pack_queries<T>(head, row_tile, room.q);
    const RowTile tile = {room.q,
                          keys,
                          depth_,
                          s_.first_row + first,
                          rows,
                          s_.tiles,
                          static_cast<int>(s_.stride),
                          static_cast<float>(call_->args[kScale].f * 1.44269504088896340736),
                          room.tops,
                          room.sums,
                          room.scores};
    score_rows()(tile);
    for (int64_t r = 0; r < rows; r += s_.g) {
      const int64_t row_block = (first + r) / s_.g;
      estimate(tile, r, std::min(s_.g, rows - r), room.estimate);
      choose(head, row_block, room);
    }
  }

  // A of the block row that has reduced rows [begin, begin + count) of a tile.
  void estimate(const RowTile& tile, int64_t begin, int64_t count, float* a) const {
    std::fill(a, a + s_.columns, 0.f);
    for (int64_t r = begin; r < begin + count; ++r) {
      const int64_t tiles = (tile.first_row + r) / kTile + 1;
      const float* tops = tile.tops + r * s_.tiles;
      const float* sums = tile.sums + r * s_.tiles * s_.stride;
      const float top = *std::max_element(tops, tops + tiles);
      const auto each = [&](auto&& add) {
        for (int64_t t = 0; t < tiles; ++t) {
          const float factor = std::exp2(tops[t] - top);
          const int64_t end = std::min((t + 1) * s_.stride, s_.columns);
          for (int64_t j = t * s_.stride; j < end; ++j) add(j, sums[j] * factor);
        }
      };
      float total = 0;
      each([&](int64_t, float x) { total += x; });
      const float inverse = 1 / total;
      each([&](int64_t j, float x) { a[j] += x * inverse; });
    }
  }

  void choose(int64_t head, int64_t row_block, const Room& room) {
    const int64_t diagonal = row_block + s_.o / kBlock;
    float* sums = data<float>(call_->args[kSums].tensor);
    if (sums != nullptr) {
      std::copy(room.estimate, room.estimate + s_.columns, sums + (head * s_.row_blocks + row_block) * s_.columns);
    }
    const SelectRow row = {room.estimate,
                           static_cast<int>(diagonal),
                           diagonal < call_->args[kFirst].i,
                           data<double>(call_->args[kThresholds].tensor)[head],
                           data<uint32_t>(call_->args[kMask].tensor) + (row_block * s_.heads + head) * s_.words,
                           s_.words,
                           room.keys};
    recall_[head * s_.row_blocks + row_block] = select_row(row);
  }

  void write_figures() const {
    float* figures = data<float>(call_->args[kFigureTable].tensor);
    for (int64_t h = 0; h < s_.heads; ++h) {
      const double* recall = recall_ + h * s_.row_blocks;
      double sum = 0, least = recall[0];
      for (int64_t i = 0; i < s_.row_blocks; ++i) {
        sum += recall[i];
        if (least == least && !(recall[i] >= least)) least = recall[i];  // NaN wins and stays
      }
      figures[h * kFigures] = static_cast<float>(sum / static_cast<double>(s_.row_blocks));
      figures[h * kFigures + 1] = static_cast<float>(least);
    }
  }

  const accel_call* call_;
  const accel_kv& kv_;
  const Sizes s_;
  const int64_t depth_;
  double* recall_ = nullptr;
  Room* rooms_ = nullptr;
};

}  // namespace

int blocks_cpu(const accel_call* call) { return Runner(call).run(); }

}  // namespace accel_xattention
