// tally_step on CUDA: what each cached row received from one query per sequence, into the row's record.
//
//   p[h, j] = exp(scale q_h k_j - lse_h),  tally[j] = or += p reduced over the query heads h of the kv head
//
// Right after attention, so keys come from L2 as far as they fit. A warp takes 16 rows of one head at a time. Their
// products with up to 8 query heads are one m16n8k16 tile: keys are A, queries B, so that the group is padded to 8
// columns and no dot product has to be reduced across lanes.
//
//   lane l = 4 r + t   A: chunks t, t + 4, .. (16 bytes) of keys r and r + 8      straight from the page to registers
//                      B: the same chunks of query head r                        in registers for the whole launch
//                      C: rows r and r + 8, query heads 2t and 2t + 1
//
// The channels that a fragment calls 2t, 2t + 1, 2t + 8, 2t + 9 are here neighbours in a chunk: a dot product does not
// mind the order as long as A and B agree. Two chunks of a row (r, r + 8) feed two mma. 64 bytes a row and quad are whole
// sectors. Groups of more than 8 heads go over the keys in registers again.
//
// Blocks stride over the rows of one (sequence, kv head): the grid is chosen by the row limit, the loop ends at the rows
// read on the device. A record is written by one lane, so there are no atomics.
#ifndef ACCEL_CUDA_OPS_TALLIES_CUH
#define ACCEL_CUDA_OPS_TALLIES_CUH

#include "accel/mma.cuh"
#include "cuda/ops/head_reduce.cuh"

namespace accel::cuda {

constexpr int tally_warps = 4, tally_tile = 16;  // rows of a warp at a time

struct TallyStep {
  KvPages pages;
  const void* q;          // [sequences, query_heads, D]
  const float* lse;       // [sequences, query_heads], natural logarithm
  const int32_t* ranges;  // [begin, end) per sequence, or null
  int query_heads, group;
  int counted;            // query heads of a group that count: all, or the first
  int tally;
  int window;             // in positions; 0: none
  float scale;
  Reduce reduce;
  bool accumulate;
  bool settled;           // page tables and lengths are older than the kernel before this one, and no positions are read

