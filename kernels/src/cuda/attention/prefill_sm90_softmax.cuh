// Attention for Hopper: the online softmax of a warp's 16 x 128 scores in wgmma's accumulator layout.
//
// Each thread holds two rows (h = 0, 1), 32 columns of each; four lanes share a row. For every row a reference m, the
// sum of exp2(scale_log2 s - scale_log2 m) and the output o are kept. Any m gives the same softmax as long as nothing
// overflows, so m follows the true maximum only when that has grown by more than 2^8: rescaling o (D / 2 products a
// thread) then almost never happens after the first tiles. Terms stay below 2^8, inside fp16, and their sums
// below 2^8 times the rows. Online softmax: Milakov and Gimelshein 2018; Dao et al. 2022 (FlashAttention). Late
// rescaling: FlashAttention-4.
#ifndef ACCEL_CUDA_ATTENTION_PREFILL_SM90_SOFTMAX_CUH
#define ACCEL_CUDA_ATTENTION_PREFILL_SM90_SOFTMAX_CUH

#include "cuda/attention/prefill_sm90_work.cuh"

namespace accel::cuda::prefill {

constexpr float kLateRescale = 8.0f;   // log2 of how far terms may exceed 1

struct RowState {
  float max[2] = {-INFINITY, -INFINITY};  // m, in units of raw scores
  float sum[2] = {0, 0};                  // of this thread's columns
};

// Selects -inf where the row's query may not see the column's row; NaN scores of unused columns go too.
__device__ inline void mask_scores(float (&s)[64], const KeyOrder& keys, int first_column, int bound0, int bound1) {
#pragma unroll
  for (int c = 0; c < 16; c++) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const int row = keys.row(first_column + 8 * c + e);
      s[4 * c + e] = row < bound0 ? s[4 * c + e] : -INFINITY;
      s[4 * c + 2 + e] = row < bound1 ? s[4 * c + 2 + e] : -INFINITY;
    }
  }
}

// Replaces scores by their terms and adds them up. Returns in `factor` what o must be multiplied by, and whether any
// row of the warp needs it.
__device__ inline bool softmax_terms(float (&s)[64], RowState& state, float scale_log2, float (&factor)[2]) {
  float top[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float even = fmaxf(s[2 * h], s[4 + 2 * h]), odd = fmaxf(s[2 * h + 1], s[4 + 2 * h + 1]);
#pragma unroll
    for (int c = 2; c < 16; c += 2) {
      even = fmaxf(even, fmaxf(s[4 * c + 2 * h], s[4 * c + 4 + 2 * h]));
      odd = fmaxf(odd, fmaxf(s[4 * c + 2 * h + 1], s[4 * c + 4 + 2 * h + 1]));
    }
    top[h] = quad_max(fmaxf(even, odd));
  }
  // -inf - -inf is NaN, which is not greater: a row that has seen nothing yet asks for nothing.
  const bool rescale = __any_sync(~0u, fmaxf((top[0] - state.max[0]) * scale_log2,
                                             (top[1] - state.max[1]) * scale_log2) > kLateRescale);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float next = rescale ? fmaxf(state.max[h], top[h]) : state.max[h];
    factor[h] = next == state.max[h] ? 1.0f : exp2_fast((state.max[h] - next) * scale_log2);
    state.max[h] = next;
    const float base = next == -INFINITY ? 0.0f : next * scale_log2;
    float even = 0, odd = 0;
#pragma unroll
    for (int c = 0; c < 16; c++) {
      float& a = s[4 * c + 2 * h];
      float& b = s[4 * c + 2 * h + 1];
      a = exp2_fast(fmaf(a, scale_log2, -base));
      b = exp2_fast(fmaf(b, scale_log2, -base));
      even += a;
      odd += b;
    }
    state.sum[h] = fmaf(state.sum[h], factor[h], even + odd);
  }
  return rescale;
}

template <int N>
__device__ inline void rescale_rows(float (&o)[N], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < N; i++) o[i] *= factor[i / 2 % 2];
}

}  // namespace accel::cuda::prefill
#endif
