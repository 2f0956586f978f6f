// One instruction set's kernels: included once by each gemm_<level>.cc, which the build compiles with that level's
// flags. Nothing here may be seen by another level, so no standard library templates are used (the linker keeps one
// copy of each for the whole program) and everything lives in the level's namespace.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if ACCEL_GEMM_LEVEL > 0
#include <immintrin.h>
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile *_avx2.cc and up with -mavx2 -mfma -mf16c"
#endif
#if ACCEL_GEMM_LEVEL >= 2 && !(defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__))
#error "compile *_avx512.cc and up with -mavx512f -mavx512bw -mavx512vl -mavx512dq"
#endif
#if ACCEL_GEMM_LEVEL >= 3 && !defined(__AVX512BF16__)
#error "compile *_avx512bf16.cc with -mavx512bf16"
#endif
#endif

#include "gemm.h"

#if ACCEL_GEMM_LEVEL >= 2 && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's AVX-512 headers warn about their own code
#endif

namespace accel::cpu::ACCEL_GEMM_NAMESPACE {
namespace {

template <int... I> struct Sequence {};
template <int N, int... I> struct MakeSequence : MakeSequence<N - 1, N - 1, I...> {};
template <int... I> struct MakeSequence<0, I...> : Sequence<I...> {};

#include "vector.inc.h"
#include "product.inc.h"
#include "finish.inc.h"
#include "gemm.inc.h"
#include "dot.inc.h"

template <class P>
constexpr GemmKernel gemm_kernel() {
  return {kTileRows, kTileCols, kMaxCols, kMaxCells, P::kPerCell, gemm_scratch, gemm_block<P>};
}
template <class P>
constexpr DotKernel dot_kernel() {
  return {kDotMaxRows, sizeof(typename P::Element) * P::kPerCell != sizeof(float), dot_row_bytes<P>, dot_widen<P>, dot_rows<P>};
}

}  // namespace

const LinearKernels kernels = {
    "linear.gemm." ACCEL_GEMM_NAME,
    "linear.dot." ACCEL_GEMM_NAME,
    {gemm_kernel<WideProduct<float>>(), gemm_kernel<Bf16Product>(), gemm_kernel<WideProduct<F16>>()},
    {dot_kernel<WideProduct<float>>(), dot_kernel<Bf16Product>(), dot_kernel<WideProduct<F16>>()},
};

}  // namespace accel::cpu::ACCEL_GEMM_NAMESPACE
