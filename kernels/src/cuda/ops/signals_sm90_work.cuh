// Column sums for Hopper: the shape of a block's work and what its warps share.
//
// A block owns 256 keys of one kv head; they stay in the registers of its two consumer warpgroups for as long as it
// lives. It visits every tile of 128 queries that sees any of them, for one query head of the group after the other:
// steps. Queries come through a ring of stages, with what their logits are to be shifted by.
#ifndef ACCEL_CUDA_SIGNALS_SM90_WORK_CUH
#define ACCEL_CUDA_SIGNALS_SM90_WORK_CUH

#include "accel/mbarrier.cuh"
#include "cuda/ops/columns.cuh"

namespace accel::cuda::columns {

constexpr int kQueries = 128;          // of a tile
constexpr int kGroups = 2;             // consumer warpgroups
constexpr int kUnits = 2;              // of 64 keys a warpgroup
constexpr int kThreads = 128 * (1 + kGroups);
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;  // 128 * 24 + 256 * 240 <= 65536
static_assert(sm90_keys == 64 * kUnits * kGroups);

template <int D>
struct Shared {
  static constexpr int kStages = D == 64 ? 8 : 4;
  static constexpr int kPanel = kQueries * 128;       // bytes of 128 queries x 64 elements
  static constexpr int kTileBytes = kPanel * (D / 64);

  alignas(1024) uint8_t q[kStages][kTileBytes];
  alignas(16) float shift[kStages][kQueries];         // -lse log2(e), at place(query)
  uint64_t full[kStages], empty[kStages];
  uint32_t never_written;

  __device__ void initialise() {
    // One producer thread fills; every consumer warp says for itself when it is done.
    for (int i = 0; i < kStages; i++) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, 4 * kGroups);
    }
    mbarrier_init_fence();
  }
};

// In an accumulator, lane l has of each 8 queries the two from 2 (l % 4) on. Their shifts stand so that one 16-byte
// load gives a lane what it needs for 16 queries.
__device__ inline int place(int query) {
  return query / 16 * 16 + query % 8 / 2 * 4 + query / 8 % 2 * 2 + query % 2;
}

// The steps of this block.
struct Steps {
  int rows;              // of the cache
  int first_key, end;    // columns
  int first_head;
  int last;              // query i sees keys up to last + i
  int first_tile, tiles;
  int count;             // 0: no such columns
  __device__ explicit Steps(const Columns& p) {
    rows = p.rows();
    first_key = p.begin + static_cast<int>(blockIdx.y) * sm90_keys;
    end = min(p.end, rows);
    first_head = static_cast<int>(blockIdx.x) * p.block_heads;
    last = rows - p.queries;
    first_tile = max(0, first_key - last) / kQueries;
    tiles = (p.queries + kQueries - 1) / kQueries;
    count = first_key < end ? (tiles - first_tile) * p.block_heads : 0;
  }
  // The tile after this one; the next head starts at the first one again.
  __device__ int next(int tile) const { return tile + 1 == tiles ? first_tile : tile + 1; }
};

}  // namespace accel::cuda::columns
#endif
