// One sweep of the observed queries over a tile of keys, on tensor cores: the two passes of cake_statistics for 16-bit
// elements and head dimensions 64 and 128.
//
// A block owns 128 keys of one kv head and goes through the queries of its group, 32 of one query head a step. It computes
// the transpose, keys as the rows:
//
//   S^T [128 keys x 32 queries] = K Q^T    K: A fragments, 32 keys a warp, in registers for the whole block
//                                          Q: B fragments from shared memory, two stages
//
// Pass 1 (log-sum-exp) reduces down the columns: maximum and sum of each query over the 32 keys of a warp. Pass 2
// (statistics) reduces along the rows. All 32 probabilities of a key are in the registers of four lanes then, so variance
// is computed from the differences to the mean, not from a difference of sums; more queries are merged in steps of 32
// (Chan, Golub, LeVeque 1979). Sums over heads and tiles are float64, in a fixed order.
#ifndef ACCEL_CAKEKV_SWEEP_CUH
#define ACCEL_CAKEKV_SWEEP_CUH

#include "accel/mma.cuh"
#include "statistics.cuh"

namespace accel_cakekv {

using namespace accel::cuda;

__device__ inline float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Over the eight lanes that share a column of C.
__device__ inline float column_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 4);
  x += __shfl_xor_sync(~0u, x, 8);
  return x + __shfl_xor_sync(~0u, x, 16);
}
__device__ inline float column_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 4));
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 8));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 16));
}

constexpr int kSweepThreads = 128, kSweepKeys = 128, kSweepQueries = 32;
constexpr int kPartsPerTile = 4;  // one a warp

template <int D>
struct SweepLayout {
  static constexpr int k = 0, q = kSweepKeys * D * 2, q_bytes = kSweepQueries * D * 2, lse = q + 2 * q_bytes,
                       address = lse + 2 * kSweepQueries * 4, until = address + kSweepKeys * 8,
                       totals = until + kSweepKeys * 4,
                       bytes = totals + kSweepThreads / 32 * 2 * 8;
};

