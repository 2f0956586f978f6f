// What the kernels of cake_statistics share: arguments, and sums over a block.
#ifndef ACCEL_CAKEKV_STATISTICS_CUH
#define ACCEL_CAKEKV_STATISTICS_CUH

#include "accel/cuda.cuh"
#include "cakekv.h"

namespace accel_cakekv {

constexpr float kLog2e = 1.44269504f;
constexpr double kLn2 = 0.69314718055994531;

struct Sweep {
  const void* q;  // [queries, query_heads, D]
  accel::cuda::KvPages pages;
  float2* parts;     // [parts, query_heads, queries]: maximum and sum, base 2
  const float* lse;  // [query_heads, queries], base 2
  double* sums;      // [blocks, 2]
  float* indicator;  // [kv heads, rows] or null
  int rows;
  int columns;  // rows before the window, possibly none or less
  int queries;
  int query_heads;
  int group;
  int sliding;  // window in positions; 0: none
  float scale;
  float gamma;

  // How many queries there are up to the first that is too far from row `key` of a head.
  __device__ int seen_until(const accel_kv_head& head, int key) const {
    return pages.window_end(head, key, sliding) - (rows - queries);
  }
};

// Dispersion and shift of this block, added up over its threads in a fixed order.
template <int warps>
__device__ inline void store_totals(const Sweep& p, double* shared, double dispersion, double shift) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    dispersion += __shfl_xor_sync(~0u, dispersion, step);
    shift += __shfl_xor_sync(~0u, shift, step);
  }
  if (threadIdx.x % 32 == 0) {
    shared[threadIdx.x / 32 * 2] = dispersion;
    shared[threadIdx.x / 32 * 2 + 1] = shift;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  double a = 0, b = 0;
  for (int w = 0; w < warps; w++) {
    a += shared[2 * w];
    b += shared[2 * w + 1];
  }
  double* out = p.sums + 2 * (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x);
  out[0] = a;
  out[1] = b;
}

}  // namespace accel_cakekv
#endif
