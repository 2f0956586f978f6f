// Column sums for Hopper: the producer warp. It fills the ring with queries (TMA) and with the shifts of their logits.
#ifndef ACCEL_CUDA_SIGNALS_SM90_PRODUCER_CUH
#define ACCEL_CUDA_SIGNALS_SM90_PRODUCER_CUH

#include "accel/tma.cuh"
#include "cuda/ops/signals_sm90_work.cuh"

namespace accel::cuda::columns {

template <int D>
__device__ void produce(const Columns& p, const Steps& steps, Shared<D>& shared, const CUtensorMap* queries) {
  const int lane = threadIdx.x % 32;
  const uint64_t keep = keep_in_l2();
  RingPosition<Shared<D>::kStages> ring;
  int tile = steps.first_tile, head = steps.first_head;

  // A query that is not there, or that sees nothing, adds 2^-inf. The lse of a step are fetched during the one before.
  float lse[kQueries / 32];
  const auto fetch = [&] {
#pragma unroll
    for (int i = 0; i < kQueries / 32; i++) {
      const int query = tile * kQueries + i * 32 + lane;
      lse[i] = query < p.queries ? p.lse[static_cast<int64_t>(query) * p.query_heads + head] : INFINITY;
    }
  };
  fetch();
  for (int step = 0; step < steps.count; step++, ring.use++) {
    const int stage = ring.stage(), this_head = head, this_query = tile * kQueries;
    mbarrier_wait(shared.empty + stage, ring.parity() ^ 1);
#pragma unroll
    for (int i = 0; i < kQueries / 32; i++) {
      shared.shift[stage][place(i * 32 + lane)] = lse[i] == -INFINITY ? -INFINITY : lse[i] * -log2e;
    }
    __syncwarp();
    if (lane == 0) {
      uint64_t* full = shared.full + stage;
      mbarrier_arrive_expect(full, Shared<D>::kTileBytes);
#pragma unroll
      for (int i = 0; i < D / 64; i++) {
        tma_load(shared.q[stage] + i * Shared<D>::kPanel, queries, full, i * 64, this_head, this_query, keep);
      }
    }
    tile = steps.next(tile);
    if (tile == steps.first_tile) head++;
    if (step + 1 < steps.count) fetch();
  }
}

}  // namespace accel::cuda::columns
#endif
