// l2compress_scores on CUDA (definition in l2compress_scores.cc).
//
// A warp does 32 neighbouring rows of a head. Each lane finds the address of one of them (page table, gap), and then
// groups of L lanes read the rows together, 16 bytes a lane: a row of 256 bytes is read by 16 lanes, so two rows go side
// by side and eight such pairs are in flight before the first is squared. Group g reads rows g * L .. g * L + L - 1, one
// after another, so that after each butterfly sum the lane whose row it was keeps the number, and 32 scores are written
// at once. Keys are read once and nothing else is: the pace is that of memory.
#include <type_traits>

#include "accel/cuda.cuh"
#include "l2compress.h"

namespace accel_l2compress {
namespace {

using accel::cuda::KvPages;

constexpr int kThreads = 128;
constexpr int kRows = 32;      // of a warp
constexpr int kInFlight = 8;   // rows of a group
constexpr unsigned kAll = 0xffffffffu;

// Adds the squares of what a lane loaded: 16 bytes of T, or one T.
__device__ inline void add_word(float& sum, uint32_t word, const float*) {
  const float v = __uint_as_float(word);
  sum = fmaf(v, v, sum);
}
__device__ inline void add_word(float& sum, uint32_t word, const __nv_bfloat16*) {
  const float low = __uint_as_float(word << 16), high = __uint_as_float(word & 0xffff0000u);
  sum = fmaf(high, high, fmaf(low, low, sum));
}
__device__ inline void add_word(float& sum, uint32_t word, const __half*) {
  const __half2_raw raw = {static_cast<unsigned short>(word), static_cast<unsigned short>(word >> 16)};
  const float2 v = __half22float2(__half2(raw));
  sum = fmaf(v.y, v.y, fmaf(v.x, v.x, sum));
}
template <class T>
__device__ inline void add_squares(float& sum, const uint4& x) {
  constexpr const T* kType = nullptr;
  add_word(sum, x.x, kType);
  add_word(sum, x.y, kType);
  add_word(sum, x.z, kType);
  add_word(sum, x.w, kType);
}
template <class T>
__device__ inline void add_squares(float& sum, const T& x) {
  const float v = accel::cuda::to_float(x);
  sum = fmaf(v, v, sum);
}

struct Scores {
  float* out;
  KvPages kv;
  int64_t stride, sink, recent;
  int pieces;  // of a row
};

// Rows of T, read as Pieces, L lanes a row.
template <class T, class Piece, int L>
__global__ void __launch_bounds__(kThreads, 6) score_rows(Scores a) {
  const int lane = threadIdx.x % kRows, part = lane % L, group = lane / L;
  const int h = blockIdx.y;
  const accel_kv_head& head = a.kv.at(0, h);
  const int64_t rows = head.rows < a.stride ? head.rows : a.stride;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kRows);
  for (int64_t base = (blockIdx.x * static_cast<int64_t>(kThreads / kRows) + threadIdx.x / kRows) * kRows; base < rows;
       base += warps * kRows) {
    const int64_t row = base + lane;
    const bool chosen = row >= a.sink && row < rows - a.recent;
    const auto address = reinterpret_cast<unsigned long long>(chosen ? a.kv.key(head, static_cast<int>(row)) : nullptr);
    float mine = 0;
    for (int first = 0; first < L; first += kInFlight) {
      const Piece* key[kInFlight];
      float sum[kInFlight];
#pragma unroll
      for (int u = 0; u < kInFlight; u++) {
        key[u] = reinterpret_cast<const Piece*>(__shfl_sync(kAll, address, group * L + first + u));
        sum[u] = 0;
      }
      for (int piece = part; piece < a.pieces; piece += L) {
        Piece x[kInFlight];
#pragma unroll
        for (int u = 0; u < kInFlight; u++) {
          if (key[u] != nullptr) x[u] = key[u][piece];
        }
#pragma unroll
        for (int u = 0; u < kInFlight; u++) {
          if (key[u] != nullptr) add_squares<T>(sum[u], x[u]);
        }
      }
#pragma unroll
      for (int u = 0; u < kInFlight; u++) {
#pragma unroll
        for (int step = L / 2; step > 0; step /= 2) sum[u] += __shfl_xor_sync(kAll, sum[u], step);
        if (part == first + u) mine = sum[u];
      }
    }
    if (row < rows) a.out[h * a.stride + row] = chosen ? 0.0f - mine : __int_as_float(0x7f800000);
  }
}

template <class T, class Piece>
void launch(const accel_call* call, const Scores& a, int64_t most) {
  const int64_t blocks = (most + kThreads - 1) / kThreads;
  const dim3 grid(static_cast<unsigned>(blocks < 65535 ? blocks : 65535), static_cast<unsigned>(a.kv.heads));
  const cudaStream_t stream = accel::cuda::stream_of(call);
  if constexpr (sizeof(Piece) == 16) {
    if (a.pieces <= 8) {
      score_rows<T, Piece, 8><<<grid, kThreads, 0, stream>>>(a);
      return;
    }
    if (a.pieces <= 16) {
      score_rows<T, Piece, 16><<<grid, kThreads, 0, stream>>>(a);
      return;
    }
  }
  score_rows<T, Piece, 32><<<grid, kThreads, 0, stream>>>(a);
}

}  // namespace

int score_on_cuda(const accel_call* call, float* out, int64_t stride, int64_t most) {
  const accel_kv& kv = *call->args[kKv].kv;
  Scores a = {out, accel::cuda::kv_pages(kv), stride, call->args[kSink].i, call->args[kRecent].i, 0};
  if (most == 0 || a.kv.heads == 0) return ACCEL_OK;
  return accel::cuda::with_float(kv.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    // Rows lie on 16 bytes unless the pool has pages of an odd size.
    if (a.kv.row_bytes % 16 == 0 && a.kv.page_bytes % 16 == 0) {
      a.pieces = a.kv.row_bytes / 16;
      launch<T, uint4>(call, a, most);
    } else {
      a.pieces = kv.head_dim;
      launch<T, T>(call, a, most);
    }
    return accel::cuda::launched(call);
  });
}

int l2compress_scores_cuda(const accel_call* call) {
  const int64_t columns = call->args[kOut].tensor->shape[1];
  call->ran(call, "l2compress_scores");
  return score_on_cuda(call, data<float>(call->args[kOut]), columns, columns);
}

}  // namespace accel_l2compress
