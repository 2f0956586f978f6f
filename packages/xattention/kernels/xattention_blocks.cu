// xattention_blocks on CUDA. Definition and checks: xattention_blocks.cc.
//
// Keys are packed once; then, for one slab of queries after the other,
//
//   pack_queries   the slab's queries
//   score          maxima and block sums of each reduced row and column tile (xattention_score.cuh)
//   join_tiles     A of each block: a row's tiles on one scale, divided by the row's sum, added over the block's rows
//   choose_rows    the mask (xattention_select.cu)
//
// and figures at the end. Slabs bound the scratch and change no bit: every row is computed for itself. Nothing waits
// for the device, and all sums are made in a fixed order.
#include <stdlib.h>

#include <algorithm>
#include <string_view>

#include "accel/mma.cuh"
#include "xattention_pack.cuh"
#include "xattention_score.cuh"
#include "xattention_select.cuh"

namespace accel_xattention {
namespace {

using namespace accel::cuda;

constexpr int64_t kSumBytes = 64 << 20;  // of block sums in a slab
constexpr int kThreads = 256, kWarps = kThreads / 32;

struct Join {
  const float* tops;  // [heads][slab rows][tiles]
  const float* sums;  // [heads][slab rows][tiles * stride]
  float* estimate;    // [heads][estimate_blocks][columns], from block `first` on
  int slab_rows, tiles, stride, columns, estimate_blocks, first;
  int shift;     // stride = 2^shift: divisions would take longer than the rest
  int live;      // rows of the slab that have a token
  int diagonal;  // of the slab's first block
};

// A block of threads for each row of blocks and head.
__global__ void __launch_bounds__(kThreads) join_tiles(const Join p) {
  __shared__ float row_top[kBlock], row_inverse[kBlock];
  const int g = kBlock / p.stride, block = blockIdx.x, head = blockIdx.y, d = p.diagonal + block;
  const int lane = threadIdx.x % 32, rows = min(g, p.live - block * g);
  const int64_t first_row = static_cast<int64_t>(head) * p.slab_rows + block * g;
  for (int r = threadIdx.x / 32; r < rows; r += kWarps) {
    const float* tops = p.tops + (first_row + r) * p.tiles;
    const float* sums = p.sums + (first_row + r) * p.tiles * p.stride;
    // The tiles that begin before the diagonal block ends are those that its rows see.
    const int tiles = (d >> p.shift) + 1;
    float top = -INFINITY;
    for (int t = lane; t < tiles; t += 32) top = fmaxf(top, tops[t]);
    for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
    float total = 0;
    for (int j = lane; j <= d; j += 32) total += sums[j] * exp2_fast(tops[j >> p.shift] - top);
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
    if (lane == 0) {
      row_top[r] = top;
      row_inverse[r] = __fdiv_rn(1.f, total);
    }
  }
  __syncthreads();
  float* estimate = p.estimate + (static_cast<int64_t>(head) * p.estimate_blocks + p.first + block) * p.columns;
  for (int j = threadIdx.x; j < p.columns; j += kThreads) {
    float a = 0;
    for (int r = 0; j <= d && r < rows; r++) {
      const int64_t row = first_row + r;
      const float factor = exp2_fast(p.tops[row * p.tiles + (j >> p.shift)] - row_top[r]);
      a += p.sums[row * p.tiles * p.stride + j] * factor * row_inverse[r];
    }
    estimate[j] = a;
  }
}

// A warp for each head.
__global__ void __launch_bounds__(32) write_figures(float* figures, const double* recall, int row_blocks) {
  const double* of_head = recall + static_cast<int64_t>(blockIdx.x) * row_blocks;
  const auto least_of = [](double a, double b) { return a != a || a <= b ? a : b; };  // NaN wins
  double sum = 0, least = of_head[0];
  for (int i = threadIdx.x; i < row_blocks; i += 32) {
    sum += of_head[i];
    least = least_of(least, of_head[i]);
  }
  for (int step = 16; step > 0; step /= 2) {
    sum += __shfl_xor_sync(~0u, sum, step);
    least = least_of(least, __shfl_xor_sync(~0u, least, step));
  }
  if (threadIdx.x == 0) {
    figures[blockIdx.x * kFigures] = static_cast<float>(sum / row_blocks);
    figures[blockIdx.x * kFigures + 1] = static_cast<float>(least);
  }
}

enum class Path { sm90, sm80, plain };

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// The fastest kernel there is for this call, not faster than what ACCEL_CUDA_XATTENTION names.
Path path_of(const accel_call* call, const Sizes& s, bool wide) {
  const char* name = getenv("ACCEL_CUDA_XATTENTION");
  const std::string_view wanted(name == nullptr ? "" : name);
  const bool products = wide && call->args[kKv].kv->dtype.bits == 16 && (s.head_dim == 64 || s.head_dim == 128) &&
                        call->capability >= 80 && wanted != "plain";
  if (!products) return Path::plain;
  return call->capability == 90 && wanted != "sm80" && sm90_available() ? Path::sm90 : Path::sm80;
}

class Runner {
 public:
  explicit Runner(const accel_call* call)
      : call_(call), kv_(*call->args[kKv].kv), s_(call), q_(data<uint8_t>(call->args[kQ].tensor)) {
    row_bytes_ = static_cast<int>(s_.head_dim) * (kv_.dtype.bits / 8);
    wide_ = row_bytes_ % 16 == 0 && kv_.page_bytes % 16 == 0 && aligned(kv_.base) && aligned(q_);
    path_ = path_of(call, s_, wide_);
    key_rows_ = s_.tiles * kTile;
    // Row tiles of 128 in a slab: so many that its block sums fit, or what a test asks for.
    const int64_t tile_bytes = s_.heads * kTile * s_.tiles * s_.stride * static_cast<int64_t>(sizeof(float));
    const char* asked = getenv("ACCEL_CUDA_XATTENTION_SLAB");
    const int64_t fit = asked == nullptr ? kSumBytes / tile_bytes : atoi(asked);
    slab_tiles_ = std::clamp<int64_t>(fit, 1, ceil_div(s_.rows, kTile));
  }

