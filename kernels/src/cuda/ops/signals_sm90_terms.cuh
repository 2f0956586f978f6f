// Column sums for Hopper: from the scores of 16 keys a warp and 128 queries, in wgmma's accumulator layout, to terms.
//
// A term is 2^x, x = scale s + shift with log2(e) in both: a fused multiply-add, an exponential, an addition.
// The special function unit gives 16 exponentials a clock: those of a product take as long as the product itself takes
// the tensor cores (D = 128). To compute some by polynomials instead (Cody and Waite; FlashAttention-4) was measured on
// an H100 and does not pay: one or two of eight change nothing, three cost 7 %.
#ifndef ACCEL_CUDA_SIGNALS_SM90_TERMS_CUH
#define ACCEL_CUDA_SIGNALS_SM90_TERMS_CUH

#include "accel/mma.cuh"

namespace accel::cuda::columns {

// `shift` is that of this lane's first queries, in the order of place() (signals_sm90_work.cuh).
__device__ inline void shift_scores(float (&x)[64], const float (&s)[64], float scale, const float4* shift) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float4 at = shift[4 * i];
    const float shifts[4] = {at.x, at.y, at.z, at.w};
#pragma unroll
    for (int j = 0; j < 8; j++) x[8 * i + j] = fmaf(s[8 * i + j], scale, shifts[j / 4 * 2 + j % 2]);
  }
}

// Selects -inf, which adds nothing, for the queries before number `first` of the tile: they do not see this thread's
// first key. The second one is 8 keys later.
__device__ inline void mask_exponents(float (&x)[64], int first, int lane) {
  first -= lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 64; i++) {
    if (i / 4 * 8 + i % 2 < first + i / 2 % 2 * 8) x[i] = -INFINITY;
  }
}

// Adds the terms to the sums of this thread's two keys.
__device__ inline void add_terms(float (&sum)[2], const float (&x)[64]) {
#pragma unroll
  for (int i = 0; i < 64; i++) sum[i / 2 % 2] += exp2_fast(x[i]);
}

}  // namespace accel::cuda::columns
#endif
