// Split-KV decoding, one segment: R = 16 M packed query rows against the keys of some tiles of 64.
//
// Each of the four warps takes 16 keys of every tile for itself, with a pipeline and a softmax state of its own (as the
// splits of Flash-Decoding, Dao et al. 2023, one level further down), so the loop has no block barrier; the four states
// are joined at the end. Per step a warp has 16 key and 16 value rows in shared memory:
//   S [R x 16] = Q K^T     Q (shared by the warps) and K by ldmatrix, mma.sync
//   online softmax in base 2 on the accumulators (Milakov and Gimelshein 2018, arXiv:1805.02867); P stays in registers
//   O [R x D] += P V       V by ldmatrix.trans
// Rows come from the pages by cp.async, 16 bytes a lane, `stages` steps deep: lane l looks up the page of row l % 16 of
// the keys (l < 16) or values one step before it is needed, and the row addresses go round by shuffles. Two
// steps ahead of every warp keep 64 KB in flight on a multiprocessor. Rows that no query sees are zeros: the memory
// behind them may hold NaN.
//
// Shared memory: for each warp, stages x (K tile, V tile), a tile 16 rows of D elements; then Q, R rows. The 16-byte chunks
// of all of them are swizzled by row.
#ifndef ACCEL_CUDA_ATTENTION_DECODE_STREAM_CUH
#define ACCEL_CUDA_ATTENTION_DECODE_STREAM_CUH

#include <float.h>

#include "accel/decode_plan.cuh"
#include "accel/mma.cuh"

namespace accel::cuda {

constexpr int decode_tile = 64;  // keys: 16 for each of the warps
constexpr int decode_warps = 4;
constexpr int decode_threads = decode_warps * 32;

template <class T, int D, int M>
class DecodeStream {
 public:
  static constexpr int R = 16 * M;
  static constexpr int row_bytes = D * 2, chunks = D / 8;
  static constexpr int tile_bytes = 16 * row_bytes, stage_bytes = 2 * tile_bytes;
  static constexpr int stages = D == 128 ? 3 : 6;
  static constexpr int warp_bytes = stages * stage_bytes;
  static constexpr int shared_bytes = decode_warps * warp_bytes + R * row_bytes;
  static constexpr int padded = D + 8;  // floats; a row of the joined values, spread over the banks
  static_assert(R * padded * 4 <= warp_bytes, "the values of a warp take the place of its stages");

  // `states` [warps][R] and `begins` [R]: in shared memory.
  __device__ DecodeStream(const DecodeArguments& a, uint8_t* shared, float2 (*states)[R], int* begins)
      : a_(a), shared_(shared), states_(states), begins_(begins), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32) {
    stage_address_ = shared_address(shared + warp_ * warp_bytes);
    query_address_ = shared_address(shared + decode_warps * warp_bytes);
  }