  int run() {
    call_->ran(call_, "xattention_blocks");
    call_->ran(call_, path_ == Path::sm90   ? "xattention_score_sm90"
                      : path_ == Path::sm80 ? "xattention_score_sm80"
                                            : "xattention_score_plain");
    const int64_t most = slab_tiles_ * kTile, most_blocks = most / s_.g;
    given_ = data<float>(call_->args[kSums].tensor);
    keys_ = scratch<uint8_t>(s_.kv_heads * s_.stride * key_rows_ * row_bytes_);
    queries_ = scratch<uint8_t>(s_.heads * s_.stride * most * row_bytes_);
    tops_ = scratch<float>(s_.heads * most * s_.tiles);
    sums_ = scratch<float>(s_.heads * most * s_.tiles * s_.stride);
    estimate_ = given_ != nullptr ? given_ : scratch<float>(s_.heads * most_blocks * s_.columns);
    recall_ = scratch<double>(s_.heads * s_.row_blocks);
    if (pack(nullptr, 0, key_rows_) != ACCEL_OK) return ACCEL_FAILED;
    for (int64_t first = 0; first < s_.rows; first += most) {
      if (run_slab(first, std::min(most, s_.rows - first)) != ACCEL_OK) return ACCEL_FAILED;
    }
    write_figures<<<static_cast<unsigned>(s_.heads), 32, 0, stream_of(call_)>>>(
        data<float>(call_->args[kFigureTable].tensor), recall_, static_cast<int>(s_.row_blocks));
    return launched(call_);
  }

 private:
  template <class T>
  T* scratch(int64_t n) {
    return static_cast<T*>(call_->scratch(call_, static_cast<size_t>(n) * sizeof(T)));
  }

  // Packs keys, or queries from reduced row `first` on.
  int pack(const uint8_t* q, int64_t first, int64_t rows) {
    Pack p = {};
    p.to = q == nullptr ? keys_ : queries_;
    p.stride = static_cast<int>(s_.stride);
    p.row_bytes = row_bytes_;
    p.rows = rows;
    p.first = first * s_.stride;
    p.tokens = q == nullptr ? s_.n : s_.m;
    p.q = q;
    p.heads = static_cast<int>(s_.heads);
    return wide_ ? pack_in<uint4>(p) : pack_in<uint16_t>(p);
  }

