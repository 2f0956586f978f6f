// gemv_mma: few rows of x times W^T in 16 bits; the work is reading W once, as fast as the memory gives it.
//
// Tensor cores at M <= 8 are not for speed of arithmetic but for its price: one mma.sync m16n8k16 multiplies 16 columns
// of 8 weight rows with up to 8 rows of x, so M = 8 costs what M = 1 costs, and nothing is converted to fp32 first.
//
// Fragments. x is A (its rows 8..15 are zero), W is B: eight weight rows are the eight columns of B. With g = lane / 4
// and t = lane % 4 the hardware wants from lane l the k-slots 2t, 2t+1 and 2t+8, 2t+9 of row g. A sum over k may be taken
// in any order, as long as A and B agree on it: so lane l loads the 16 bytes k = 8t .. 8t+7 of a chunk of 32, and its
// four words serve as those slots of two mma's. One LDG.128 of W and one of x feed two mma's, without ldmatrix, without
// shared memory:
//     chunk c of weight row n0+g:   words w0 w1 w2 w3 at k = 32c + 8t
//     mma 1: A = {x0, 0, x1, 0}, B = {w0, w1}     mma 2: A = {x2, 0, x3, 0}, B = {w2, w3}
// Four lanes cover 64 contiguous bytes of a row; chunks are given out in pairs, so that a row is read in 128-byte lines.
//
// Division of work. A block owns a contiguous range of units (8 weight rows; gated: 8 of gate and the same 8 of up). It
// takes kTiles tiles of 8 rows at a time, a pass; its warps divide K: pair p of chunks belongs to warp p % kWarps. After
// a pass the warps' sums meet in shared memory and are added in order of warps. Everything is loaded one stage (kTiles x
// kChunks 16-byte loads a thread) ahead, over the ends of passes, so the reduction never drains the loads in flight:
// 512 threads x 8 x 16 B = 64 KB per multiprocessor, twice what 4.3 TB/s x 0.8 us needs.
// The grid is one wave, and shares differ by one unit at most.
//
// The first stage of W is loaded before pdl_wait: weights are constants. Drawing further stages into L2 there was slower.
// The order of a sum depends on K alone: which warp sums which chunks depends on kWarps, chosen by K, and on nothing else.
#include "accel/mma.cuh"
#include "cuda/gemm/epilogue.cuh"
#include "cuda/gemm/gemm.h"

namespace accel::cuda {
namespace {

constexpr int kUnitRows = 8;
constexpr int kStageLoads = 8;        // kTiles * kChunks
constexpr int64_t kLongRow = 8192;    // from this K on one block of 16 warps per multiprocessor: x is read less often

struct alignas(16) Word4 {
  uint32_t v[4];
};

// Past L1: every byte of W is used once. volatile keeps the loads where they are written, ahead of the arithmetic.
__device__ __forceinline__ Word4 load_stream(const void* p) {
  Word4 r;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.v[0]), "=r"(r.v[1]), "=r"(r.v[2]), "=r"(r.v[3])
               : "l"(p));
  return r;
}
// Of x: stays in L1, and is ordered after pdl_wait.
__device__ __forceinline__ Word4 load_cached(const void* p) {
  Word4 r;
  asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.v[0]), "=r"(r.v[1]), "=r"(r.v[2]), "=r"(r.v[3])
               : "l"(p)
               : "memory");
  return r;
}

// Where a block is in the sequence of its stages: a pass and a stage of K within it.
template <class T, int kWarps, int kTiles, int kChunks, bool kGated>
struct Cursor {
  static constexpr int kUnits = kGated ? kTiles / 2 : kTiles;
  static_assert(kChunks % 2 == 0, "chunks are given out in pairs");
  const T* row[kTiles];   // this lane's row of each tile, at its place in a chunk
  int tiles;              // tiles of this pass that are there
  int stage;

