// The row and element kernels that exist once per instruction set level.
#ifndef ACCEL_CPU_OPS_ELEMENTWISE_KERNELS_H
#define ACCEL_CPU_OPS_ELEMENTWISE_KERNELS_H

#include "cpu/isa.h"
#include "cpu/ops/dtypes.h"

namespace accel::cpu {

// All pointers are to elements of `type` unless they say float.
struct ElementwiseKernels {
  void (*rmsnorm)(Type type, void* out, const void* x, const void* weight, int64_t rows, int64_t width, float eps);
  void (*swiglu)(Type type, void* out, const void* gate, const void* up, int64_t n);
  void (*add)(Type type, void* out, const void* a, const void* b, int64_t n);
  void (*cast)(Type to, void* out, Type from, const void* x, int64_t n);
  int64_t (*count_nonfinite)(Type type, const void* x, int64_t n);
  // Rotates the heads of one token in place. table: `half` pairs (cos, sin).
  void (*rope)(Type type, void* x, int heads, int head_dim, int half, const float* table, bool interleaved);
};

extern const ElementwiseKernels elementwise_base;
#if defined(__x86_64__)
extern const ElementwiseKernels elementwise_avx2;
extern const ElementwiseKernels elementwise_avx512;
#endif

// The table for isa(). The bf16 dot product of AVX512-BF16 is of no use here, so that level shares AVX-512's.
const ElementwiseKernels& elementwise_kernels();

}  // namespace accel::cpu
#endif
