// The softmax state of R = 16 M packed rows in one warp, as fragments of mma.m16n8k16, and how the warps of a block join
// theirs. Online softmax in base 2 (Milakov and Gimelshein 2018, arXiv:1805.02867).
#ifndef ACCEL_THINK_SOFTMAX_CUH
#define ACCEL_THINK_SOFTMAX_CUH

#include <float.h>

#include "accel/mma.cuh"
#include "think_arguments.cuh"

namespace accel_think {

template <class T, int D, int M>
struct SoftmaxState {
  static constexpr int R = 16 * M, chunks = D / 8;
  static constexpr int padded = D + 8;  // floats; a row of the joined values, spread over the banks
  static constexpr int join_bytes = 16 * padded * 4;

  __device__ void reset() {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int c = 0; c < D / 8; c++) {
#pragma unroll
        for (int e = 0; e < 4; e++) o[m][c][e] = 0;
      }
      maximum[m][0] = maximum[m][1] = -FLT_MAX;
      sum[m][0] = sum[m][1] = 0;
    }
  }

  // Logits s of 16 keys, hidden ones -inf, become weights relative to the running maximum, packed as an A fragment.
  __device__ void weigh(int m, float (&s)[2][4], uint32_t (&p)[4]) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int e = half * 2;
      const float top = quad_max(fmaxf(fmaxf(s[0][e], s[0][e + 1]), fmaxf(s[1][e], s[1][e + 1])));
      const float old = maximum[m][half], now = fmaxf(old, top);  // never -inf: the difference stays defined
      factor[half] = exp2_fast(old - now);
      maximum[m][half] = now;
#pragma unroll
      for (int tile = 0; tile < 2; tile++) {
        s[tile][e] = exp2_fast(s[tile][e] - now);
        s[tile][e + 1] = exp2_fast(s[tile][e + 1] - now);
      }
      sum[m][half] = sum[m][half] * factor[half] + ((s[0][e] + s[0][e + 1]) + (s[1][e] + s[1][e + 1]));
    }
    // The maximum soon stops moving; then the accumulators need no scaling.
    if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
      for (int c = 0; c < D / 8; c++) {
#pragma unroll
        for (int e = 0; e < 4; e++) o[m][c][e] *= factor[e / 2];
      }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) p[i] = pack_pair<T>(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
  }

  // Adds the weighted values of 16 rows, which lie swizzled from the shared address on.
  __device__ void add_values(uint32_t address, const uint32_t (&p)[M][4]) {
    const int lane = threadIdx.x % 32;
    const uint32_t values = address + swizzle<chunks>(lane % 16, lane / 16);
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, values ^ (c * 32));
#pragma unroll
      for (int m = 0; m < M; m++) {
        mma_m16n8k16<T>(o[m][2 * c], p[m], b[0], b[1]);
        mma_m16n8k16<T>(o[m][2 * c + 1], p[m], b[2], b[3]);
      }
    }
  }

  // Joins the states of the warps and writes a segment's first `rows` rows. `states` is [warps][R]; `values`, join_bytes
  // for each warp, `stride` bytes apart, are where the warps' stages were: all are done with them.
  __device__ void join(const DecodeArguments& a, int segment, int rows, float2 (*states)[R], uint8_t* values,
                       int stride) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float all = quad_sum(sum[m][half]);
        if (t == 0) states[warp][m * 16 + half * 8 + g] = {maximum[m][half], all};
      }
    }
    __syncthreads();
    const int64_t first_row = static_cast<int64_t>(segment) * R;
    float* own = reinterpret_cast<float*>(values + warp * stride);
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = half * 8 + g;
        const float factor = exp2_fast(maximum[m][half] - top_of(states, m * 16 + row));
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
          *reinterpret_cast<float2*>(own + row * padded + c * 8 + t * 2) = {o[m][c][half * 2] * factor,
                                                                         o[m][c][half * 2 + 1] * factor};
        }
      }
      __syncthreads();
      for (int i = threadIdx.x; i < min(16, rows - m * 16) * (D / 4); i += kStreamThreads) {
        const int row = i / (D / 4), c = i % (D / 4) * 4;
        float4 total = {0, 0, 0, 0};
#pragma unroll
        for (int w = 0; w < kStreamWarps; w++) {
          const float4 x = *reinterpret_cast<const float4*>(values + w * stride + (row * padded + c) * 4);
          total = {total.x + x.x, total.y + x.y, total.z + x.z, total.w + x.w};
        }
        *reinterpret_cast<float4*>(a.values + (first_row + m * 16 + row) * D + c) = total;
      }
      __syncthreads();  // what comes next overwrites the values
    }
    if (threadIdx.x < rows) {
      const float top = top_of(states, threadIdx.x);
      float total = 0;
#pragma unroll
      for (int w = 0; w < kStreamWarps; w++) {
        total += states[w][threadIdx.x].y * exp2_fast(states[w][threadIdx.x].x - top);
      }
      a.states[first_row + threadIdx.x] = {top, total};
    }
    __syncthreads();  // the next segment overwrites the states
  }

  __device__ static float top_of(float2 (*states)[R], int row) {
    float top = states[0][row].x;
#pragma unroll
    for (int w = 1; w < kStreamWarps; w++) top = fmaxf(top, states[w][row].x);
    return top;
  }

  float o[M][D / 8][4];
  float maximum[M][2];
  float sum[M][2];  // of this lane's columns
};

}  // namespace accel_think
#endif
