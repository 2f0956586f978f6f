// Log-sum-exp of a few queries over all rows of a cache head: the first pass of observe_scores.
//
// The queries are the last of their sequence (row j is seen by query i if j <= last + i). Rows are packed as (head of
// the group, query), 128 a block; keys are split over blocks, because there are few queries and many keys. A block
// leaves maximum and sum (base 2) of each row for its part of the keys; lse_join adds the parts up in a fixed order.
#ifndef ACCEL_CUDA_SIGNALS_LSE_CUH
#define ACCEL_CUDA_SIGNALS_LSE_CUH

#include "cuda/attention/softmax_sm80.cuh"
#include "cuda/attention/tile_sm80.cuh"

namespace accel::cuda {

struct LseParts {
  const void* q;                         // [queries, query_heads, D]
  KvPages pages;
  float2* parts;                         // [splits, query_heads, queries]: maximum, sum
  int n;
  int queries;
  int query_heads;
  int group;
  int split_steps;                       // steps of 64 keys a split
  int window;                            // in positions; 0: none
  float scale;
};

template <int D>
struct LseLayout {
  static constexpr int q = 0, k = tile_bytes<D>(sm80_rows), address = k + 2 * tile_bytes<D>(sm80_step),
                       windows = address + 2 * sm80_step * 8, bytes = windows + sm80_rows * 4;
};

// Grid: (row blocks of a kv head, kv heads, splits).
template <class T, int D>
__global__ void __launch_bounds__(sm80_threads, 3) lse_parts_sm80(const LseParts p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  using L = LseLayout<D>;
  pdl_wait();
  const uint32_t base = shared_address(shared);
  const uint8_t** address = reinterpret_cast<const uint8_t**>(shared + L::address);
  int* windows = reinterpret_cast<int*>(shared + L::windows);
  const int first_row = static_cast<int>(blockIdx.x) * sm80_rows, packed = p.group * p.queries, last = p.n - p.queries;
  const accel_kv_head& head = p.pages.at(0, blockIdx.y);
  int begin = static_cast<int>(blockIdx.z) * p.split_steps;
  int steps = min(p.split_steps, (p.n + sm80_step - 1) / sm80_step - begin);
  int seen_by_all = 0;                   // all queries see the keys from here to `last`
  if (p.window > 0) {
    const int query = min(first_row + static_cast<int>(threadIdx.x), packed - 1) % p.queries;
    windows[threadIdx.x] = p.pages.window_begin(head, last + query, p.window);  // read after the next barrier
    const int skipped = max(0, min(p.pages.window_begin(head, last, p.window) / sm80_step - begin, steps));
    begin += skipped;
    steps -= skipped;
    seen_by_all = p.pages.window_begin(head, p.n - 1, p.window);
  }

  // Queries: the rows of a tile are not evenly spaced, so each thread finds the addresses it copies.
  constexpr int chunks = D / 8;
#pragma unroll
  for (int i = 0; i < sm80_rows * chunks / sm80_threads; i++) {
    const int row = threadIdx.x / chunks + i * (sm80_threads / chunks), chunk = threadIdx.x % chunks;
    const int at = min(first_row + row, packed - 1), query = at % p.queries;
    const int64_t h = static_cast<int64_t>(blockIdx.y) * p.group + at / p.queries;
    const T* q = static_cast<const T*>(p.q) + (query * static_cast<int64_t>(p.query_heads) + h) * D + chunk * 8;
    cp_async16(base + L::q + swizzle<chunks>(row, chunk), q, first_row + row < packed);
  }
  const auto place = [&](int step) {
    const int row = (begin + step) * sm80_step + static_cast<int>(threadIdx.x) % sm80_step;
    return row_place(p.pages, head, head.key_pages, min(row, p.n - 1));
  };
  // The first half of the threads finds the rows of step 0, the second those of step 1.
  address[threadIdx.x] = row_address(p.pages, place(threadIdx.x / sm80_step));
  __syncthreads();
  copy_cache_rows<D, sm80_step>(base + L::k, address, p.n - begin * sm80_step);
  cp_async_commit();

  Softmax softmax(p.scale);
  float unused[2][1][4] = {};
  for (int i = 0; i < steps; i++) {
    const int key = (begin + i) * sm80_step, next_stage = (i + 1) % 2;
    cp_async_wait<0>();
    __syncthreads();                     // this stage has arrived, and all are done with the other
    if (i + 1 < steps) {
      copy_cache_rows<D, sm80_step>(base + L::k + next_stage * tile_bytes<D>(sm80_step), address + next_stage * sm80_step,
                                    p.n - key - sm80_step);
      cp_async_commit();
    }
    const bool finds = i + 2 < steps && threadIdx.x < sm80_step;
    RowPlace next = {};
    if (finds) next = place(i + 2);

    float s[2][8][4];
    multiply_abt<T, D>(s, base + L::q, base + L::k + i % 2 * tile_bytes<D>(sm80_step));
    if (key + sm80_step > last + 1 || key < seen_by_all) {  // some query does not see all of the step
#pragma unroll
      for (int mt = 0; mt < 2; mt++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 32 + mt * 16 + half * 8 + lane / 4;
          const int first_key = key + lane % 4 * 2, hi = last + (first_row + row) % p.queries + 1 - first_key;
          const int lo = p.window > 0 ? windows[row] - first_key : 0;
#pragma unroll
          for (int n = 0; n < 8; n++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
              if (n * 8 + e < lo || n * 8 + e >= hi) s[mt][n][2 * half + e] = -INFINITY;
            }
          }
        }
      }
    }
    softmax.step(s, unused);
    // Read two barriers from now; the last readers of this half passed the barrier above.
    if (finds) address[i % 2 * sm80_step + threadIdx.x] = row_address(p.pages, next);
  }

#pragma unroll
  for (int mt = 0; mt < 2; mt++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = first_row + threadIdx.x / 32 * 32 + mt * 16 + half * 8 + threadIdx.x % 32 / 4;
      const float sum = softmax.sum(mt, half);
      if (threadIdx.x % 4 == 0 && row < packed) {
        const int64_t h = static_cast<int64_t>(blockIdx.y) * p.group + row / p.queries;
        p.parts[(static_cast<int64_t>(blockIdx.z) * p.query_heads + h) * p.queries + row % p.queries] =
            make_float2(softmax.maximum(mt, half), sum);
      }
    }
  }
}

// lse[query, head] from the parts. A part that a row does not see has maximum -inf and sum 0.
static __global__ void __launch_bounds__(256) lse_join(const float2* parts, float* lse, int queries, int query_heads, int splits) {
  pdl_wait();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x, rows = static_cast<int64_t>(queries) * query_heads;
  if (at >= rows) return;
  float top = -INFINITY;
  for (int s = 0; s < splits; s++) top = fmaxf(top, parts[s * rows + at].x);
  float sum = 0;
  for (int s = 0; s < splits; s++) {
    const float2 part = parts[s * rows + at];
    if (part.x > -INFINITY) sum += part.y * exp2f(part.x - top);
  }
  const int h = static_cast<int>(at / queries), i = static_cast<int>(at % queries);
  lse[static_cast<int64_t>(i) * query_heads + h] = sum == 0 ? -INFINITY : (top + log2f(sum)) * 0.693147181f;
}

}  // namespace accel::cuda
#endif