  __device__ void segment(int unit, int first_tile, int end_tile, int segment) {
    unit_ = decode_unit<R>(a_, unit);
    head_ = a_.pages.at(unit_.sequence, unit_.head);
    list_ = lane_ < 16 ? head_.key_pages : head_.value_pages;
    const int start = unit_.start(a_);
    stop_ = min(unit_.end, start + end_tile * decode_tile);
    const int base = start + first_tile * decode_tile + warp_ * 16;

    Row ahead[stages - 1];
#pragma unroll
    for (int s = 0; s < stages - 1; s++) ahead[s] = locate(base + s * decode_tile);
    pdl_wait();  // up to here only what the plan is made from was read
    load_queries();
#pragma unroll
    for (int s = 0; s < stages - 1; s++) issue(s, ahead[s]);
    Row next = locate(base + (stages - 1) * decode_tile);
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int c = 0; c < D / 8; c++) {
#pragma unroll
        for (int e = 0; e < 4; e++) o_[m][c][e] = 0;
      }
      maximum_[m][0] = maximum_[m][1] = -FLT_MAX;
      sum_[m][0] = sum_[m][1] = 0;
    }
    cp_async_wait<stages - 1>();
    __syncthreads();  // Q is there; a warp without keys in this segment comes along
    int stage = 0;
    for (int key = base; key < stop_; key += decode_tile) {
      cp_async_wait<stages - 2>();
      __syncwarp();  // this step has arrived for all lanes, and all are done with the step before: its place is free
      const Row now = next;
      next = locate(key + stages * decode_tile);
      issue(stage == 0 ? stages - 1 : stage - 1, now);
      step(stage_address_ + stage * stage_bytes, key);
      stage = stage == stages - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncwarp();
    join(segment);
  }

 private:
  struct Row {
    int page;    // -1: nothing to read
    int within;  // its page
  };

  __device__ Row locate(int key) const {
    key += lane_ % 16;
    if (key < unit_.first || key >= stop_) return {-1, 0};
    const int slot = KvPages::slot(head_, key), page = slot / a_.pages.rows_per_page;
    return {list_[page], slot - page * a_.pages.rows_per_page};
  }

  __device__ void issue(int stage, Row row) const {
    const uint8_t* mine =
        row.page < 0 ? nullptr : a_.pages.base + row.page * a_.pages.page_bytes + row.within * (int64_t)row_bytes;
    constexpr int rows_at_once = 32 / chunks;
    const int chunk = lane_ % chunks;
    const uint32_t to = stage_address_ + stage * stage_bytes;
#pragma unroll
    for (int i = 0; i < 32; i += rows_at_once) {  // 16 keys, then 16 values
      const int r = i + lane_ / chunks;
      const auto from = reinterpret_cast<const uint8_t*>(
          __shfl_sync(~0u, reinterpret_cast<unsigned long long>(mine), r));
      const bool valid = from != nullptr;
      cp_async16(to + swizzle<chunks>(r, chunk), valid ? from + chunk * 16 : a_.pages.base, valid);
    }
    cp_async_commit();
  }

  __device__ int64_t packed_row(int row) const {  // of q and out, in rows of D
    const int i = row / a_.group;
    return (int64_t)(unit_.token + i) * a_.query_heads + unit_.head * a_.group + (row - i * a_.group);
  }

  // Q, with zeros behind the last row; those rows take over the bounds of the last.
  __device__ void load_queries() {
#pragma unroll
    for (int i = threadIdx.x; i < R * chunks; i += decode_threads) {
      const int row = i / chunks, chunk = i % chunks;
      const bool valid = row < unit_.rows;
      cp_async16(query_address_ + swizzle<chunks>(row, chunk),
                 static_cast<const T*>(a_.q) + (valid ? packed_row(unit_.row + row) * D + chunk * 8 : 0), valid);
    }
    cp_async_commit();
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = min(m * 16 + half * 8 + lane_ / 4, unit_.rows - 1);
        end_[m][half] = decode_visible(a_, unit_, (unit_.row + row) / a_.group).y;
      }
    }
    if (threadIdx.x < R) {
      const int row = min(static_cast<int>(threadIdx.x), unit_.rows - 1);
      begins_[threadIdx.x] = decode_visible(a_, unit_, (unit_.row + row) / a_.group).x;
    }
    // Keys that every row sees: row 0 has the smallest end, the last row the largest begin.
    all_ = {decode_visible(a_, unit_, (unit_.row + unit_.rows - 1) / a_.group).x,
            decode_visible(a_, unit_, unit_.row / a_.group).y};
  }

  __device__ void step(uint32_t stage, int key) {
    // Lane addresses for ldmatrix; a step of 16 channels is two chunks, bits 5 and up, which the swizzle leaves apart
    // from the lower chunk bit: it flips by xor.
    const uint32_t keys = stage + swizzle<chunks>(lane_ % 8 + lane_ / 16 * 8, lane_ / 8 % 2);
    const uint32_t queries = query_address_ + swizzle<chunks>(lane_ % 16, lane_ / 16);
    const uint32_t values = stage + tile_bytes + swizzle<chunks>(lane_ % 16, lane_ / 16);
    float s[M][2][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int e = 0; e < 4; e++) s[m][0][e] = s[m][1][e] = 0;
    }
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
      uint32_t b[4];
      ldmatrix_x4(b, keys ^ (k * 32));
#pragma unroll
      for (int m = 0; m < M; m++) {
        uint32_t q[4];
        ldmatrix_x4(q, (queries + m * tile_bytes) ^ (k * 32));
        mma_m16n8k16<T>(s[m][0], q, b[0], b[1]);
        mma_m16n8k16<T>(s[m][1], q, b[2], b[3]);
      }
    }
    const bool cut = key + 16 > all_.y;
    uint32_t p[M][4];
