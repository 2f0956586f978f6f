// gemm_cublaslt: the vendor's GEMM, loaded at run time (lt_api.h), for many rows.
//
// Row-major out[M,N] = x W^T is, read column-major, out^T[N,M] = op(W)^T x^T with W as a transposed [K,N] matrix: no
// copies, leading dimensions K, K, N.
//
// A plan (descriptors, layouts, algorithm) is kept per shape, dtypes, bias and alignment of the pointers. Only algorithms
// without split-K, or with split sums kept in fp32 and added in a fixed order, are asked for; so a plan gives the same
// bits in every run.
//
// The first call of a shape class (N, K, dtypes, bias, power of two of M; M >= 256) times the library's best guesses
// on the data at hand, and WAITS for the device to do so: some milliseconds, once per process and class. It happens
// outside of captures only; ACCEL_CUDA_TUNE=0 turns it off, and the first guess is taken, which also makes the choice
// the same in every process. Elsewhere nothing waits.
#ifndef ACCEL_CUDA_GEMM_CUBLASLT_H
#define ACCEL_CUDA_GEMM_CUBLASLT_H

#include "cuda/gemm/gemm.h"

namespace accel::cuda {

enum class LtResult {
  done,
  unsupported,   // nothing was launched: the library has no algorithm for this, or cannot take it
  failed         // reported through call->fail
};

// Whether the library was found; else `tried` says where it was looked for.
bool has_cublaslt(const char** tried);
LtResult run_cublaslt(const accel_call* call, const LinearProblem& p);

}  // namespace accel::cuda
#endif
