// Column sums for every dtype and head dimension: fp32 products from shared memory, the slow twin of signals_columns.cuh.
//
// A block owns 32 keys of one query head, as fp32 rows padded against bank conflicts, and goes over the queries eight at
// a time, one a warp: lane l of warp w has key l and query w. Sums are fp64; the warps are joined in order at the end.
#ifndef ACCEL_CUDA_SIGNALS_ANY_CUH
#define ACCEL_CUDA_SIGNALS_ANY_CUH

#include "cuda/ops/signals_columns.cuh"

namespace accel::cuda {

constexpr int any_keys = 32, any_warps = 8;

inline size_t any_bytes(int head_dim) {
  return ((any_keys * (head_dim + 1) + any_warps * head_dim) * sizeof(float) + 7) / 8 * 8 +
         any_keys * any_warps * sizeof(double);
}

// Grid: (tiles of 32 columns from p.begin on, query heads). Writes one row of sums per query head.
template <class T>
__global__ void __launch_bounds__(32 * any_warps) column_sums_any(const Columns p, int head_dim) {
  extern __shared__ __align__(1024) uint8_t shared[];
  pdl_wait();
  double* totals = reinterpret_cast<double*>(shared);                        // [warps][keys]
  float* keys = reinterpret_cast<float*>(totals + any_keys * any_warps);     // [keys][head_dim + 1]
  float* queries = keys + any_keys * (head_dim + 1);                         // [warps][head_dim]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, h = blockIdx.y;
  const int first_key = p.begin + static_cast<int>(blockIdx.x) * any_keys, key = first_key + lane;
  const int rows = p.rows(), end = min(p.end, rows);
  if (first_key >= end) return;

  const accel_kv_head& head = p.pages.at(0, h / p.group);
  for (int r = warp; r < any_keys && first_key + r < end; r += any_warps) {
    const T* row = reinterpret_cast<const T*>(p.pages.key(head, first_key + r));
    for (int c = lane; c < head_dim; c += 32) keys[r * (head_dim + 1) + c] = to_float(row[c]);
  }
  __syncthreads();
  const int last = rows - p.queries;
  const int until = p.seen_until(head, key), all_until = p.seen_until(head, min(first_key + any_keys, end) - 1);
  double total = 0;
  // Each warp writes and reads its own query row.
  for (int i = max(0, first_key - last) + warp; i < all_until; i += any_warps) {
    const int64_t at = static_cast<int64_t>(i) * p.query_heads + h;
    __syncwarp();
    for (int c = lane; c < head_dim; c += 32) {
      queries[warp * head_dim + c] = to_float(static_cast<const T*>(p.q)[at * head_dim + c]);
    }
    __syncwarp();
    const float lse = p.lse[at];
    if (key < end && key <= last + i && i < until && lse != -INFINITY && p.visible(i, h, key)) {
      float sum = 0;
      for (int c = 0; c < head_dim; c++) sum = fmaf(keys[lane * (head_dim + 1) + c], queries[warp * head_dim + c], sum);
      total += expf(sum * p.scale - lse);
    }
  }
  totals[warp * any_keys + lane] = total;
  __syncthreads();
  if (warp != 0 || key >= end) return;
  double x = 0;
  for (int w = 0; w < any_warps; w++) x += totals[w * any_keys + lane];
  p.put(h, key, last, x);
}

}  // namespace accel::cuda
#endif