  __device__ void enter(const GemvProblem& p, int unit, int units, int lane) {
    stage = 0;
    tiles = kGated ? 2 * units : units;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int at = unit + (kGated ? j / 2 : j);
      int s = 0;
#pragma unroll
      for (int i = 0; i + 1 < kGemvParts; ++i) s += (i + 1 < p.parts && at >= p.part[i].units);
      const int first = s == 0 ? 0 : p.part[s - 1].units;
      // Rows past the end repeat the last one, and tiles past the end may be anything: neither is stored.
      int n = (at - first) * kUnitRows + lane / 4;
      n = n < p.part[s].n ? n : p.part[s].n - 1;
      const void* w = kGated && j % 2 == 1 ? p.part[s].up : p.part[s].w;
      row[j] = static_cast<const T*>(w) + n * p.k + lane % 4 * 8;
    }
  }
  // The chunk of 32 that this warp multiplies as number `c` of the stage.
  __device__ static int64_t chunk(int stage, int c, int warp) {
    return (static_cast<int64_t>(stage * (kChunks / 2) + c / 2) * kWarps + warp) * 2 + c % 2;
  }
  __device__ void load(Word4 (&to)[kTiles][kChunks], int64_t k, int warp, int lane) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t at = chunk(stage, c, warp) * 32;
      const bool inside = at + lane % 4 * 8 < k;
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        to[j][c] = Word4{{0, 0, 0, 0}};
        if (inside && j < tiles) to[j][c] = load_stream(row[j] + at);
      }
    }
  }
};

template <class T, bool kGated, int kTiles, int kWarps>
__device__ void store_pass(const GemvProblem& p, const float (&sums)[kTiles][kWarps][64], int unit, int units) {
  constexpr int per = kGated ? 2 : 1;
  for (int o = threadIdx.x; o < units * 8 * p.m; o += kWarps * 32) {
    const int column = o % 8, j = o / 8 % units, m = o / 8 / units;
    const int at = unit + j;
    int s = 0;
#pragma unroll
    for (int i = 0; i + 1 < kGemvParts; ++i) s += (i + 1 < p.parts && at >= p.part[i].units);
    const GemvPart& part = p.part[s];
    const int n = (at - (s == 0 ? 0 : p.part[s - 1].units)) * kUnitRows + column;
    if (n >= part.n) continue;
    float sum[per];
#pragma unroll
    for (int half = 0; half < per; ++half) {
      sum[half] = 0.f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum[half] += sums[j * per + half][w][m * 8 + column];
    }
    const int64_t to = m * static_cast<int64_t>(part.n) + n;
    if constexpr (kGated) {
      static_cast<T*>(part.out)[to] = silu_product(from_float<T>(sum[0]), from_float<T>(sum[per - 1]));
    } else if (part.wide) {
      finish(static_cast<float*>(part.out), to, sum[0], static_cast<const T*>(part.bias), n, p.accumulate);
    } else {
      finish(static_cast<T*>(part.out), to, sum[0], static_cast<const T*>(part.bias), n, p.accumulate);
    }
  }
}

