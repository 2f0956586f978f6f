// The softmax state of R = 8 N packed rows in one warp, as columns of fragments of mma.m16n8k16, and how the warps of a block
// join theirs. Online softmax in base 2 (Milakov and Gimelshein 2018, arXiv:1805.02867). While rows are packed, values are
// added as codes, and their minima apart; to_values() puts them together.
#ifndef ACCEL_KIVI_SOFTMAX_CUH
#define ACCEL_KIVI_SOFTMAX_CUH

#include <float.h>

#include "accel/decode_plan.cuh"
#include "accel/mbarrier.cuh"
#include "kivi_fragments.cuh"

namespace accel_kivi {

using namespace accel::cuda;

// W: warps.
template <int D, int N, int W>
struct SoftmaxState {
  static constexpr int R = 8 * N, steps = D / 16;
  static constexpr int padded = D + 4;  // floats of a joined row
  static constexpr int join_bytes = 8 * padded * 4;

  __device__ void reset() {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int u = 0; u < steps; u++) {
#pragma unroll
        for (int e = 0; e < 4; e++) o[u][n][e] = 0;
      }
#pragma unroll
      for (int e = 0; e < 4; e++) low[n][e] = 0;
      maximum[n][0] = maximum[n][1] = -FLT_MAX;
      reference[n][0] = reference[n][1] = 0;
      sum[n][0] = sum[n][1] = 0;
    }
  }

  // Logits of B blocks, less the reference, become weights relative to the running maximum.
  template <int B>
  __device__ void weigh(float (&s)[B][N][4]) {
    bool above = false;
    float top[N][2];
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        top[n][i] = fmaxf(s[0][n][i], s[0][n][i + 2]);
#pragma unroll
        for (int b = 1; b < B; b++) top[n][i] = fmaxf(top[n][i], fmaxf(s[b][n][i], s[b][n][i + 2]));
        above |= top[n][i] + reference[n][i] > maximum[n][i];
      }
    }
    if (__any_sync(~0u, above)) {  // the maximum soon stops moving
#pragma unroll
      for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const float now = fmaxf(maximum[n][i], column_max(top[n][i]) + reference[n][i]);
          const float factor = exp2_fast(maximum[n][i] - now);
          const float next = now > -FLT_MAX ? now : 0.f;  // a row that has seen nothing yet
#pragma unroll
          for (int b = 0; b < B; b++) {
            s[b][n][i] += reference[n][i] - next;
            s[b][n][i + 2] += reference[n][i] - next;
          }
          maximum[n][i] = now;
          reference[n][i] = next;
          sum[n][i] *= factor;
          low[n][i] *= factor;
#pragma unroll
          for (int u = 0; u < steps; u++) {
            o[u][n][i] *= factor;
            o[u][n][i + 2] *= factor;
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int b = 0; b < B; b++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          s[b][n][e] = exp2_fast(s[b][n][e]);
          sum[n][e % 2] += s[b][n][e];
        }
      }
    }
  }

  // Sums over codes become sums over values. From here on rows are added in real size.
  template <int B>
  __device__ void to_values(int group_shift) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int u = 0; u < steps; u++) {
        const int source = (u * 16 >> group_shift) * 4 + t;  // the lane that has the minima of this channel's group
        const float low0 = __shfl_sync(~0u, low[n][0], source), low1 = __shfl_sync(~0u, low[n][1], source);
#pragma unroll
        for (int e = 0; e < 4; e++) {
          o[u][n][e] = o[u][n][e] * ValueCodes<B>::factor(u, e / 2) + (e % 2 == 0 ? low0 : low1);
        }
      }
    }
  }

  // Joins the states of the warps, by themselves (named barrier 1), and writes the rows of a segment. `states` is [W][R]; `shared`, join_bytes for each
  // warp, `stride` bytes apart, are where the warps' stages were.
  __device__ void join(const DecodeArguments& a, int segment, const DecodeUnit& unit, float2 (*states)[R], uint8_t* shared,
                       int stride) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float all = column_sum(sum[n][i]);
        if (g == 0) states[warp][n * 8 + t * 2 + i] = {maximum[n][i], all};
      }
    }
    named_sync(1, 32 * W);
    const int64_t first_row = (int64_t)segment * R;
    float* mine = reinterpret_cast<float*>(shared + warp * stride);
#pragma unroll
    for (int n = 0; n < N; n++) {  // 8 rows at a time
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = t * 2 + i;
        const float factor = exp2_fast(maximum[n][i] - top_of(states, n * 8 + row));
#pragma unroll
        for (int u = 0; u < steps; u++) {
          mine[row * padded + u * 16 + g] = o[u][n][i] * factor;
          mine[row * padded + u * 16 + g + 8] = o[u][n][i + 2] * factor;
        }
      }
      named_sync(1, 32 * W);
      for (int x = threadIdx.x; x < min(8, unit.rows - n * 8) * (D / 4); x += 32 * W) {
        const int row = x / (D / 4), c = x % (D / 4) * 4;
        float4 total = {0, 0, 0, 0};
#pragma unroll
        for (int w = 0; w < W; w++) {
          const float4 y = *reinterpret_cast<const float4*>(shared + w * stride + (row * padded + c) * 4);
          total = {total.x + y.x, total.y + y.y, total.z + y.z, total.w + y.w};
        }
        *reinterpret_cast<float4*>(a.values + (first_row + n * 8 + row) * D + c) = total;
      }
      named_sync(1, 32 * W);  // the next rows take the place of these
    }
    if (threadIdx.x < unit.rows) {
      const float top = top_of(states, threadIdx.x);
      float total = 0;
#pragma unroll
      for (int w = 0; w < W; w++) {
        total += states[w][threadIdx.x].y * exp2_fast(states[w][threadIdx.x].x - top);
      }
      a.states[first_row + threadIdx.x] = {top, total};
    }
  }

  __device__ static float top_of(float2 (*states)[R], int row) {
    float top = states[0][row].x;
#pragma unroll
    for (int w = 1; w < W; w++) top = fmaxf(top, states[w][row].x);
    return top;
  }

  float o[steps][N][4];  // [channels g, g + 8 of a step][rows 2t, 2t + 1 of n]
  float low[N][4];       // c[0], c[1]: weighted minima of channel group g
  float maximum[N][2];
  float reference[N][2];  // the maximum, once there is one: what logits are made less by, in the operation that makes them
  float sum[N][2];  // of this lane's keys
};

}  // namespace accel_kivi
#endif