  // The rows of a head that count.
  __device__ int2 rows(int pair, const accel_kv_head& head) const {
    if (ranges == nullptr) return {0, head.rows};
    const int sequence = pair / pages.heads;
    return {max(0, ranges[2 * sequence]), min(head.rows, ranges[2 * sequence + 1])};
  }
  // Takes the rows in front of the window out of `span`. They receive 0.
  __device__ void leave_out(const accel_kv_head& head, int2& span) const {
    if (window <= 0) return;
    const int seen = min(span.y, pages.window_begin(head, head.rows - 1, window));
    const int first = span.x + static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    for (int row = first; !accumulate && row < seen; row += static_cast<int>(gridDim.x * blockDim.x)) {
      *pages.tally(head, row, tally) = 0;
    }
    span.x = max(span.x, seen);
  }
  __device__ int first_query_head(int pair) const {
    return pair / pages.heads * query_heads + pair % pages.heads * group;
  }
  __device__ float finished(float x) const { return reduce == Reduce::mean ? x / counted : x; }
};

// Grid: (blocks of a head, sequences * kv heads).
template <class T, int D>
__global__ void __launch_bounds__(32 * tally_warps, 4) tally_step_mma(const __grid_constant__ TallyStep a) {
  constexpr int chunks = D / 32;         // of a row and lane
  constexpr float log2e = 1.44269504f;
  pdl_release();
  if (!a.settled) pdl_wait();
  const int pair = blockIdx.y, lane = threadIdx.x % 32, r = lane / 4, t = lane % 4;
  const accel_kv_head head = a.pages.head[pair];
  int2 span = a.rows(pair, head);
  a.leave_out(head, span);
  const int stride = static_cast<int>(gridDim.x) * tally_warps * tally_tile;
  int row = span.x + (static_cast<int>(blockIdx.x) * tally_warps + static_cast<int>(threadIdx.x) / 32) * tally_tile;

  // This lane's chunk t of keys first + r and first + r + 8. Behind the end it is the last key: a row of a product
  // concerns no other row, and nobody writes this one. The same goes for columns.
  const uint8_t* keys[2];
  const auto find = [&](int first) {
    keys[0] = a.pages.key(head, min(first + r, span.y - 1)) + t * 16;
    keys[1] = a.pages.key(head, min(first + r + 8, span.y - 1)) + t * 16;
  };
  if (row < span.y) find(row);
  pdl_wait();  // up to here only page tables and lengths were read
  if (row >= span.y) return;

  uint4 q[chunks];
  float2 shift;                          // of columns 2t and 2t + 1; +inf where nothing counts: 2^-inf is 0
  const int first_head = a.first_query_head(pair);
  const auto load_queries = [&](int first) {
    const int h = first_head + min(first + r, a.counted - 1);
    const T* at = static_cast<const T*>(a.q) + static_cast<int64_t>(h) * D + t * 8;
#pragma unroll
    for (int c = 0; c < chunks; c++) q[c] = *reinterpret_cast<const uint4*>(at + c * 32);
    const auto shift_of = [&](int h) {
      const float lse = h < a.counted ? a.lse[first_head + h] : -INFINITY;
      return lse == -INFINITY ? INFINITY : lse * log2e;
    };
    shift = {shift_of(first + 2 * t), shift_of(first + 2 * t + 1)};
  };
  load_queries(0);

  const float scale = a.scale * log2e;
  for (; row < span.y; row += stride) {
    uint4 k[2][chunks];
#pragma unroll
    for (int c = 0; c < chunks; c++) {
      k[0][c] = *reinterpret_cast<const uint4*>(keys[0] + c * 64);
      k[1][c] = *reinterpret_cast<const uint4*>(keys[1] + c * 64);
    }
    // Lane t = 0 of a quad writes row r, lane 1 row r + 8.
    const int mine = row + r + 8 * t;
    float* tally = t < 2 && mine < span.y ? a.pages.tally(head, mine, a.tally) : nullptr;
    const float old = tally != nullptr && a.accumulate ? *tally : 0;
    find(row + stride);

    float sum[2] = {};
    for (int first = 0; first < a.counted; first += 8) {
      if (a.counted > 8) load_queries(first);
      float s[2][4] = {};                // two chains of mma
#pragma unroll
      for (int c = 0; c < chunks; c++) {
        mma_m16n8k16<T>(s[0], {k[0][c].x, k[1][c].x, k[0][c].y, k[1][c].y}, q[c].x, q[c].y);
        mma_m16n8k16<T>(s[1], {k[0][c].z, k[1][c].z, k[0][c].w, k[1][c].w}, q[c].z, q[c].w);
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float x = exp2_fast(fmaf(s[0][2 * half] + s[1][2 * half], scale, -shift.x));
        const float y = exp2_fast(fmaf(s[0][2 * half + 1] + s[1][2 * half + 1], scale, -shift.y));
        sum[half] = join(a.reduce, sum[half], join(a.reduce, x, y));
      }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      sum[half] = join(a.reduce, sum[half], __shfl_xor_sync(~0u, sum[half], 1));
      sum[half] = join(a.reduce, sum[half], __shfl_xor_sync(~0u, sum[half], 2));
    }
    if (tally != nullptr) *tally = old + a.finished(t == 0 ? sum[0] : sum[1]);
  }
}

// Every dtype, head dimension and group: a warp a row, fp32 products.
template <class T>
__global__ void __launch_bounds__(32 * tally_warps) tally_step_any(const __grid_constant__ TallyStep a, int head_dim) {
  pdl_release();
  pdl_wait();
  const int pair = blockIdx.y, lane = threadIdx.x % 32;
  const accel_kv_head& head = a.pages.head[pair];
  int2 span = a.rows(pair, head);
  a.leave_out(head, span);
  const int first_head = a.first_query_head(pair), stride = static_cast<int>(gridDim.x) * tally_warps;
  for (int row = span.x + static_cast<int>(blockIdx.x) * tally_warps + static_cast<int>(threadIdx.x) / 32; row < span.y;
       row += stride) {
    const T* k = reinterpret_cast<const T*>(a.pages.key(head, row));
    float sum = 0;
    for (int h = 0; h < a.counted; h++) {
      const T* q = static_cast<const T*>(a.q) + static_cast<int64_t>(first_head + h) * head_dim;
      float x = 0;
      for (int c = lane; c < head_dim; c += 32) x = fmaf(to_float(q[c]), to_float(k[c]), x);
      for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
      const float lse = a.lse[first_head + h];
      sum = join(a.reduce, sum, lse == -INFINITY ? 0 : expf(x * a.scale - lse));
    }
    if (lane != 0) continue;
    float* tally = a.pages.tally(head, row, a.tally);
    *tally = (a.accumulate ? *tally : 0) + a.finished(sum);
  }
}

}  // namespace accel::cuda
#endif
