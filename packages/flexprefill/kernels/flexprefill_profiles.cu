// Statistics and profiles for every float format and head dim: fp32 products without tensor cores.
//
// A block of 256 threads works through the tiles of a split. A tile of logits is 128 queries by 128 keys; a thread makes
// 8 x 8 of them, channels in ascending order, 16 at a time from shared memory. Grid: (heads, splits).
#include <type_traits>

#include "flexprefill_tile.cuh"

namespace accel_flexprefill {
namespace {

using accel::cuda::to_float;

constexpr int kThreads = 256, kChannels = 16, kSide = 8;

struct Shared {
  float q[kChannels][kTile + 4], k[kChannels][kTile + 4];
  float tile[kTile * kPitch];
  float2 rows[kTile];
};

// s[i][j]: query 8 (thread / 16) + i, key 8 (thread % 16) + j of tile t.
template <class T>
__device__ void multiply(float (&s)[kSide][kSide], const Work& w, Shared& shared, const accel_kv_head& head, int h, int t) {
  const Problem& p = w.p;
  for (int i = 0; i < kSide; i++) {
    for (int j = 0; j < kSide; j++) s[i][j] = 0.0f;
  }
  const int channel = threadIdx.x % kChannels;
  for (int d = 0; d < p.dim; d += kChannels) {
    __syncthreads();  // the channels before have been read
    for (int row = threadIdx.x / kChannels; row < kTile; row += kThreads / kChannels) {
      const int key = t * kTile + row;
      const bool there = d + channel < p.dim;
      const T* q = static_cast<const T*>(p.q) +
                   (static_cast<int64_t>(p.first_query() + row) * p.heads + h) * p.dim;
      shared.q[channel][row] = there && row < p.rows ? to_float(q[d + channel]) : 0.0f;
      shared.k[channel][row] =
          there && key < p.n ? to_float(reinterpret_cast<const T*>(w.pages.key(head, key))[d + channel]) : 0.0f;
    }
    __syncthreads();
    for (int c = 0; c < kChannels; c++) {
      float a[kSide], b[kSide];
      for (int i = 0; i < kSide; i++) a[i] = shared.q[c][threadIdx.x / 16 * kSide + i];
      for (int j = 0; j < kSide; j++) b[j] = shared.k[c][threadIdx.x % 16 * kSide + j];
#pragma unroll
      for (int i = 0; i < kSide; i++) {
#pragma unroll
        for (int j = 0; j < kSide; j++) s[i][j] = fmaf(a[i], b[j], s[i][j]);
      }
    }
  }
}

// Whether observed query r sees a key.
__device__ inline bool sees(const Problem& p, int r, int key) { return key <= p.first_visible() + r; }

template <class T>
__global__ void __launch_bounds__(kThreads) row_statistics(const Work w) {
  extern __shared__ __align__(16) uint8_t memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const Problem& p = w.p;
  const int h = blockIdx.x, first = blockIdx.y * w.span, last = min(first + w.span, p.tiles);
  const accel_kv_head& head = w.pages.at(0, h / p.group);
  float most = kLowest, sum = 0.0f;  // of row threadIdx.x
  for (int t = first; t < last; t++) {
    float s[kSide][kSide];
    multiply<T>(s, w, shared, head, h, t);
    for (int i = 0; i < kSide; i++) {
      const int r = threadIdx.x / 16 * kSide + i;
      for (int j = 0; j < kSide; j++) {
        const int c = threadIdx.x % 16 * kSide + j;
        shared.tile[r * kPitch + c] = sees(p, r, t * kTile + c) ? s[i][j] * p.scale : -INFINITY;
      }
    }
    __syncthreads();
    if (threadIdx.x < kTile) {
      const float* row = shared.tile + threadIdx.x * kPitch;
      float larger = most, added = 0.0f;
      for (int c = 0; c < kTile; c++) larger = fmaxf(larger, row[c]);
      for (int c = 0; c < kTile; c++) added += exp2_fast(row[c] - larger);
      sum = sum * exp2_fast(most - larger) + added;
      most = larger;
    }
    // The tile is written again after the barriers of the next product.
  }
  if (threadIdx.x < kTile) {
    w.statistics[(static_cast<int64_t>(h) * w.splits + blockIdx.y) * kTile + threadIdx.x] = {most, sum};
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) profiles(const Work w) {
  extern __shared__ __align__(16) uint8_t memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const Problem& p = w.p;
  const int h = blockIdx.x, first = blockIdx.y * w.span, last = min(first + w.span, p.tiles);
  const accel_kv_head& head = w.pages.at(0, h / p.group);
  if (threadIdx.x < kTile) shared.rows[threadIdx.x] = join_statistics(w, h, threadIdx.x);
  for (int t = first; t < last; t++) {
    float s[kSide][kSide];
    multiply<T>(s, w, shared, head, h, t);
    for (int i = 0; i < kSide; i++) {
      const int r = threadIdx.x / 16 * kSide + i;
      const float2 row = shared.rows[r];
      for (int j = 0; j < kSide; j++) {
        const int c = threadIdx.x % 16 * kSide + j;
        const bool there = r < p.rows && sees(p, r, t * kTile + c);
        shared.tile[r * kPitch + c] = there ? exp2_fast(fmaf(s[i][j], p.scale, -row.x)) * row.y : 0.0f;
      }
    }
    __syncthreads();
    if (threadIdx.x < kTile) sum_tile(w, shared.tile, h, t, threadIdx.x);
  }
}

template <class T>
int launch(const accel_call* call, const Work& w) {
  const dim3 grid(w.p.heads, w.splits);
  cudaFuncSetAttribute(row_statistics<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
  cudaFuncSetAttribute(profiles<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
  row_statistics<T><<<grid, kThreads, sizeof(Shared), accel::cuda::stream_of(call)>>>(w);
  if (accel::cuda::launched(call) != ACCEL_OK) return ACCEL_FAILED;
  profiles<T><<<grid, kThreads, sizeof(Shared), accel::cuda::stream_of(call)>>>(w);
  return accel::cuda::launched(call);
}

}  // namespace

int launch_profiles(const accel_call* call, const Work& w) {
  return accel::cuda::with_float(call->args[kKv].kv->dtype, [&](auto* element) {
    return launch<std::remove_pointer_t<decltype(element)>>(call, w);
  });
}

}  // namespace accel_flexprefill