// Grid: (key tiles, kv heads).
template <class T, int D, bool statistics>
__global__ void __launch_bounds__(kSweepThreads, 3) sweep_tile(const Sweep p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  using L = SweepLayout<D>;
  constexpr int chunks = D / 8;
  accel::cuda::pdl_wait();
  const uint32_t base = shared_address(shared);
  float* lse_stage = reinterpret_cast<float*>(shared + L::lse);
  const uint8_t** address = reinterpret_cast<const uint8_t**>(shared + L::address);
  const int first_key = static_cast<int>(blockIdx.x) * kSweepKeys, kv_head = blockIdx.y, first_head = kv_head * p.group;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int rounds = (p.queries + kSweepQueries - 1) / kSweepQueries, steps = p.group * rounds;

  const accel_kv_head& head = p.pages.at(0, kv_head);
  address[threadIdx.x] = p.pages.key(head, min(first_key + static_cast<int>(threadIdx.x), p.rows - 1));
  // With a sliding window: queries from this one on do not see a key.
  int* until = reinterpret_cast<int*>(shared + L::until);
  if (p.sliding > 0) until[threadIdx.x] = p.seen_until(head, first_key + static_cast<int>(threadIdx.x));
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kSweepKeys * chunks / kSweepThreads; i++) {
    const int row = threadIdx.x / chunks + i * (kSweepThreads / chunks), chunk = threadIdx.x % chunks;
    cp_async16(base + L::k + swizzle<D / 8>(row, chunk), address[row] + chunk * 16, first_key + row < p.rows);
  }
  const auto copy_queries = [&](int step) {
    const int h = first_head + step / rounds, first = step % rounds * kSweepQueries;
#pragma unroll
    for (int i = 0; i < kSweepQueries * chunks / kSweepThreads; i++) {
      const int row = threadIdx.x / chunks + i * (kSweepThreads / chunks), chunk = threadIdx.x % chunks;
      const int query = min(first + row, p.queries - 1);
      const T* q = static_cast<const T*>(p.q) + (static_cast<int64_t>(query) * p.query_heads + h) * D + chunk * 8;
      cp_async16(base + L::q + step % 2 * L::q_bytes + swizzle<D / 8>(row, chunk), q, first + row < p.queries);
    }
    cp_async_commit();
    if (statistics && threadIdx.x < kSweepQueries) {
      // A query that is not there: +inf, so that it adds 2^-inf.
      const int query = first + threadIdx.x;
      lse_stage[step % 2 * kSweepQueries + threadIdx.x] =
          query < p.queries ? p.lse[static_cast<int64_t>(h) * p.queries + query] : INFINITY;
    }
  };
  copy_queries(0);

  const float scale = p.scale * kLog2e;
  uint32_t keys[2][D / 16][4];
  float mean[2][2] = {}, about[2][2] = {}, group[2][2] = {};
  double dispersion = 0, shift = 0;
  for (int step = 0; step < steps; step++) {
    if (step + 1 < steps) {
      copy_queries(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    if (step == 0) {
#pragma unroll
      for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          ldmatrix_x4(keys[m][k], (base + L::k + swizzle<D / 8>(warp * 32 + m * 16 + lane % 16, lane / 16)) ^ (k * 32));
        }
      }
    }
    float s[2][4][4] = {};
    const uint32_t q_lane = base + L::q + step % 2 * L::q_bytes + swizzle<D / 8>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
#pragma unroll
      for (int pair = 0; pair < 2; pair++) {
        uint32_t b[4];
        ldmatrix_x4(b, (q_lane ^ (k * 32)) + pair * 16 * D * 2);
#pragma unroll
        for (int m = 0; m < 2; m++) {
          mma_m16n8k16<T>(s[m][2 * pair], keys[m][k], b[0], b[1]);
          mma_m16n8k16<T>(s[m][2 * pair + 1], keys[m][k], b[2], b[3]);
        }
      }
    }

    const int h = first_head + step / rounds, first = step % rounds * kSweepQueries;
    const auto key_of = [&](int m, int half) { return first_key + warp * 32 + m * 16 + half * 8 + lane / 4; };
    if constexpr (!statistics) {
#pragma unroll
      for (int n = 0; n < 4; n++) {
#pragma unroll
        for (int side = 0; side < 2; side++) {
          const int query = first + n * 8 + lane % 4 * 2 + side, last = p.rows - p.queries + query;
          float x[4], top = -INFINITY, sum = 0;
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int key = key_of(e / 2, e % 2);
            x[e] = key <= last && key < p.rows ? s[e / 2][n][e % 2 * 2 + side] * scale : -INFINITY;
            if (p.sliding > 0 && query >= until[key - first_key]) x[e] = -INFINITY;
            top = fmaxf(top, x[e]);
          }
          top = column_max(top);
          const float from = top == -INFINITY ? 0.0f : top;
#pragma unroll
          for (int e = 0; e < 4; e++) sum += exp2_fast(x[e] - from);
          sum = column_sum(sum);
          if (lane / 4 == 0 && query < p.queries) {
            const int64_t part = static_cast<int64_t>(blockIdx.x) * kPartsPerTile + warp;
            p.parts[(part * p.query_heads + h) * p.queries + query] = make_float2(top, sum);
          }
        }
      }
    } else {
      const int count = min(p.queries - first, kSweepQueries);
      float sum[2][2] = {}, entropy = 0;
#pragma unroll
      for (int n = 0; n < 4; n++) {
        const float2 lse =
            *reinterpret_cast<const float2*>(lse_stage + step % 2 * kSweepQueries + n * 8 + lane % 4 * 2);
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            float x = exp2_fast(fmaf(s[m][n][e], scale, e % 2 == 0 ? -lse.x : -lse.y));
            if (p.sliding > 0 && first + n * 8 + lane % 4 * 2 + e % 2 >= until[key_of(m, e / 2) - first_key]) x = 0;
            s[m][n][e] = x;
            sum[m][e / 2] += x;
            if (key_of(m, e / 2) < p.columns) entropy += x * log2_fast(x + kLogFloor);
          }
        }
      }
      dispersion -= static_cast<double>(entropy);
#pragma unroll
      for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float own = quad_sum(sum[m][half]) / count;
          float squares = 0;
#pragma unroll
          for (int n = 0; n < 4; n++) {
#pragma unroll
            for (int side = 0; side < 2; side++) {
              const float d = s[m][n][half * 2 + side] - own;
              if (n * 8 + lane % 4 * 2 + side < count) squares += d * d;
            }
          }
          squares = quad_sum(squares);
          if (first == 0) {
            mean[m][half] = own;
            about[m][half] = squares;
          } else {
            const float d = own - mean[m][half], all = static_cast<float>(first + count);
            mean[m][half] += d * (count / all);
            about[m][half] += squares + d * d * (count * (first / all));
          }
          if (first + count == p.queries) {
            const float variance = p.queries > 1 ? about[m][half] / (p.queries - 1) : 0.0f;
            group[m][half] += mean[m][half] + p.gamma * variance;
            if (lane % 4 == 0 && key_of(m, half) < p.columns) shift += static_cast<double>(variance);
          }
        }
      }
    }
    __syncthreads();  // all are done with this stage
  }
  accel::cuda::pdl_release();
  if constexpr (statistics) {
    if (p.indicator != nullptr && lane % 4 == 0) {
#pragma unroll
      for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int key = first_key + warp * 32 + m * 16 + half * 8 + lane / 4;
          if (key >= p.rows) continue;
          p.indicator[static_cast<int64_t>(kv_head) * p.rows + key] = key < p.columns ? group[m][half] / p.group : 0.0f;
        }
      }
    }
    store_totals<kSweepThreads / 32>(p, reinterpret_cast<double*>(shared + L::totals), dispersion * kLn2, shift);
  }
}

}  // namespace accel_cakekv
#endif
