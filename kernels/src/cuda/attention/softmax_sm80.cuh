// What a query sees, and the online softmax on C fragments (32 rows a warp, 64 keys a step; attention/tile_sm80.cuh).
//
// Milakov & Gimelshein 2018 (arXiv:1805.02867), in base 2: p = 2^(s c - m c), c = scale log2(e). A row that has seen
// nothing yet has m = -inf; it is shifted by 0 instead, so that its weights are 2^-inf = 0 and not NaN.
#ifndef ACCEL_CUDA_SOFTMAX_SM80_CUH
#define ACCEL_CUDA_SOFTMAX_SM80_CUH

#include "accel/mma.cuh"

namespace accel::cuda {

// Which cache rows query i of a sequence sees: [lo(i), hi(i)).
struct VisibleRows {
  int rows;                              // in the cache
  int past;                              // rows minus queries; may be negative
  bool causal;
  int begin, end;                        // range, end <= rows
  const int* window_begin;               // of the queries from `first` on; null: no window
  int first;

  __device__ int lo(int i) const { return window_begin == nullptr ? begin : max(begin, window_begin[i - first]); }
  __device__ int hi(int i) const { return causal ? min(end, past + i + 1) : end; }
  // Whether some query of [first, last] does not see all of [key, key_end). Both bounds grow with i.
  __device__ bool crosses(int first, int last, int key, int key_end) const {
    return key < lo(last) || key_end > hi(first);
  }
};

// -inf where a row of the block does not see a key. Rows beyond the last query are never stored; they see what they may.
__device__ inline void mask_step(float (&s)[2][8][4], const VisibleRows& rows, int first_query, int first_key) {
  const int lane = threadIdx.x % 32, key = first_key + lane % 4 * 2;
#pragma unroll
  for (int mt = 0; mt < 2; mt++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int query = first_query + threadIdx.x / 32 * 32 + mt * 16 + half * 8 + lane / 4;
      const int lo = rows.lo(query) - key, hi = rows.hi(query) - key;
#pragma unroll
      for (int n = 0; n < 8; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& x = s[mt][n][2 * half + e];
          if (n * 8 + e < lo || n * 8 + e >= hi) x = -INFINITY;
        }
      }
    }
  }
}

class Softmax {
 public:
  __device__ explicit Softmax(float scale) : scale_(scale * 1.44269504f) {}

  // s becomes the weights; o is rescaled to the new maximum. The sum is this lane's share until `finish`.
  template <int N>
  __device__ void step(float (&s)[2][8][4], float (&o)[2][N][4]) {
    float factor[2][2];
    bool moved = false;
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float top = max_[mt][half];
#pragma unroll
        for (int n = 0; n < 8; n++) top = fmaxf(top, fmaxf(s[mt][n][2 * half], s[mt][n][2 * half + 1]));
        top = quad_max(top);
        const float origin = top == -INFINITY ? 0.0f : top, shift = origin * scale_;
        // Exactly 1 where the maximum stays.
        factor[mt][half] = exp2_fast((max_[mt][half] - origin) * scale_);
        moved |= factor[mt][half] != 1.0f;
        max_[mt][half] = top;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < 8; n++) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; e++) {
            s[mt][n][e] = exp2_fast(fmaf(s[mt][n][e], scale_, -shift));
            sum += s[mt][n][e];
          }
        }
        sum_[mt][half] = sum_[mt][half] * factor[mt][half] + sum;
      }
    }
    // After the first steps the maximum of a warp's rows rarely moves.
    if (!__any_sync(~0u, moved)) return;
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
#pragma unroll
      for (int n = 0; n < N; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) o[mt][n][e] *= factor[mt][e / 2];
      }
    }
  }

  // What to multiply a row of o by, and the row's natural log-sum-exp.
  __device__ float finish(int mt, int half, float& lse) const {
    const float sum = quad_sum(sum_[mt][half]);
    lse = sum == 0 ? -INFINITY : max_[mt][half] * (scale_ * 0.693147181f) + logf(sum);
    return sum == 0 ? 0.0f : 1.0f / sum;
  }
  // The state of a row, base 2: maximum of the scaled logits and sum relative to it.
  __device__ float maximum(int mt, int half) const { return max_[mt][half] * scale_; }
  __device__ float sum(int mt, int half) const { return quad_sum(sum_[mt][half]); }

 private:
  float max_[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
  float sum_[2][2] = {};
  float scale_;
};

}  // namespace accel::cuda
#endif
