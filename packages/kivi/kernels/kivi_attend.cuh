// Launches of the fast attention, for one number of bits of keys and of values. Each is compiled in a file of its own
// (kivi_attend_*.cu), because there are many kernels.
#ifndef ACCEL_KIVI_ATTEND_CUH
#define ACCEL_KIVI_ATTEND_CUH

#include <algorithm>
#include <atomic>

#include "accel/decode_combine.cuh"
#include "kivi.h"
#include "kivi_stream.cuh"

namespace accel_kivi {

// `packed`: query rows of the longest sequence, of one kv head. `unsupported` when the card has too little shared memory.
constexpr int unsupported = -1;
int attend_2_2(const accel_call* call, const KiviArguments& a, int packed);
int attend_4_4(const accel_call* call, const KiviArguments& a, int packed);
int attend_8_8(const accel_call* call, const KiviArguments& a, int packed);

// A block is W warps that work and a warpgroup that brings rows in, two of its warps or all. On sm_90a that group hands most of
// its registers to the others (PTX ISA, setmaxnreg: by warpgroup, from what the block was launched with).
constexpr int kBringing = 4, kFewRegisters = 40;
__host__ __device__ constexpr int threads_of(int warps) { return 32 * (warps + kBringing); }
__host__ __device__ constexpr int registers_of(int warps) {
  const int launched = 65536 / threads_of(warps) / 8 * 8 * threads_of(warps);
  return (launched - 32 * kBringing * kFewRegisters) / (32 * warps) / 8 * 8;
}

template <int D, int KB, int VB, int N, int W, bool Pruned>
__global__ void __launch_bounds__(threads_of(W), 1) attend_split(const __grid_constant__ KiviArguments a) {
  using Stream = KiviStream<D, KB, VB, N, W, Pruned>;
  constexpr int R = Stream::R, bringing = 2 * kBringers, all = 32 * (W + bringing);
  static_assert(bringing <= kBringing);
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ typename Stream::Notes notes;
  __shared__ typename Stream::Barriers barriers[2];
  pdl_release();
  if (threadIdx.x == 0) {
    for (auto& ring : barriers) ring.init(W);
#if __CUDA_ARCH__ >= 900
    mbarrier_init_fence();
#endif
  }
  __syncthreads();
  if (!a.decode.settled) pdl_wait();
  const int warp = threadIdx.x / 32;
  // Each role has a loop of its own over the same segments. Between two of them all meet: the stages serve other purposes at
  // the end of one.
  if (warp < W) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    take_registers<registers_of(W)>();
#endif
    Stream stream(a, shared, notes, barriers);
    decode_segments<R>(a.decode, [&](int unit, int first_tile, int end_tile, int number) {
      const auto segment = KiviSegment::of<R>(a.decode, unit, first_tile, end_tile);
      pdl_wait();  // up to here only what the plan is made from was read
      stream.segment(segment, number);
      named_sync(2, all);
    });
  } else {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    give_registers<kFewRegisters>();
#endif
    if (warp < W + bringing) {
      const bool keys = (warp - W) % 2 == 0;
      const int own = (warp - W) / 2;
      auto ring = keys ? Stream::key_ring(shared, barriers) : Stream::value_ring(shared, barriers);
      decode_segments<R>(a.decode, [&](int unit, int first_tile, int end_tile, int) {
        const auto segment = KiviSegment::of<R>(a.decode, unit, first_tile, end_tile);
        pdl_wait();
        if (keys) bring_keys(a, segment, ring, own);
        else bring_values(a, segment, ring, own);
        named_sync(2, all);
      });
    }
  }
  pdl_wait();  // also without a segment: who waits for this kernel waits for those before it
}

// Whether the kernel fits the device. Kernels must be told, once per device, that they may use more than 48 KB of shared
// memory.
template <int D, int KB, int VB, int N, int W, bool Pruned>
bool fits(int device) {
  static std::atomic<uint64_t> done{0};
  const uint64_t bit = device < 64 ? 1ull << device : 0;
  if ((done.load(std::memory_order_relaxed) & bit) != 0) return true;
  constexpr int bytes = KiviStream<D, KB, VB, N, W, Pruned>::shared_bytes;
  int most = 0;  // consumer cards have 99 KB a block
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (most < bytes + 4096) return false;
  cudaFuncSetAttribute(attend_split<D, KB, VB, N, W, Pruned>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  done.fetch_or(bit, std::memory_order_relaxed);
  return true;
}

template <int D, int KB, int VB, int N, int W, bool Pruned>
int run(const accel_call* call, KiviArguments k, int packed) {
  using Stream = KiviStream<D, KB, VB, N, W, Pruned>;
  constexpr int R = Stream::R;
  if (!fits<D, KB, VB, N, W, Pruned>(call->device.index)) return unsupported;
  DecodeArguments& a = k.decode;
  a.row_blocks = (packed + R - 1) / R;
  a.units = a.pages.sequences * a.pages.heads * a.row_blocks;
  a.tile = Stream::tile;
  const accel_kv& kv = *call->args[attention::kKv].kv;
  const int64_t tiles = (int64_t)a.units * (kv.row_limit / Stream::tile + 1);
  // A block that comes to a second unit fills its pipeline again. Where a few blocks fewer can share units evenly, that is
  // less work.
  const int even = call->multiprocessors / a.units * a.units;
  const int blocks = (int)std::min<int64_t>(tiles, even * 16 >= call->multiprocessors * 15 ? even : call->multiprocessors);
  const size_t rows = (size_t)(blocks + a.units) * R;
  a.states = static_cast<float2*>(call->scratch(call, rows * sizeof(float2)));
  a.values = static_cast<float*>(call->scratch(call, rows * D * sizeof(float)));
  a.cover = static_cast<int2*>(call->scratch(call, (size_t)a.units * sizeof(int2)));
  launch_pdl(call, attend_split<D, KB, VB, N, W, Pruned>, dim3(blocks), dim3(threads_of(W)), Stream::shared_bytes, k);
  if (launched(call) != ACCEL_OK) return ACCEL_FAILED;
  const dim3 grid(a.units, std::min<int>(R, packed));
  if (k.bf16) launch_pdl(call, decode_combine<__nv_bfloat16, D, R>, grid, dim3(128), 0, a);
  else launch_pdl(call, decode_combine<__half, D, R>, grid, dim3(128), 0, a);
  call->ran(call, "kivi_attention");
  return launched(call);
}

// More warps hide more latency, but take more memory; beyond 132 KiB the kernels around this one would need another division
// of the multiprocessor than it does. 8 bits at 128 channels are beyond it (147 KiB) with 8 warps; fewer were not tried. 16
// warps of 2 bits have too few registers.
template <int D, int KB, int VB>
int attend_rows(const accel_call* call, const KiviArguments& a, int packed) {
  constexpr int most = KB <= 4 ? 12 : 8;
  if (a.places.header != 0) return run<D, KB, VB, 1, most, true>(call, a, packed);
  if (packed <= 8 && fits<D, KB, VB, 1, most, false>(call->device.index)) {
    return run<D, KB, VB, 1, most, false>(call, a, packed);
  }
  return run<D, KB, VB, 2, 8, false>(call, a, packed);
}

template <int KB, int VB>
int attend_bits(const accel_call* call, const KiviArguments& a, int packed) {
  return a.layout.head_dim == 64 ? attend_rows<64, KB, VB>(call, a, packed) : attend_rows<128, KB, VB>(call, a, packed);
}

}  // namespace accel_kivi
#endif
