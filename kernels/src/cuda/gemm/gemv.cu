// gemv: few rows of x times W^T on the CUDA cores, for what gemv_mma does not take: fp32, rows that are not whole 16-byte
// chunks, views at odd addresses.
//
// A block takes a unit of kRows weight rows (gated: half of them of gate, half of up) and its threads divide K: thread i
// owns elements V*i .. V*i+V-1 of each stretch of 256 V. Each thread keeps kRows x kM fp32 sums; W of the next stretch is
// asked for before this one is multiplied. Then sums are added over the lanes (butterfly) and over the warps (in order).
// Blocks go through the units with a stride of the grid, which is one wave. The order of a sum depends on K and V alone,
// and V on the alignment of all operands.
#include <type_traits>

#include "cuda/gemm/epilogue.cuh"
#include "cuda/gemm/gemm.h"

namespace accel::cuda {
namespace {

constexpr int kRows = 4;
constexpr int kThreads = 256, kWarps = kThreads / 32;

template <class T, int V>
struct alignas(V * sizeof(T)) Vector {
  T v[V];
};

// Past L1, in one instruction.
template <class T, int V>
__device__ __forceinline__ Vector<T, V> load_stream(const T* p) {
  Vector<T, V> r;
  if constexpr (sizeof(r) == 16) {
    uint4 bits;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
                 : "l"(p));
    __builtin_memcpy(&r, &bits, 16);
  } else {
    static_assert(V == 1);
    r.v[0] = __ldcs(p);
  }
  return r;
}

template <class T, int kM, int V, bool kGated>
__global__ void __launch_bounds__(kThreads, 2) gemv(const __grid_constant__ GemvProblem p) {
  constexpr int kUnitRows = kGated ? kRows / 2 : kRows;
  constexpr int64_t kStretch = static_cast<int64_t>(kThreads) * V;
  __shared__ float sums[kWarps][kRows][kM];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const T* x = static_cast<const T*>(p.x);
  const int64_t own = static_cast<int64_t>(threadIdx.x) * V;
  const int total = p.part[p.parts - 1].units;
  bool waited = false;

  for (int unit = blockIdx.x; unit < total; unit += gridDim.x) {
    int s = 0;
#pragma unroll
    for (int i = 0; i + 1 < kGemvParts; ++i) s += (i + 1 < p.parts && unit >= p.part[i].units);
    const GemvPart& part = p.part[s];
    const int n0 = (unit - (s == 0 ? 0 : p.part[s - 1].units)) * kUnitRows;
    const T* row[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // Rows past the end repeat the last one and are not stored.
      const int n = n0 + r % kUnitRows < part.n ? n0 + r % kUnitRows : part.n - 1;
      row[r] = static_cast<const T*>(kGated && r >= kUnitRows ? part.up : part.w) + n * p.k;
    }
    Vector<T, V> now[kRows], next[kRows];
    const auto load = [&](Vector<T, V>(&to)[kRows], int64_t k) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (k < p.k) to[r] = load_stream<T, V>(row[r] + k);
      }
    };
    load(now, own);
    if (!waited) {
      pdl_release();
      pdl_wait();
      waited = true;
    }
    float acc[kRows][kM];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int m = 0; m < kM; ++m) acc[r][m] = 0.f;
    }
    for (int64_t k = own; k < p.k; k += kStretch) {
      load(next, k + kStretch);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        if (m >= p.m) break;
        const Vector<T, V> cells = *reinterpret_cast<const Vector<T, V>*>(x + m * p.k + k);
#pragma unroll
        for (int i = 0; i < V; ++i) {
#pragma unroll
          for (int r = 0; r < kRows; ++r) acc[r][m] = fmaf(to_float(now[r].v[i]), to_float(cells.v[i]), acc[r][m]);
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) now[r] = next[r];
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int o = 16; o > 0; o /= 2) acc[r][m] += __shfl_xor_sync(~0u, acc[r][m], o);
        if (lane == 0) sums[warp][r][m] = acc[r][m];
      }
    }
    __syncthreads();
    const int m = threadIdx.x / kUnitRows, j = threadIdx.x % kUnitRows, n = n0 + j;
    if (m < p.m && n < part.n) {
      const auto total_of = [&](int r) {
        float sum = 0.f;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) sum += sums[w][r][m];
        return sum;
      };
      const int64_t to = m * static_cast<int64_t>(part.n) + n;
      if constexpr (kGated) {
        static_cast<T*>(part.out)[to] = silu_product(from_float<T>(total_of(j)), from_float<T>(total_of(j + kUnitRows)));
      } else if (part.wide) {
        finish(static_cast<float*>(part.out), to, total_of(j), static_cast<const T*>(part.bias), n, p.accumulate);
      } else {
        finish(static_cast<T*>(part.out), to, total_of(j), static_cast<const T*>(part.bias), n, p.accumulate);
      }
    }
    __syncthreads();
  }
}

template <class T, int kM, int V>
int launch(const accel_call* call, const GemvProblem& p) {
  const int total = p.part[p.parts - 1].units, resident = 2 * call->multiprocessors;
  const dim3 grid(total < resident ? total : resident);
  if (p.gated) {
    launch_pdl(call, gemv<T, kM, V, true>, grid, dim3(kThreads), 0, p);
  } else {
    launch_pdl(call, gemv<T, kM, V, false>, grid, dim3(kThreads), 0, p);
  }
  return launched(call);
}

template <class T, int V>
int launch_rows(const accel_call* call, const GemvProblem& p) {
  if (p.m == 1) return launch<T, 1, V>(call, p);
  if (p.m == 2) return launch<T, 2, V>(call, p);
  if (p.m <= 4) return launch<T, 4, V>(call, p);
  return launch<T, kGemvRows, V>(call, p);
}

bool rows_aligned(const GemvProblem& p) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(p.x) | static_cast<uintptr_t>(p.k * (p.in.bits / 8));
  for (int i = 0; i < p.parts; ++i) {
    bits |= reinterpret_cast<uintptr_t>(p.part[i].w);
    if (p.gated) bits |= reinterpret_cast<uintptr_t>(p.part[i].up);
  }
  return bits % 16 == 0;
}

}  // namespace

int run_gemv(const accel_call* call, GemvProblem p) {
  call->ran(call, "gemv");
  const int rows = p.gated ? kRows / 2 : kRows;
  int32_t units = 0;
  for (int i = 0; i < p.parts; ++i) p.part[i].units = units += (p.part[i].n + rows - 1) / rows;
  return with_float(p.in, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    return rows_aligned(p) ? launch_rows<T, 16 / sizeof(T)>(call, p) : launch_rows<T, 1>(call, p);
  });
}

}  // namespace accel::cuda
