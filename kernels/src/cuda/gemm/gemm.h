// The matrix product behind `linear`, `linear_group` and `gated_linear` on CUDA:
//   out[M,N] = x[M,K] W[N,K]^T (+ bias[N]) (+ out), sums in fp32.
//
// Paths, and the names that receipts show:
//   gemv_mma       M <= 8, 16 bits, rows of whole 16-byte chunks: streams W once through mma.sync     gemv_mma.cu
//   gemv           M <= 8, everything else: fp32, odd K, views at odd addresses                         gemv.cu
//   gemm_cublaslt  M > 8, when the library is there                                                     cublaslt.cc
//   gemm_mma       M > 8, 16 bits, without the library or by ACCEL_CUDA_GEMM=own                        gemm_mma.cu
//   gemm_simt      M > 8, what is left: fp32 and odd shapes                                             gemm_simt.cu
//
// Rounding of our own kernels is that of cpu/gemm/finish.inc.h: sum + bias is rounded to the output dtype, then the old
// value is added and rounded again. cuBLASLt adds bias and old value in fp32 and rounds once.
// Summation order: in both gemv kernels it depends on K, the dtype and the alignment alone, so a row of a decode batch, a part of a
// group and a half of a gate have the bits that the row, the part or the half have alone.
#ifndef ACCEL_CUDA_GEMM_H
#define ACCEL_CUDA_GEMM_H

#include <stdint.h>

#include "accel/op.h"

namespace accel::cuda {

struct LinearProblem {
  int64_t m, n, k;
  const void* x;       // [m, k], of dtype `in`
  const void* w;       // [n, k], of dtype `in`
  const void* bias;    // [n], of dtype `in`, or null
  void* out;           // [m, n], of dtype `in` or fp32
  accel_dtype in, result;
  bool accumulate;     // add the old value of out
};

inline bool is_float(accel_dtype t) { return t.bits == 32; }

// ---- few rows

inline constexpr int kGemvRows = 8;   // of x, at most
inline constexpr int kGemvParts = 3;

// Weights that read the same x in one launch.
struct GemvPart {
  const void* w;       // [n, k]
  const void* up;      // gated: [n, k], else unused
  const void* bias;    // [n] or null
  void* out;           // [m, n]
  int32_t n;
  int32_t units;       // the first unit after this part; a unit is what one pass of a block computes at least
  bool wide;           // out is fp32 although x is not
};
struct GemvProblem {
  GemvPart part[kGemvParts];
  int32_t parts;
  int32_t m;
  int64_t k;
  const void* x;
  accel_dtype in;
  bool gated;          // out = silu(x w^T) (x up^T)
  bool accumulate;
};

// 16-bit x and W in whole, aligned chunks of 16 bytes.
bool fits_gemv_mma(const GemvProblem& p);
int run_gemv_mma(const accel_call* call, GemvProblem p);
int run_gemv(const accel_call* call, GemvProblem p);
int run_gemv_auto(const accel_call* call, const GemvProblem& p);

// ---- many rows

// The path for M > 8: by ACCEL_CUDA_GEMM (auto | own | cublaslt).
int run_gemm(const accel_call* call, const LinearProblem& p);

bool fits_gemm_mma(const LinearProblem& p);
int run_gemm_mma(const accel_call* call, const LinearProblem& p);
int run_gemm_simt(const accel_call* call, const LinearProblem& p);

// Overrides for tests and benches: which path runs, whatever the environment says. Not thread safe.
enum class GemmPath { automatic, own, simt, cublaslt };
enum class GemvPath { automatic, scalar };
void force_paths(GemmPath gemm, GemvPath gemv);
GemmPath forced_gemm();
GemvPath forced_gemv();

}  // namespace accel::cuda
#endif