#pragma unroll
    for (int m = 0; m < M; m++) softmax(m, s[m], key, cut, p[m]);
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, values ^ (c * 32));
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16<T>(o_[m][2 * c], p[m], b[0], b[1]);
        mma_m16n8k16<T>(o_[m][2 * c + 1], p[m], b[2], b[3]);
      }
    }
  }

  // Logits s of 16 keys from `key` on become probabilities relative to the running maximum, packed as an A fragment.
  __device__ void softmax(int m, float (&s)[2][4], int key, bool cut, uint32_t (&p)[4]) {
    const int column = key + lane_ % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < 2; tile++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        s[tile][e] *= a_.scale;
        if (cut && column + tile * 8 + e % 2 >= end_[m][e / 2]) s[tile][e] = -INFINITY;
      }
    }
    if (key < all_.x) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int hidden = begins_[m * 16 + e / 2 * 8 + lane_ / 4] - column - e % 2;  // so many columns
        if (hidden > 0) s[0][e] = -INFINITY;
        if (hidden > 8) s[1][e] = -INFINITY;
      }
    }
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int e = half * 2;
      const float top = quad_max(fmaxf(fmaxf(s[0][e], s[0][e + 1]), fmaxf(s[1][e], s[1][e + 1])));
      const float old = maximum_[m][half], now = fmaxf(old, top);  // never -inf: the difference stays defined
      factor[half] = exp2_fast(old - now);
      maximum_[m][half] = now;
#pragma unroll
      for (int tile = 0; tile < 2; tile++) {
        s[tile][e] = exp2_fast(s[tile][e] - now);
        s[tile][e + 1] = exp2_fast(s[tile][e + 1] - now);
      }
      sum_[m][half] = sum_[m][half] * factor[half] + ((s[0][e] + s[0][e + 1]) + (s[1][e] + s[1][e + 1]));
    }
    // The maximum soon stops moving; then the accumulators need no scaling.
    if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
      for (int c = 0; c < D / 8; c++) {
#pragma unroll
        for (int e = 0; e < 4; e++) o_[m][c][e] *= factor[e / 2];
      }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) p[i] = pack_pair<T>(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
  }

  // Joins the warps' states and writes the segment. All warps have finished with their stages.
  __device__ void join(int segment) {
    const int g = lane_ / 4, t = lane_ % 4;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float sum = quad_sum(sum_[m][half]);
        if (t == 0) states_[warp_][m * 16 + half * 8 + g] = {maximum_[m][half], sum};
      }
    }
    __syncthreads();
    float* own = reinterpret_cast<float*>(shared_ + warp_ * warp_bytes);
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = m * 16 + half * 8 + g;
        const float factor = exp2_fast(maximum_[m][half] - top_of(row));
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
          *reinterpret_cast<float2*>(own + row * padded + c * 8 + t * 2) = {o_[m][c][half * 2] * factor,
                                                                         o_[m][c][half * 2 + 1] * factor};
        }
      }
    }
    __syncthreads();
    const int64_t first_row = (int64_t)segment * R;
    for (int i = threadIdx.x; i < unit_.rows * (D / 4); i += decode_threads) {
      const int row = i / (D / 4), c = i % (D / 4) * 4;
      float4 sum = {0, 0, 0, 0};
#pragma unroll
      for (int w = 0; w < decode_warps; w++) {
        const float4 x = *reinterpret_cast<const float4*>(shared_ + w * warp_bytes + (row * padded + c) * 4);
        sum = {sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w};
      }
      *reinterpret_cast<float4*>(a_.values + (first_row + row) * D + c) = sum;
    }
    if (threadIdx.x < unit_.rows) {
      const float top = top_of(threadIdx.x);
      float sum = 0;
#pragma unroll
      for (int w = 0; w < decode_warps; w++) {
        sum += states_[w][threadIdx.x].y * exp2_fast(states_[w][threadIdx.x].x - top);
      }
      a_.states[first_row + threadIdx.x] = {top, sum};
    }
    __syncthreads();  // the next segment's copies overwrite the values
  }

  __device__ float top_of(int row) const {
    float top = states_[0][row].x;
#pragma unroll
    for (int w = 1; w < decode_warps; w++) top = fmaxf(top, states_[w][row].x);
    return top;
  }

  const DecodeArguments& a_;
  uint8_t* shared_;
  float2 (*states_)[R];
  int* begins_;                // the first key that a row sees
  int lane_, warp_;
  uint32_t stage_address_, query_address_;
  DecodeUnit unit_;
  accel_kv_head head_;
  const int32_t* list_;
  int stop_;                   // keys of this segment end here
  int2 all_;
  int end_[M][2];              // the keys that this lane's rows see end here
  float o_[M][D / 8][4];
  float maximum_[M][2];
  float sum_[M][2];            // of this lane's columns
};

}  // namespace accel::cuda
#endif
