// gemm_simt: out = x W^T on the CUDA cores, for many rows where neither tensor cores nor the library apply: fp32 without
// cuBLASLt (no TF32 anywhere), K that is not a multiple of 8, operands at odd addresses.
//
// A block computes 64 x 64 outputs, a thread 4 x 4 of them at a distance of 16, so that a warp reads shared memory and
// writes out without conflicts. Stretches of 16 of K are widened to fp32 in shared memory, k-major; the next stretch is
// in registers meanwhile. The order of a sum is k = 0, 1, 2, ... whatever M and N are.
#include <type_traits>

#include "cuda/gemm/epilogue.cuh"
#include "cuda/gemm/gemm.h"

namespace accel::cuda {
namespace {

constexpr int kTile = 64, kStep = 16, kThreads = 256, kPer = 4;

template <class Out, class T>
__global__ void __launch_bounds__(kThreads) gemm_simt(Out* out, const T* x, const T* w, const T* bias, int64_t m, int64_t n,
                                                      int64_t k, int64_t n_tiles, bool accumulate) {
  __shared__ float a[kStep][kTile + 1], b[kStep][kTile + 1];
  const int64_t m0 = blockIdx.x / n_tiles * kTile, n0 = blockIdx.x % n_tiles * kTile;
  // Loads: 16 neighbouring threads read 16 neighbouring elements of a row; each thread has four rows.
  const int column = threadIdx.x % kStep, line = threadIdx.x / kStep;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float acc[kPer][kPer] = {}, xs[kPer], ws[kPer];
  const auto load = [&](int64_t k0) {
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int64_t row = line + 16 * i, at = k0 + column;
      xs[i] = m0 + row < m && at < k ? to_float(x[(m0 + row) * k + at]) : 0.f;
      ws[i] = n0 + row < n && at < k ? to_float(w[(n0 + row) * k + at]) : 0.f;
    }
  };
  load(0);
  for (int64_t k0 = 0; k0 < k; k0 += kStep) {
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      a[column][line + 16 * i] = xs[i];
      b[column][line + 16 * i] = ws[i];
    }
    __syncthreads();
    if (k0 + kStep < k) load(k0 + kStep);
#pragma unroll
    for (int c = 0; c < kStep; ++c) {
      float av[kPer], bv[kPer];
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        av[i] = a[c][ty + 16 * i];
        bv[i] = b[c][tx + 16 * i];
      }
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
#pragma unroll
        for (int j = 0; j < kPer; ++j) acc[i][j] = fmaf(av[i], bv[j], acc[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const int64_t row = m0 + ty + 16 * i;
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int64_t col = n0 + tx + 16 * j;
      if (row < m && col < n) finish(out, row * n + col, acc[i][j], bias, col, accumulate);
    }
  }
}

}  // namespace

int run_gemm_simt(const accel_call* call, const LinearProblem& p) {
  call->ran(call, "gemm_simt");
  const int64_t m_tiles = (p.m + kTile - 1) / kTile, n_tiles = (p.n + kTile - 1) / kTile;
  return with_float(p.in, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const auto run = [&](auto* out) {
      gemm_simt<<<static_cast<unsigned>(m_tiles * n_tiles), kThreads, 0, stream_of(call)>>>(
          out, static_cast<const T*>(p.x), static_cast<const T*>(p.w), static_cast<const T*>(p.bias), p.m, p.n, p.k,
          n_tiles, p.accumulate);
      return launched(call);
    };
    return is_float(p.result) ? run(static_cast<float*>(p.out)) : run(static_cast<T*>(p.out));
  });
}

}  // namespace accel::cuda
