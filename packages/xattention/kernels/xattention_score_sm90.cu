// The score product for Hopper: TMA, wgmma and warp specialisation (xattention_score.cuh).
//
// A block of threads has a producer warp and two consumer warpgroups, and stays on its multiprocessor: it makes every
// gridDim-th item, 128 rows x 256 columns, of which a warpgroup has 64 rows. An item of 256 columns reads 3/4 of what
// two of 128 read from L2, which would not keep up otherwise. Depth runs in steps of 64 channels through a ring of four
// stages,
//
//   queries [128][64] and keys [256][64], 48 KB
//
// in the order of the ring whatever the item, so the next item is being loaded while one is finished. Both sides go
// through the same numbers of items; nothing is handed over but the stages. A product of a step waits for nothing but
// its stage: the one before may still run, and its stage is released when the next one has been started.
#include "accel/tma.cuh"
#include "accel/wgmma.cuh"
#include "xattention_score.cuh"

namespace accel_xattention {
namespace {

using namespace accel::cuda;

constexpr int kGroups = 2, kThreads = 128 * (1 + kGroups);
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;  // 128 * 24 + 256 * 240 <= 65536
constexpr int kStages = 4;
constexpr int kWidth = 2;  // column tiles of an item
constexpr int kColumns = kWidth * kTile;
constexpr int kQueryBytes = kTile * 128, kKeyBytes = kColumns * 128;

struct Shared {
  alignas(1024) uint8_t q[kStages][kQueryBytes];
  alignas(1024) uint8_t k[kStages][kKeyBytes];
  uint64_t full[kStages], empty[kStages];

  __device__ void initialise() {
    // One producer thread fills; every consumer warp says for itself when it is done.
    for (int i = 0; i < kStages; i++) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, 4 * kGroups);
    }
    mbarrier_init_fence();
  }
};

struct Work {
  int group_items, items;
  int panels;  // of 64 channels in a head
};

// One thread.
__device__ void produce(const Score& p, const Work& w, Shared& shared, const CUtensorMap* queries,
                        const CUtensorMap* keys) {
  const uint64_t keep = keep_in_l2();
  RingPosition<kStages> ring;
  for (int number = blockIdx.x; number < w.items; number += gridDim.x) {
    const Item item = item_of(p, number, w.group_items, kWidth);
    for (int slice = 0; slice < p.stride; slice++) {
      for (int panel = 0; panel < w.panels; panel++, ring.use++) {
        const int s = ring.stage();
        mbarrier_wait(shared.empty + s, ring.parity() ^ 1);
        mbarrier_arrive_expect(shared.full + s, kQueryBytes + kKeyBytes);
        tma_load(shared.q[s], queries, shared.full + s, panel * 64, item.row_tile * kTile, item.head * p.stride + slice,
                 keep);
        tma_load(shared.k[s], keys, shared.full + s, panel * 64, item.column_tile * kTile,
                 item.kv_head * p.stride + slice, keep);
      }
    }
  }
}

template <class T>
__device__ void consume(const Score& p, const Work& w, Shared& shared, int group) {
  const int lane = threadIdx.x % 32;
  const int first_row = group * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;  // in the tile; the other one is + 8
  const int steps = p.stride * w.panels;
  RingPosition<kStages> ring;
  float left[64], right[64];  // columns from 0 and from 128 on
#pragma unroll 1
  for (int number = blockIdx.x; number < w.items; number += gridDim.x) {
#pragma unroll 1
    for (int step = 0; step < steps; step++, ring.use++) {
      const int s = ring.stage();
      mbarrier_wait(shared.full + s, ring.parity());
      const uint64_t a = k_major_descriptor(shared_address(shared.q[s]) + group * 64 * 128);
      const uint64_t b = k_major_descriptor(shared_address(shared.k[s]));
      wgmma_fence();
#pragma unroll
      for (int c = 0; c < 4; c++) {
        const int accumulate = step > 0 || c > 0;
        wgmma_shared<T>(left, a + c * 2, b + c * 2, accumulate);
        wgmma_shared<T>(right, a + c * 2, b + c * 2 + kTile * 128 / 16, accumulate);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (step > 0 && lane == 0) mbarrier_arrive(shared.empty + (ring.use - 1) % kStages);
    }
    wgmma_wait<0>();
    pin(left);
    pin(right);
    if (lane == 0) mbarrier_arrive(shared.empty + (ring.use - 1) % kStages);

    const Item item = item_of(p, number, w.group_items, kWidth);
    const int row = item.row_tile * kTile + first_row, second = item.column_tile + 1;
    finish_tile(p, left, item.head, row, item.column_tile, lane);
    if (second < p.tiles && second * kTile <= p.last_row(item.row_tile)) {
      finish_tile(p, right, item.head, row, second, lane);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    score_tiles_sm90(const Score p, const Work w, const __grid_constant__ CUtensorMap queries,
                     const __grid_constant__ CUtensorMap keys) {
  extern __shared__ __align__(1024) uint8_t memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);  // the compiler sees that it is the warp's
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&queries);
    prefetch_tensor_map(&keys);
    shared.initialise();
  }
  __syncthreads();
  if (warpgroup == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce(p, w, shared, &queries, &keys);
  } else {
    take_registers<kConsumerRegisters>();
    consume<T>(p, w, shared, warpgroup - 1);
  }
}

template <class T>
int launch(const accel_call* call, const Score& p, const CUtensorMap& queries, const CUtensorMap& keys) {
  const auto kernel = score_tiles_sm90<T>;
  Work w;
  w.group_items = p.group_items(kWidth);
  w.items = w.group_items * (p.heads / p.group);
  w.panels = p.head_dim / 64;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
  const int grid = w.items < call->multiprocessors ? w.items : call->multiprocessors;
  kernel<<<grid, kThreads, sizeof(Shared), stream_of(call)>>>(p, w, queries, keys);
  return launched(call);
}

// [matrices][rows][channels], boxes of 64 channels and `box` rows; rows behind the last of a matrix read as zeros.
CUresult make_map(CUtensorMap* map, bool bfloat, const void* data, int64_t matrices, int64_t rows, int64_t channels,
                  int box) {
  const uint64_t row = static_cast<uint64_t>(channels) * 2;
  const TensorShape shape = {
      const_cast<void*>(data),
      {static_cast<uint64_t>(channels), static_cast<uint64_t>(rows), static_cast<uint64_t>(matrices)},
      {row, row * static_cast<uint64_t>(rows)},
      {static_cast<uint32_t>(box), 1}};
  return make_tensor_map(map, bfloat ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, shape);
}

}  // namespace

bool sm90_available() { return tensor_map_encode() != nullptr; }

int score_sm90(const accel_call* call, const Score& p, bool bfloat) {
  CUtensorMap queries, keys;
  CUresult result =
      make_map(&queries, bfloat, p.q, static_cast<int64_t>(p.heads) * p.stride, p.slab_rows, p.head_dim, kTile);
  if (result == CUDA_SUCCESS) {
    result = make_map(&keys, bfloat, p.k, static_cast<int64_t>(p.heads / p.group) * p.stride,
                      static_cast<int64_t>(p.tiles) * kTile, p.head_dim, kColumns);
  }
  if (result != CUDA_SUCCESS) {
    return call->fail(call, "ERR_ACCEL_INTERNAL", "cuTensorMapEncodeTiled failed with %d", static_cast<int>(result));
  }
  return bfloat ? launch<__nv_bfloat16>(call, p, queries, keys) : launch<__half>(call, p, queries, keys);
}

}  // namespace accel_xattention