template <class T, int kWarps, int kTiles, bool kGated>
__global__ void __launch_bounds__(kWarps * 32, 16 / kWarps) gemv_mma(const __grid_constant__ GemvProblem p) {
  constexpr int kChunks = kStageLoads / kTiles;
  using Position = Cursor<T, kWarps, kTiles, kChunks, kGated>;
  __shared__ float sums[2][kTiles][kWarps][64];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int total = p.part[p.parts - 1].units;
  const int begin = static_cast<int>(static_cast<int64_t>(total) * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(static_cast<int64_t>(total) * (blockIdx.x + 1) / gridDim.x);
  // Passes of the same size, as far as possible: a last pass of one unit would have few loads in flight.
  const int passes = (end - begin + Position::kUnits - 1) / Position::kUnits;
  const int per_pass = (end - begin + passes - 1) / passes;
  const int stages = static_cast<int>((p.k + kWarps * kChunks * 32 - 1) / (kWarps * kChunks * 32));
  const auto units_at = [&](int unit) { return end - unit < per_pass ? end - unit : per_pass; };

  Word4 w[2][kTiles][kChunks];
  Position ahead;
  int ahead_unit = begin;
  ahead.enter(p, begin, units_at(begin), lane);
  ahead.load(w[0], p.k, warp, lane);
  pdl_release();
  pdl_wait();

  const T* x = static_cast<const T*>(p.x) + lane / 4 * p.k + lane % 4 * 8;
  const bool has_row = lane / 4 < p.m;
  float acc[kTiles][4];
  int unit = begin, stage = 0, buffer = 0;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.f;

  // One stage: x of this one, then W of the next one are asked for; then this one is multiplied.
  const auto step = [&](Word4(&now)[kTiles][kChunks], Word4(&next)[kTiles][kChunks]) {
    Word4 rows[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t at = Position::chunk(stage, c, warp) * 32;
      rows[c] = Word4{{0, 0, 0, 0}};
      if (has_row && at + lane % 4 * 8 < p.k) rows[c] = load_cached(x + at);
    }
    if (++ahead.stage == stages) {
      ahead_unit += per_pass;
      if (ahead_unit < end) ahead.enter(p, ahead_unit, units_at(ahead_unit), lane);
    }
    if (ahead_unit < end) ahead.load(next, p.k, warp, lane);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const uint32_t low[4] = {rows[c].v[0], 0u, rows[c].v[1], 0u}, high[4] = {rows[c].v[2], 0u, rows[c].v[3], 0u};
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        mma_m16n8k16<T>(acc[j], low, now[j][c].v[0], now[j][c].v[1]);
        mma_m16n8k16<T>(acc[j], high, now[j][c].v[2], now[j][c].v[3]);
      }
    }
    if (++stage < stages) return;
    // C of an mma: lane l holds columns 2t, 2t+1 of row g = row m of x.
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      *reinterpret_cast<float2*>(&sums[buffer][j][warp][lane * 2]) = make_float2(acc[j][0], acc[j][1]);
      acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.f;
    }
    __syncthreads();
    store_pass<T, kGated>(p, sums[buffer], unit, units_at(unit));
    // The other buffer next: whoever writes this one again has passed the next barrier, after all have read it.
    buffer ^= 1;
    stage = 0;
    unit += per_pass;
  };
  while (unit < end) {
    step(w[0], w[1]);
    if (unit >= end) break;
    step(w[1], w[0]);
  }
}

template <class T, int kWarps, int kTiles, bool kGated>
int launch(const accel_call* call, const GemvProblem& p) {
  const int total = p.part[p.parts - 1].units;
  const int resident = call->multiprocessors * (16 / kWarps);
  launch_pdl(call, gemv_mma<T, kWarps, kTiles, kGated>, dim3(total < resident ? total : resident), dim3(kWarps * 32), 0, p);
  return launched(call);
}

// Fewer tiles at a time with more chunks of each, where a block has few tiles: the loads in flight stay the same.
template <class T, int kWarps>
int launch_tiles(const accel_call* call, const GemvProblem& p) {
  const int64_t blocks = static_cast<int64_t>(call->multiprocessors) * (16 / kWarps);
  const int64_t share = (p.part[p.parts - 1].units + blocks - 1) / blocks;
  if (p.gated) return share > 1 ? launch<T, kWarps, 4, true>(call, p) : launch<T, kWarps, 2, true>(call, p);
  if (share > 2) return launch<T, kWarps, 4, false>(call, p);
  return share == 2 ? launch<T, kWarps, 2, false>(call, p) : launch<T, kWarps, 1, false>(call, p);
}

}  // namespace

bool fits_gemv_mma(const GemvProblem& p) {
  if (p.in.bits != 16 || p.k % 8 != 0) return false;
  uintptr_t bits = reinterpret_cast<uintptr_t>(p.x);
  for (int i = 0; i < p.parts; ++i) {
    bits |= reinterpret_cast<uintptr_t>(p.part[i].w);
    if (p.gated) bits |= reinterpret_cast<uintptr_t>(p.part[i].up);
  }
  return bits % 16 == 0;
}

int run_gemv_mma(const accel_call* call, GemvProblem p) {
  call->ran(call, "gemv_mma");
  int32_t units = 0;
  for (int i = 0; i < p.parts; ++i) p.part[i].units = units += (p.part[i].n + kUnitRows - 1) / kUnitRows;
  const auto run = [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    return p.k > kLongRow ? launch_tiles<T, 16>(call, p) : launch_tiles<T, 8>(call, p);
  };
  if (p.in.code == ACCEL_BFLOAT) return run(static_cast<__nv_bfloat16*>(nullptr));
  return run(static_cast<__half*>(nullptr));
}

}  // namespace accel::cuda
