// The score product with mma.sync (xattention_score.cuh).
//
// A block of four warps makes a tile of 128 x 128; a warp has 32 rows, in two fragments that share what is loaded of
// the keys. Depth runs in steps of 64 channels, double buffered with cp.async; rows of 128 bytes are swizzled
// (accel/mma.cuh).
#include "xattention_score.cuh"

namespace accel_xattention {
namespace {

using namespace accel::cuda;

constexpr int kThreads = 128;
constexpr int kPanel = 128 * 128;  // bytes of 128 rows x 64 elements

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) score_tiles_sm80(const Score p, int group_items) {
  extern __shared__ __align__(128) uint8_t memory[];  // [2 stages][queries, keys]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Item item = item_of(p, blockIdx.x, group_items, 1);
  const int steps = p.stride * (D / 64);
  const int64_t key_rows = static_cast<int64_t>(p.tiles) * kTile;
  const T* q = static_cast<const T*>(p.q) +
               (static_cast<int64_t>(item.head) * p.stride * p.slab_rows + item.row_tile * kTile) * D;
  const T* k = static_cast<const T*>(p.k) +
               (item.kv_head * p.stride * key_rows + static_cast<int64_t>(item.column_tile) * kTile) * D;
  const uint32_t shared = shared_address(memory);

  const auto load = [&](int step) {
    const int slice = step / (D / 64), channel = step % (D / 64) * 64;
    const T* from_q = q + static_cast<int64_t>(slice) * p.slab_rows * D + channel;
    const T* from_k = k + slice * key_rows * D + channel;
    const uint32_t to = shared + step % 2 * 2 * kPanel;
#pragma unroll
    for (int i = 0; i < 128 * 8 / kThreads; i++) {
      const int chunk = threadIdx.x + i * kThreads, row = chunk / 8, column = chunk % 8;
      const uint32_t place = swizzle<8>(row, column);
      cp_async16(to + place, from_q + row * D + column * 8);
      cp_async16(to + kPanel + place, from_k + row * D + column * 8);
    }
    cp_async_commit();
  };

  float sum[2][64];
#pragma unroll
  for (int i = 0; i < 64; i++) sum[0][i] = sum[1][i] = 0;
  load(0);
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    if (step + 1 < steps) {
      load(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    const uint32_t queries = shared + step % 2 * 2 * kPanel, keys = queries + kPanel;
#pragma unroll
    for (int c = 0; c < 4; c++) {
      uint32_t a[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        ldmatrix_x4(a[i], queries + swizzle<8>(warp * 32 + i * 16 + lane % 16, 2 * c + lane / 16));
      }
#pragma unroll
      for (int n = 0; n < 8; n++) {
        uint32_t b[4];
        ldmatrix_x4(b, keys + swizzle<8>(n * 16 + lane % 8 + lane / 16 * 8, 2 * c + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float (*at)[4] = reinterpret_cast<float (*)[4]>(sum[i]);
          mma_m16n8k16<T>(at[2 * n], a[i], b[0], b[1]);
          mma_m16n8k16<T>(at[2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    finish_tile(p, sum[i], item.head, item.row_tile * kTile + warp * 32 + i * 16 + lane / 4, item.column_tile, lane);
  }
}

template <class T, int D>
int launch(const accel_call* call, const Score& p) {
  const auto kernel = score_tiles_sm80<T, D>;
  const int group_items = p.group_items(1), items = group_items * (p.heads / p.group);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 4 * kPanel);
  kernel<<<items, kThreads, 4 * kPanel, stream_of(call)>>>(p, group_items);
  return launched(call);
}

}  // namespace

int score_sm80(const accel_call* call, const Score& p, bool bfloat) {
  if (bfloat) return p.head_dim == 128 ? launch<__nv_bfloat16, 128>(call, p) : launch<__nv_bfloat16, 64>(call, p);
  return p.head_dim == 128 ? launch<__half, 128>(call, p) : launch<__half, 64>(call, p);
}

}  // namespace accel_xattention
