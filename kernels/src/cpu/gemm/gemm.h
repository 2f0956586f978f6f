// The matrix product behind `linear`: out[M,N] = x[M,K] · W[N,K]ᵀ (+ bias) (+ out), sums in fp32.
//
// Two paths, chosen by the number of rows M alone:
//   dot   M <= 16. Every weight row is read once; each output is a dot product along K (dot.inc.h).
//   gemm  Weight panels are packed per call and a register tile walks over them (gemm.inc.h).
//
// Both paths form every output element by a summation order that depends on K, the dtype and the instruction set
// only: not on M, N, the position in the batch or the number of threads. So a row of a batch is bit-identical to the
// row alone as long as both take the same path. Across the paths (one token alone against many at once) the order
// differs, and results agree to fp32 rounding: at most K/4 + 2 roundings (2^-24) of Σ|x·w|, then one to the output dtype.
//
// Papers: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008 (blocking by cache
// level, packing); F. Van Zee, R. van de Geijn, "BLIS", TOMS 2015 (a small micro-kernel with portable loops around it).
#ifndef ACCEL_CPU_GEMM_H
#define ACCEL_CPU_GEMM_H

#include <stddef.h>
#include <stdint.h>

#include "../isa.h"
#include "accel/op.h"

namespace accel::cpu {

enum class Float { f32 = 0, bf16 = 1, f16 = 2 };
inline constexpr int kFloats = 3;

struct LinearProblem {
  int64_t m, n, k;
  const void* x;       // [m, k], dtype `in`
  const void* w;       // [n, k], dtype `in`
  const void* bias;    // [n], dtype `in`, or null
  void* out;           // [m, n], dtype `in` or f32
  Float in, result;
  bool accumulate;     // add the old value of out
};

// How one problem is cut. K is cut into `k_blocks` blocks of `k_step` elements (the last may be shorter), by K alone.
struct GemmTiling {
  int64_t rows, cols;       // one task computes a block of rows x cols outputs over the whole of K
  int64_t k_step, k_blocks;
  bool sums;                // partial sums need an fp32 block of their own: `out` cannot hold them
};

// One instruction set's GEMM for one input dtype. A cell is the 4 bytes that one lane multiplies: one fp32 value, or
// two neighbouring bf16 values of a row.
struct GemmKernel {
  int tile_rows, tile_cols;         // register tile
  int max_cols;                     // weight rows packed at once, also in L2
  int max_k_cells;                  // cells of K in one block
  int cell_elements;                // 1 or 2
  size_t (*scratch_bytes)(const GemmTiling&);
  void (*block)(const LinearProblem&, const GemmTiling&, int64_t m0, int64_t m1, int64_t n0, int64_t n1, void* scratch);
};

struct DotKernel {
  static constexpr int64_t kTaskRows = 64;              // weight rows of the smallest task
  int64_t max_rows;                                     // the path is taken for m <= max_rows
  bool widens;                                          // x must be copied even if its rows need no padding
  int64_t (*row_bytes)(int64_t k);                      // of one widened, zero-padded row of x
  void (*widen)(const LinearProblem&, int64_t row, void* to);
  void (*rows)(const LinearProblem&, const void* x, int64_t n0, int64_t n1);   // outputs [0,m) x [n0,n1)
};

struct LinearKernels {
  const char* gemm_name;
  const char* dot_name;
  GemmKernel gemm[kFloats];
  DotKernel dot[kFloats];
};

// Null where the build has no such level (another architecture).
const LinearKernels* linear_kernels(Isa isa);

namespace gemm_base { extern const LinearKernels kernels; }
namespace gemm_avx2 { extern const LinearKernels kernels; }
namespace gemm_avx512 { extern const LinearKernels kernels; }
namespace gemm_avx512bf16 { extern const LinearKernels kernels; }

// The path a call may be forced to, for tests and benchmarks.
enum class LinearPath { automatic, gemm, dot };

int check_linear(const accel_call* call);
int run_linear(const accel_call* call, const LinearKernels& kernels, LinearPath path);

}  // namespace accel::cpu
#endif
