// gemm_mma: out = x W^T with mma.sync m16n8k16, for bf16 and fp16 where cuBLASLt is not there (sm_80 and up).
//
// A block computes 128 x 128 outputs in stretches of 64 of K (128-byte rows of shared memory, xor swizzle), three of
// them in flight through cp.async; eight warps of 64 x 32 outputs, 64 sums a thread. 96 KB: two blocks per multiprocessor
// on Hopper, one on sm_80 and sm_86. Rows past M and N and chunks past K are filled with zeros instead of being read, so any M and N
// and any K that is a multiple of 8 will do. Both operands are K-major, so neither needs a transposition.
// The order of a sum is that of K, in steps of 16, whatever M and N are.
//
// Blocks are numbered in bands of kBand row tiles: blocks that run together read few different tiles of x and of W, and
// what they share is in L2. Blocking and pipeline after the public description of multistage GEMM on Ampere (NVIDIA,
// "CUTLASS: efficient GEMM in CUDA", documentation of CUTLASS 3).
#include <type_traits>

#include "accel/mma.cuh"
#include "cuda/gemm/epilogue.cuh"
#include "cuda/gemm/gemm.h"

namespace accel::cuda {
namespace {

constexpr int kTileM = 128, kTileN = 128, kStep = 64, kStages = 3, kThreads = 256;
constexpr int kChunks = kStep / 8;                       // of 16 bytes, in a row of a tile
constexpr int kTileBytes = 128 * kStep * 2;
constexpr int kSharedBytes = kStages * 2 * kTileBytes;
constexpr int kBand = 16;
constexpr int kWarpM = 64, kWarpN = 32;

// 128 rows from row0 and the stretch from k0 into shared memory; `rows` and `k` bound the matrix.
template <class T>
__device__ inline void load_tile(uint32_t shared, const T* from, int64_t row0, int64_t rows, int64_t k0, int64_t k) {
#pragma unroll
  for (int i = 0; i < 128 * kChunks / kThreads; ++i) {
    const int row = threadIdx.x / kChunks + i * (kThreads / kChunks), chunk = threadIdx.x % kChunks;
    const bool valid = row0 + row < rows && k0 + chunk * 8 < k;
    const T* at = valid ? from + (row0 + row) * k + k0 + chunk * 8 : from;
    cp_async16(shared + swizzle<kChunks>(row, chunk), at, valid);
  }
}

template <class Out, class T>
__device__ inline void store_pair(Out* out, int64_t row, int64_t column, int64_t n, float low, float high, const T* bias,
                                  bool pairs, bool accumulate) {
  if (!pairs) {
    if (column < n) finish(out, row * n + column, low, bias, column, accumulate);
    if (column + 1 < n) finish(out, row * n + column + 1, high, bias, column + 1, accumulate);
    return;
  }
  if (column >= n) return;
  struct alignas(2 * sizeof(Out)) Pair {
    Out v[2];
  };
  Pair* to = reinterpret_cast<Pair*>(out + row * n + column);
  Pair result, old;
  if (accumulate) old = *to;
  finish(result.v, 0, low, bias == nullptr ? bias : bias + column, 0, false);
  finish(result.v, 1, high, bias == nullptr ? bias : bias + column, 1, false);
  if (accumulate) {
    result.v[0] = from_float<Out>(to_float(result.v[0]) + to_float(old.v[0]));
    result.v[1] = from_float<Out>(to_float(result.v[1]) + to_float(old.v[1]));
  }
  *to = result;
}

template <class Out, class T>
__global__ void __launch_bounds__(kThreads, 2)
    gemm_mma(Out* out, const T* x, const T* w, const T* bias, int64_t m, int64_t n, int64_t k, int m_tiles, int n_tiles,
             bool pairs, bool accumulate) {
  extern __shared__ __align__(1024) uint8_t tiles[];
  const uint32_t base = shared_address(tiles);
  // Block -> (row tile, column tile), band by band; the last band may be lower.
  const int band = blockIdx.x / (kBand * n_tiles), in_band = blockIdx.x % (kBand * n_tiles);
  const int height = m_tiles - band * kBand < kBand ? m_tiles - band * kBand : kBand;
  const int64_t m0 = static_cast<int64_t>(band * kBand + in_band % height) * kTileM;
  const int64_t n0 = static_cast<int64_t>(in_band / height) * kTileN;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / 4 * kWarpM, warp_n = warp % 4 * kWarpN;
  const int steps = static_cast<int>((k + kStep - 1) / kStep);

  const auto load = [&](int step) {
    if (step < steps) {
      const uint32_t to = base + step % kStages * 2 * kTileBytes;
      load_tile(to, x, m0, m, static_cast<int64_t>(step) * kStep, k);
      load_tile(to + kTileBytes, w, n0, n, static_cast<int64_t>(step) * kStep, k);
    }
    cp_async_commit();  // a group for every step, empty or not: the wait below counts groups
  };
  float acc[kWarpM / 16][kWarpN / 8][4] = {};
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) load(s);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<kStages - 2>();
    // All parts of this step have arrived, and all warps are done with the stage that the next load overwrites.
    __syncthreads();
    load(step + kStages - 1);
    const uint32_t a_tile = base + step % kStages * 2 * kTileBytes, b_tile = a_tile + kTileBytes;
#pragma unroll
    for (int kk = 0; kk < kStep / 16; ++kk) {
      uint32_t a[kWarpM / 16][4], b[kWarpN / 16][4];
#pragma unroll
      for (int j = 0; j < kWarpN / 16; ++j) {
        ldmatrix_x4(b[j], b_tile + swizzle<kChunks>(warp_n + j * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
      }
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i) {
        ldmatrix_x4(a[i], a_tile + swizzle<kChunks>(warp_m + i * 16 + lane % 16, kk * 2 + lane / 16));
      }
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i) {
#pragma unroll
        for (int j = 0; j < kWarpN / 8; ++j) mma_m16n8k16<T>(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
  cp_async_wait<0>();
#pragma unroll
  for (int i = 0; i < kWarpM / 16; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t row = m0 + warp_m + i * 16 + half * 8 + lane / 4;
      if (row >= m) continue;
#pragma unroll
      for (int j = 0; j < kWarpN / 8; ++j) {
        store_pair(out, row, n0 + warp_n + j * 8 + lane % 4 * 2, n, acc[i][j][half * 2], acc[i][j][half * 2 + 1], bias,
                   pairs, accumulate);
      }
    }
  }
}

template <class Out, class T>
int launch(const accel_call* call, const LinearProblem& p, Out* out) {
  const int64_t m_tiles = (p.m + kTileM - 1) / kTileM, n_tiles = (p.n + kTileN - 1) / kTileN;
  const bool pairs = p.n % 2 == 0 && reinterpret_cast<uintptr_t>(out) % (2 * sizeof(Out)) == 0;
  cudaFuncSetAttribute(gemm_mma<Out, T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  gemm_mma<Out, T><<<static_cast<unsigned>(m_tiles * n_tiles), kThreads, kSharedBytes, stream_of(call)>>>(
      out, static_cast<const T*>(p.x), static_cast<const T*>(p.w), static_cast<const T*>(p.bias), p.m, p.n, p.k,
      static_cast<int>(m_tiles), static_cast<int>(n_tiles), pairs, p.accumulate);
  return launched(call);
}

template <class T>
int run(const accel_call* call, const LinearProblem& p) {
  return is_float(p.result) ? launch<float, T>(call, p, static_cast<float*>(p.out))
                            : launch<T, T>(call, p, static_cast<T*>(p.out));
}

}  // namespace

bool fits_gemm_mma(const LinearProblem& p) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.w);
  return p.in.bits == 16 && p.k % 8 == 0 && bits % 16 == 0;
}

int run_gemm_mma(const accel_call* call, const LinearProblem& p) {
  call->ran(call, "gemm_mma");
  return p.in.code == ACCEL_BFLOAT ? run<__nv_bfloat16>(call, p) : run<__half>(call, p);
}

}  // namespace accel::cuda