  template <class Piece>
  int pack_in(const Pack& p) {
    if (p.q == nullptr) {
      const dim3 grid = pack_grid(p, s_.kv_heads * s_.stride, sizeof(Piece));
      pack_keys<Piece><<<grid, kPackThreads, 0, stream_of(call_)>>>(p, kv_pages(kv_));
    } else {
      const dim3 grid = pack_grid(p, s_.heads * s_.stride, sizeof(Piece));
      pack_queries<Piece><<<grid, kPackThreads, 0, stream_of(call_)>>>(p);
    }
    return launched(call_);
  }

  // Reduced rows [first, first + live) of the queries.
  int run_slab(int64_t first, int64_t live) {
    const int64_t row_tiles = ceil_div(live, kTile), rows = row_tiles * kTile, blocks = ceil_div(live, s_.g);
    const int64_t first_block = first / s_.g;
    if (pack(q_, first, rows) != ACCEL_OK) return ACCEL_FAILED;
    Score score = {};
    score.q = queries_;
    score.k = keys_;
    score.tops = tops_;
    score.sums = sums_;
    score.heads = static_cast<int>(s_.heads);
    score.group = static_cast<int>(s_.group);
    score.stride = static_cast<int>(s_.stride);
    score.head_dim = static_cast<int>(s_.head_dim);
    score.slab_rows = static_cast<int>(rows);
    score.row_tiles = static_cast<int>(row_tiles);
    score.tiles = static_cast<int>(s_.tiles);
    score.first_row = static_cast<int>(s_.first_row + first);
    score.scale = static_cast<float>(call_->args[kScale].f * 1.44269504088896340736);
    if (run_score(score) != ACCEL_OK) return ACCEL_FAILED;

    Join join = {};
    join.tops = tops_;
    join.sums = sums_;
    join.estimate = estimate_;
    join.slab_rows = score.slab_rows;
    join.tiles = score.tiles;
    join.stride = score.stride;
    while (1 << join.shift < join.stride) join.shift++;
    join.columns = static_cast<int>(s_.columns);
    join.estimate_blocks = static_cast<int>(given_ != nullptr ? s_.row_blocks : slab_tiles_ * kTile / s_.g);
    join.first = static_cast<int>(given_ != nullptr ? first_block : 0);
    join.live = static_cast<int>(live);
    join.diagonal = static_cast<int>(s_.o / kBlock + first_block);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(s_.heads));
    join_tiles<<<grid, kThreads, 0, stream_of(call_)>>>(join);
    if (launched(call_) != ACCEL_OK) return ACCEL_FAILED;

    SelectRows rows_of = {};
    rows_of.sums = estimate_;
    rows_of.thresholds = data<double>(call_->args[kThresholds].tensor);
    rows_of.columns = join.columns;
    rows_of.words = static_cast<int>(s_.words);
    rows_of.heads = score.heads;
    rows_of.blocks = static_cast<int>(blocks);
    rows_of.first_block = static_cast<int>(first_block);
    rows_of.row_blocks = static_cast<int>(s_.row_blocks);
    rows_of.sum_blocks = join.estimate_blocks;
    rows_of.sums_first = join.first;
    rows_of.offset = static_cast<int>(s_.o / kBlock);
    rows_of.first_chunk = static_cast<int>(std::min<int64_t>(call_->args[kFirst].i, kMostColumns));
    rows_of.recall = recall_;
    rows_of.mask = data<uint32_t>(call_->args[kMask].tensor);
    return select_rows(call_, rows_of, blocks * s_.heads);
  }

  int run_score(const Score& score) {
    const bool bfloat = kv_.dtype.code == ACCEL_BFLOAT;
    switch (path_) {
      case Path::sm90: return score_sm90(call_, score, bfloat);
      case Path::sm80: return score_sm80(call_, score, bfloat);
      case Path::plain: break;
    }
    return score_plain(call_, score, kv_.dtype);
  }

  const accel_call* call_;
  const accel_kv& kv_;
  const Sizes s_;
  const uint8_t* q_;
  int row_bytes_;
  bool wide_;
  Path path_;
  int64_t key_rows_, slab_tiles_;
  uint8_t *keys_ = nullptr, *queries_ = nullptr;
  float *tops_ = nullptr, *sums_ = nullptr, *estimate_ = nullptr, *given_ = nullptr;
  double* recall_ = nullptr;
};

}  // namespace

int blocks_cuda(const accel_call* call) { return Runner(call).run(); }

}  // namespace accel_xattention
